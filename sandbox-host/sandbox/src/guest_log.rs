//! Log lines of a handler: limited in number and length, and escaped. Lines beyond the limits are
//! counted. A guest chooses its lines, so they must not look like the host's own or control a
//! terminal.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use tensorgate_policy::values::safe_text::{escaped, prefix};

use crate::fixed_limits::{MAX_LOG_BYTES, MAX_LOG_LINE_BYTES, MAX_LOG_LINES, MAX_QUOTED_LINES};
use crate::log_quota::LogQuota;

/// The lines of a run, within the limits of a call and beyond them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LineCounts {
    pub(super) within: u32,
    pub(super) beyond: u64,
}

/// The log of one call.
#[derive(Debug, Default)]
pub(super) struct GuestLog {
    /// What all calls of the handler may write.
    quota: Arc<LogQuota>,
    lines: LineCounts,
    bytes: usize,
    /// The lines of an earlier run of the same call, which this run repeats first.
    earlier: LineCounts,
    /// The last message at the level of errors.
    last_error: Option<String>,
    /// The last lines of stderr.
    stderr: VecDeque<String>,
}

/// What becomes of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GuestLine {
    /// It is logged in this form.
    Logged(String),
    /// It is dropped, and the host's log says so.
    DropNoted,
    /// It is dropped and counted, or was logged before.
    Silent,
}

impl GuestLog {
    /// The log of a call whose earlier run has written these lines.
    pub(super) fn resume_after(earlier: LineCounts, quota: Arc<LogQuota>) -> Self {
        Self {
            quota,
            earlier,
            ..Self::default()
        }
    }

    /// The lines so far.
    pub(super) const fn lines(&self) -> LineCounts {
        self.lines
    }

    /// Decides about a line. `message` is the [`longest`] part of a message of `message_bytes`.
    pub(super) fn accept(
        &mut self,
        message: &str,
        message_bytes: usize,
        now: Instant,
    ) -> GuestLine {
        let line = longest(message);
        let bytes = self.bytes.saturating_add(line.len());
        let is_beyond = self.lines.within >= MAX_LOG_LINES || bytes > MAX_LOG_BYTES;
        let is_repeated = if is_beyond {
            self.lines.beyond = self.lines.beyond.saturating_add(1);
            self.lines.beyond <= self.earlier.beyond
        } else {
            self.lines.within = self.lines.within.saturating_add(1);
            self.bytes = bytes;
            self.lines.within <= self.earlier.within
        };
        if is_repeated {
            return GuestLine::Silent;
        }
        if is_beyond || !self.quota.admits(line.len(), now) {
            return if self.quota.drop_line(now) {
                GuestLine::DropNoted
            } else {
                GuestLine::Silent
            };
        }
        let mut logged = escaped(line);
        if line.len() < message_bytes {
            // Writing to a string cannot fail.
            let _ = write!(logged, " … (cut from {message_bytes} bytes)");
        }
        GuestLine::Logged(logged)
    }

    /// Keeps the [`longest`] part of an error message for the fault that may follow it. A handler
    /// logs a panic this way.
    pub(super) fn keep_error(&mut self, message: &str) {
        self.last_error = Some(longest(message).to_owned());
    }

    /// Keeps a line of stderr for the fault that may follow it.
    pub(super) fn keep_stderr(&mut self, line: &str) {
        if self.stderr.len() >= MAX_QUOTED_LINES {
            self.stderr.pop_front();
        }
        self.stderr.push_back(longest(line).to_owned());
    }

    /// The last error message, or else the last lines of stderr. Not escaped.
    pub(super) fn last_error(&self) -> Option<String> {
        let stderr = || {
            let lines: Vec<_> = self.stderr.iter().map(String::as_str).collect();
            (!lines.is_empty()).then(|| lines.join("\n"))
        };
        self.last_error.clone().or_else(stderr)
    }
}

