//! The time of rules: milliseconds by a clock that no one sets.

use std::time::Duration;

/// Milliseconds of a second.
const SECOND_MS: u64 = 1_000;
/// Seconds of an hour.
pub(crate) const HOUR_S: u64 = 3_600;
/// Seconds of a day.
pub(crate) const DAY_S: u64 = 86_400;
/// Hours of a day.
const DAY_HOURS: u64 = 24;

/// A time of rules. It begins with the time of day at the first start of the watch, in milliseconds
/// since 1970, so that it has hours of the day. From there a clock that no one sets moves it. After
/// a restart it goes on behind the last saved one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(u64);

impl Time {
    /// A time in milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// The time in milliseconds.
    pub(crate) const fn as_ms(self) -> u64 {
        self.0
    }

    /// A time in whole seconds.
    pub const fn from_s(seconds: u64) -> Self {
        Self(seconds.saturating_mul(SECOND_MS))
    }

    /// The time after this duration.
    pub(crate) fn after(self, passed: Duration) -> Self {
        let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(passed))
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

    /// The hour of the day, in UTC.
    pub(crate) fn hour_of_day(self) -> usize {
        let hour = self.window(HOUR_S).checked_rem(DAY_HOURS);
        usize::try_from(hour.unwrap_or_default()).unwrap_or_default()
    }

    /// When a window of this length starts.
    pub(crate) const fn of_window(number: u64, length_s: u64) -> Self {
        Self::from_s(number.saturating_mul(length_s))
    }
}
