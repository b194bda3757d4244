//! The time of rules: milliseconds since the watch started, of a clock that no one sets.

use std::time::Duration;

/// Milliseconds of a second.
const SECOND_MS: u64 = 1_000;

/// A time since the watch started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(u64);

impl Time {
    /// A time in milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// A time in whole seconds.
    pub const fn from_s(seconds: u64) -> Self {
        Self(seconds.saturating_mul(SECOND_MS))
    }

    /// The time that has passed since the watch started.
    pub(crate) fn since_start(elapsed: Duration) -> Self {
        Self(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// The time since an earlier one, or zero.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The number of the window of this length that the time is in.
    pub fn window(self, length_s: u64) -> u64 {
        let length_ms = length_s.saturating_mul(SECOND_MS);
        self.0.checked_div(length_ms).unwrap_or_default()
    }

    /// When a window of this length starts.
    pub(crate) const fn of_window(number: u64, length_s: u64) -> Self {
        Self::from_s(number.saturating_mul(length_s))
    }
}
