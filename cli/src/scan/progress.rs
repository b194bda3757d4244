//! The line on a terminal that says how far a scan is.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use tensorgate_cli_common::ui::printable;

/// How often the line changes at most.
pub const INTERVAL: Duration = Duration::from_millis(200);
/// The longest path in the line, characters, so that it does not wrap.
const MAX_PATH_CHARS: usize = 50;

/// The line, if standard error is a terminal.
#[derive(Debug)]
pub struct Progress {
    is_terminal: bool,
    is_shown: bool,
    started: Instant,
    last: Instant,
}

impl Progress {
    /// A scan that starts now.
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            is_terminal: std::io::stderr().is_terminal(),
            is_shown: false,
            started: now,
            last: now,
        }
    }

    /// Shows how many files are done, and the last of them.
    pub fn show(&mut self, files: u64, last: Option<&Path>) {
        if !self.is_terminal || self.last.elapsed() < INTERVAL {
            return;
        }
        self.last = Instant::now();
        self.is_shown = true;
        let path = last.map(|path| path.to_string_lossy().into_owned());
        let path = printable(&path.unwrap_or_default());
        let cut = path.chars().count().saturating_sub(MAX_PATH_CHARS);
        let path: String = path.chars().skip(cut).collect();
        let seconds = self.started.elapsed().as_secs();
        let text = format!("\r\u{1b}[2K{files} files scanned in {seconds} s, last {path}");
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// Removes the line, so that another can be printed.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            let _ = std::io::stderr().lock().write_all(b"\r\x1b[2K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
