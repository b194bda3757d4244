//! Meaning of SIGHUP.
//!
//! For a daemon it requests a reload; for a program in a terminal it reports that the terminal has
//! closed. After a hangup, the controlling terminal cannot be opened any more.

use std::fs::File;

/// Path of the controlling terminal.
const TERMINAL: &str = "/dev/tty";

/// Whether this process was started from a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    had: bool,
}

impl Terminal {
    /// Checks once, at start.
    pub fn at_start() -> Self {
        Self { had: is_there() }
    }

    /// Whether there was a terminal that is now closed.
    pub fn is_gone(self) -> bool {
        self.had && !is_there()
    }
}

fn is_there() -> bool {
    File::open(TERMINAL).is_ok()
}