/// The part of a message that fits in a line.
pub(super) fn longest(message: &str) -> &str {
    prefix(message, MAX_LOG_LINE_BYTES)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;

    fn accept(logbook: &mut GuestLog, message: &str) -> Option<String> {
        match logbook.accept(longest(message), message.len(), Instant::now()) {
            GuestLine::Logged(line) => Some(line),
            GuestLine::DropNoted | GuestLine::Silent => None,
        }
    }

    #[test]
    fn calls_of_a_handler_share_its_quota_and_drop_what_is_beyond() {
        let quota = Arc::new(LogQuota::default());
        let now = Instant::now();
        let (mut written, mut noted) = (0, 0);
        for _ in 0..50 {
            let mut logbook = GuestLog::resume_after(LineCounts::default(), Arc::clone(&quota));
            for _ in 0..MAX_LOG_LINES {
                match logbook.accept("x", 1, now) {
                    GuestLine::Logged(_) => written += 1,
                    GuestLine::DropNoted => noted += 1,
                    GuestLine::Silent => {}
                }
            }
        }
        assert_eq!((written, noted, quota.take_dropped()), (1_000, 1, 4_000));
    }

    #[test]
    fn a_line_cannot_pose_as_another() {
        for (message, expected) in [
            ("plain: ünïcödé 数", "plain: ünïcödé 数"),
            ("a\nERROR forged", "a\\nERROR forged"),
            ("\u{1b}[2Jgone", "\\u{1b}[2Jgone"),
            ("\u{202e}drawkcab", "\\u{202e}drawkcab"),
            ("a\u{2028}b\0", "a\\u{2028}b\\u{0}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{200b}\u{e0041}", "a\\u{200b}\\u{e0041}"),
        ] {
            assert_eq!(accept(&mut GuestLog::default(), message).unwrap(), expected);
        }
    }

    #[test]
    fn lines_that_an_earlier_run_has_written_are_not_written_again() {
        let earlier = LineCounts {
            within: 2,
            beyond: 0,
        };
        let mut logbook = GuestLog::resume_after(earlier, Arc::default());
        let written = ["a", "b", "c"].map(|line| accept(&mut logbook, line).is_some());
        assert_eq!(written, [false, false, true]);
        assert_eq!((logbook.lines().within, logbook.lines().beyond), (3, 0));
    }

    #[test]
    fn a_line_that_two_runs_drop_is_counted_once() {
        for used in [0, 1_000] {
            let quota = Arc::new(LogQuota::default());
            let now = Instant::now();
            assert!((0..used).all(|_| quota.admits(1, now)));
            let mut earlier = LineCounts::default();
            for lines in [MAX_LOG_LINES + 5, MAX_LOG_LINES + 7] {
                let mut logbook = GuestLog::resume_after(earlier, Arc::clone(&quota));
                for _ in 0..lines {
                    logbook.accept("x", 1, now);
                }
                earlier = logbook.lines();
            }
            // Where the handler's quota is used up, the lines within the call's limit, too.
            let beyond_quota = if used == 0 {
                0
            } else {
                u64::from(MAX_LOG_LINES)
            };
            assert_eq!(quota.take_dropped(), 7 + beyond_quota, "{used}");
        }
    }

    #[test]
    fn the_last_lines_of_stderr_explain_a_fault_that_logged_no_error() {
        let mut logbook = GuestLog::default();
        assert_eq!(logbook.last_error(), None);
        for line in ["a", "b", "c", "d"] {
            logbook.keep_stderr(line);
        }
        assert_eq!(logbook.last_error().unwrap(), "b\nc\nd");
        logbook.keep_error("logged");
        assert_eq!(logbook.last_error().unwrap(), "logged");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let line = accept(&mut GuestLog::default(), &"ü".repeat(MAX_LOG_LINE_BYTES)).unwrap();
        assert!(line.starts_with(&"ü".repeat(MAX_LOG_LINE_BYTES / 2)));
        assert!(line.ends_with("(cut from 8192 bytes)"), "{line}");
    }

    #[test]
    fn lines_past_the_bound_are_dropped_and_counted() {
        let mut logbook = GuestLog::default();
        let kept = (0..MAX_LOG_LINES + 5)
            .filter(|_| accept(&mut logbook, "x").is_some())
            .count();
        assert_eq!(
            (u32::try_from(kept).unwrap(), logbook.quota.take_dropped()),
            (MAX_LOG_LINES, 5)
        );

        let mut logbook = GuestLog::default();
        let long = "x".repeat(MAX_LOG_LINE_BYTES);
        let kept = (0..20)
            .filter(|_| accept(&mut logbook, &long).is_some())
            .count();
        assert_eq!(
            (kept, logbook.quota.take_dropped()),
            (MAX_LOG_BYTES / MAX_LOG_LINE_BYTES, 4)
        );
    }
}
