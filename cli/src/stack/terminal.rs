//! What SIGHUP means. A daemon is told to read its configuration again; a program in a terminal is told that the terminal is
//! gone. The kernel says which: the controlling terminal can no longer be opened once it has hung up.

use std::fs::File;

/// The controlling terminal's name, whatever it is.
const TERMINAL: &str = "/dev/tty";

/// Whether this process was started from a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    had: bool,
}

impl Terminal {
    /// Looks once, at the start.
    pub fn at_start() -> Self {
        Self { had: is_there() }
    }

    /// Whether there was one, and it is gone.
    pub fn is_gone(self) -> bool {
        self.had && !is_there()
    }
}

fn is_there() -> bool {
    File::open(TERMINAL).is_ok()
}
