//! Quotas for the log lines about callers without a valid credential, so that a flood of them
//! cannot fill the disk with the log.

use std::cell::Cell;

use tensorgate_policy::Now;

use crate::host::{Level, Proxy};

/// Length of a window, in seconds.
const WINDOW_S: u64 = 10;
/// Length of a window, in nanoseconds.
const WINDOW_NS: u64 = WINDOW_S * 1_000_000_000;
/// Lines of one kind that a worker writes in a window. One has about 400 bytes.
const MAX_LINES: u64 = 20;

/// The quotas of one worker and configuration.
#[derive(Debug, Default)]
pub(crate) struct LogQuotas {
    decisions: Cell<Window>,
    /// Rejections that the caller did not cause.
    faults: Cell<Window>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    start_ns: u64,
    /// Lines so far, those that were left out among them.
    lines: u64,
}

impl LogQuotas {
    /// Counts a line, and returns whether it may be written.
    pub(crate) fn admits(&self, proxy: &mut dyn Proxy, is_fault: bool) -> bool {
        // Without a clock, the window goes on.
        if let Ok(now) = proxy.now() {
            self.end_windows(proxy, now);
        }
        let quota = if is_fault {
            &self.faults
        } else {
            &self.decisions
        };
        let window = quota.get();
        let lines = window.lines.saturating_add(1);
        quota.set(Window { lines, ..window });
        lines <= MAX_LINES
    }

    /// Ends the windows that are over. One line counts those that were left out.
    pub(crate) fn end_windows(&self, proxy: &mut dyn Proxy, now: Now) {
        for (quota, event) in [
            (&self.decisions, "decisions-left-out"),
            (&self.faults, "faults-left-out"),
        ] {
            let window = quota.get();
            if now.monotonic_ns.saturating_sub(window.start_ns) < WINDOW_NS {
                continue;
            }
            quota.set(Window {
                start_ns: now.monotonic_ns,
                lines: 0,
            });
            let count = window.lines.saturating_sub(MAX_LINES);
            if count > 0 {
                let line =
                    format!(r#"{{"event":"{event}","count":{count},"window_s":{WINDOW_S}}}"#);
                proxy.log(Level::Warn, &line);
            }
        }
    }
}
