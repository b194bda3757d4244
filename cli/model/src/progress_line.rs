//! The line on a terminal that says how far a verb is.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::text::shown;

/// How often the line changes at most.
pub const INTERVAL: Duration = Duration::from_millis(200);
/// The longest path in the line, characters, so that it does not wrap.
const MAX_PATH_CHARS: usize = 50;

/// The line, if standard error is a terminal.
#[derive(Debug)]
pub struct ProgressLine {
    is_terminal: bool,
    is_shown: bool,
    started: Instant,
    last: Instant,
}

impl ProgressLine {
    /// The line of work that starts now.
    pub fn new() -> Self {
        let now = Instant::now();
        Self {
            is_terminal: std::io::stderr().is_terminal(),
            is_shown: false,
            started: now,
            last: now,
        }
    }

    /// Shows a text, which gets the seconds since the start.
    pub fn show(&mut self, text: impl FnOnce(u64) -> String) {
        if !self.is_terminal || self.last.elapsed() < INTERVAL {
            return;
        }
        self.last = Instant::now();
        self.is_shown = true;
        let text = text(self.started.elapsed().as_secs());
        let text = format!("\r\u{1b}[2K{text}");
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// Shows how many files are scanned, and which one was the last.
    pub fn show_scanned(&mut self, files: usize, last: &Path) {
        self.show(|seconds| {
            let last = short(last);
            format!("{files} files scanned in {seconds} s, last {last}")
        });
    }

    /// Removes the line, so that another can be printed.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            let _ = std::io::stderr().lock().write_all(b"\r\x1b[2K");
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The end of a path, as the line shows it.
fn short(path: &Path) -> String {
    let path = shown(path);
    let cut = path.chars().count().saturating_sub(MAX_PATH_CHARS);
    path.chars().skip(cut).collect()
}
