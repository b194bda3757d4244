//! The log lines that a handler may write in a time, over all its calls. Each call has limits of
//! its own, but many calls of a chatty handler would fill the host's log, whose queue is limited,
//! and displace the lines of others. Time is an argument.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The most lines of a handler in a window. The host's log queues four times as many.
pub(super) const QUOTA_LINES: u32 = 1_000;
/// The most bytes of a handler's lines in a window, before escaping.
const QUOTA_BYTES: usize = 1 << 20;
/// The time for which the quota holds.
pub(super) const QUOTA_WINDOW: Duration = Duration::from_secs(10);

/// The quota of one handler.
#[derive(Debug, Default)]
pub(super) struct LogQuota {
    window: Mutex<Window>,
    /// The lines beyond the limits that were not yet taken.
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    lines: u32,
    bytes: usize,
    /// Whether the host's log says that lines of this window were dropped.
    is_drop_logged: bool,
}

impl LogQuota {
    /// Whether a line may be written.
    pub(super) fn admits(&self, bytes: usize, now: Instant) -> bool {
        let mut window = self.window(now);
        let bytes = window.bytes.saturating_add(bytes);
        if window.lines >= QUOTA_LINES || bytes > QUOTA_BYTES {
            return false;
        }
        window.lines = window.lines.saturating_add(1);
        window.bytes = bytes;
        true
    }

    /// Counts a line beyond the limits at once, so that no end of a call loses it. Returns whether
    /// to log that lines were dropped: once in a window, or the notes themselves would fill the
    /// log.
    pub(super) fn drop_line(&self, now: Instant) -> bool {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        !std::mem::replace(&mut self.window(now).is_drop_logged, true)
    }

    /// The lines beyond the limits since the last time.
    pub(super) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// The window at this time.
    fn window(&self, now: Instant) -> MutexGuard<'_, Window> {
        // No code panics while it holds this lock.
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |began| now.saturating_duration_since(began) >= QUOTA_WINDOW;
        if window.began.is_none_or(is_over) {
            *window = Window {
                began: Some(now),
                ..Window::default()
            };
        }
        window
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_chatty_handler_has_its_lines_of_a_window_and_one_note_of_the_rest() {
        let quota = LogQuota::default();
        let start = Instant::now();
        for window in 0..3 {
            let now = start + QUOTA_WINDOW * window;
            let written = (0..5 * QUOTA_LINES).filter(|_| quota.admits(10, now));
            assert_eq!(written.count(), 1_000, "{window}");
            let notes = (0..100).filter(|_| quota.drop_line(now));
            assert_eq!(notes.count(), 1, "{window}");
            assert_eq!((quota.take_dropped(), quota.take_dropped()), (100, 0));
        }
        // Another handler has its own.
        assert!(LogQuota::default().admits(10, start));
        // Long lines use it up earlier.
        let long = LogQuota::default();
        let written = (0..QUOTA_LINES).filter(|_| long.admits(4 << 10, start));
        assert_eq!(written.count(), 256);
    }
}
