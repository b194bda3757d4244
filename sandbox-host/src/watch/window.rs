//! Windows of fixed length, how many in a row were abnormal, and when an alert may be repeated.

use std::time::Duration;

use super::time::Time;

/// An alert about the same subject is repeated after this time at the earliest.
const REPEAT: Duration = Duration::from_secs(3_600);

/// Counters of the current window.
#[derive(Debug, Default)]
pub(super) struct Windows<C> {
    /// The number of the window. Absent before the first observation.
    number: Option<u64>,
    /// Its counters.
    pub(super) counts: C,
}

/// A window that is over.
pub(super) struct Closed<C> {
    pub(super) number: u64,
    pub(super) counts: C,
}

impl<C: Default> Windows<C> {
    /// Moves to the window of a time. Returns the last window with observations, if it is over.
    pub(super) fn advance(&mut self, now: Time, length_s: u64) -> Option<Closed<C>> {
        let number = now.window(length_s);
        let last = self.number.replace(number).filter(|last| *last != number)?;
        Some(Closed {
            number: last,
            counts: std::mem::take(&mut self.counts),
        })
    }
}

/// Abnormal windows in a row.
#[derive(Debug, Default)]
pub(super) struct Streak {
    /// The first and the last of them.
    windows: Option<(u64, u64)>,
    repeats: Repeats,
}

impl Streak {
    /// Whether the last window was abnormal.
    pub(super) const fn is_open(&self) -> bool {
        self.windows.is_some()
    }

    /// Ends the streak with a normal window.
    pub(super) const fn end(&mut self) {
        self.windows = None;
    }

    /// Adds an abnormal window. Returns the first window of the streak if it has the needed length
    /// and an alert is due.
    pub(super) fn extend(&mut self, number: u64, needed: u64, now: Time) -> Option<u64> {
        let first = match self.windows {
            Some((first, last)) if last.saturating_add(1) == number => first,
            _ => number,
        };
        self.windows = Some((first, number));
        let is_long = number.saturating_sub(first).saturating_add(1) >= needed;
        (is_long && self.repeats.permit(now)).then_some(first)
    }
}

/// When an alert about a subject was last raised.
#[derive(Debug, Default)]
pub(super) struct Repeats(Option<Time>);

impl Repeats {
    /// Whether an alert may be raised now. If so, the next one has to wait.
    pub(super) fn permit(&mut self, now: Time) -> bool {
        let is_due = self.0.is_none_or(|last| now.since(last) >= REPEAT);
        if is_due {
            self.0 = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_closes_with_the_first_observation_after_it() {
        let mut windows = Windows::<u32>::default();
        let mut closed = |s| {
            let closed = windows.advance(Time::from_s(s), 60);
            windows.counts = windows.counts.saturating_add(1);
            closed.map(|closed| (closed.number, closed.counts))
        };
        let seen = [59, 60, 61, 200, 201].map(&mut closed);
        assert_eq!(seen, [None, Some((0, 1)), None, Some((1, 2)), None]);
    }

    #[test]
    fn only_windows_in_a_row_make_an_alert_and_it_is_repeated_after_an_hour() {
        let mut streak = Streak::default();
        let mut extend = |number: u64| streak.extend(number, 3, Time::of_window(number, 60));
        assert_eq!([5, 6, 8, 9].map(&mut extend), [None; 4]);
        assert_eq!(extend(10), Some(8));
        assert_eq!(extend(11), None);
        assert_eq!([68, 69].map(&mut extend), [None; 2], "a gap of windows");
        assert_eq!(extend(70), Some(68));
        streak.end();
        assert_eq!(streak.extend(71, 3, Time::from_s(1_000_000)), None);
    }
}
