//! The log lines that a handler wrote in a call of this program, and how many were dropped.
//!
//! The sandbox emits a handler's lines as tracing events, as in the host. A collector keeps them
//! for the verb that made the call. The sandbox limits lines per call and per time, so the
//! collector needs no limit of its own.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use tensorgate_cli_common::ui::printable;
use tensorgate_sandbox::LoadedHandler;

use crate::log_line::{LineSubscriber, LogLine};

/// Lines since the last [`CaseLog::take`]. Handlers run on threads of the sandbox.
static LINES: Mutex<Vec<LogLine>> = Mutex::new(Vec::new());

/// The log of one or more calls.
#[derive(Debug, Default)]
pub struct CaseLog {
    /// Lines in the order in which they were written.
    pub lines: Vec<LogLine>,
    /// Number of further lines that exceeded the handler's quota.
    pub dropped: u64,
}

impl CaseLog {
    /// Takes the lines since the last time. The calls of `handler` are over.
    pub fn take(handler: &LoadedHandler) -> Self {
        Self {
            lines: std::mem::take(&mut *lines()),
            dropped: handler.take_dropped_log_lines(),
        }
    }

    /// The log as text, one item per line of output.
    pub fn text(&self) -> Vec<String> {
        let line = |line: &LogLine| {
            let LogLine {
                level,
                handler,
                request_id,
                message,
            } = line;
            let level = level.to_uppercase();
            printable(&format!("{level:5} {handler} {request_id}: {message}"))
        };
        let mut text: Vec<String> = self.lines.iter().map(line).collect();
        text.extend(dropped_text(self.dropped));
        text
    }
}

/// The number of further lines, if there are any.
pub fn dropped_text(dropped: u64) -> Option<String> {
    (dropped > 0).then(|| format!("{dropped} more log lines exceeded the quota"))
}

/// Collects handlers' lines from now on, of every sandbox of this program.
pub fn collect() {
    static COLLECTING: Once = Once::new();
    COLLECTING.call_once(|| {
        // Fails only if there is another subscriber. This program has none.
        let _ = tracing::subscriber::set_global_default(collector());
    });
}

fn lines() -> MutexGuard<'static, Vec<LogLine>> {
    // No code panics while it holds this lock.
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the lines of handlers.
fn collector() -> LineSubscriber<impl Fn(LogLine)> {
    LineSubscriber {
        others: None,
        write: |line| lines().push(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_level_handler_and_request_and_dropped_lines_are_counted() {
        tracing::subscriber::with_default(collector(), || {
            let (handler, request_id) = ("scale", "r1");
            tracing::warn!(target: "tensorgate::handler", handler, request_id, "{}", "wide");
            tracing::warn!(target: "tensorgate::handler::fault", handler, request_id, "other");
            tracing::warn!(handler, request_id, "the host's");
        });
        let log = CaseLog {
            lines: std::mem::take(&mut *lines()),
            dropped: 3,
        };
        let expected = [
            "WARN  scale r1: wide",
            "3 more log lines exceeded the quota",
        ];
        assert_eq!(log.text(), expected);
    }
}
