//! Windows of fixed length, how many of the last ones were abnormal, and when an alert may be
//! repeated.

use std::time::Duration;

use crate::time::Time;

/// An alert about the same subject is repeated after this time at the earliest.
pub(super) const REPEAT: Duration = Duration::from_secs(3_600);

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

    /// The counters of the window with this number, if it is the current one.
    pub(super) fn of_window(&self, number: u64) -> Option<&C> {
        (self.number == Some(number)).then_some(&self.counts)
    }
}

/// How many abnormal windows make an alert, and among how many of the last ones. They need not be
/// in a row. Otherwise an attack with pauses would raise no alert.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needed {
    pub(super) abnormal: u32,
    /// At most eight.
    pub(super) of_last: u32,
}

/// Which of the last windows of a subject were abnormal.
#[derive(Debug, Default)]
pub(super) struct AbnormalWindows {
    /// The number of the last judged window.
    last: Option<u64>,
    /// A bit for each of the last windows, the lowest for the last one. A window that was not
    /// judged was not abnormal.
    bits: u8,
    repeats: Repeats,
}

impl AbnormalWindows {
    /// Whether the last judged window was abnormal.
    pub(super) const fn is_last_abnormal(&self) -> bool {
        self.bits & 1 != 0
    }

    /// Adds a judged window. Returns the first of the abnormal windows if they are enough and an
    /// alert is due.
    pub(super) fn add(
        &mut self,
        number: u64,
        is_abnormal: bool,
        needed: Needed,
        now: Time,
    ) -> Option<u64> {
        let first = self.first_of_enough(number, is_abnormal, needed)?;
        self.repeats.permit(now).then_some(first)
    }

    /// Adds a judged window. Returns the first of the abnormal windows if they are enough.
    pub(super) fn first_of_enough(
        &mut self,
        number: u64,
        is_abnormal: bool,
        needed: Needed,
    ) -> Option<u64> {
        let last = self.last.replace(number).unwrap_or(number);
        let passed = u32::try_from(number.saturating_sub(last)).unwrap_or(u32::MAX);
        let earlier = self.bits.checked_shl(passed).unwrap_or_default();
        self.bits = earlier | u8::from(is_abnormal);
        let forgotten = u8::BITS.saturating_sub(needed.of_last);
        let counted = self.bits & u8::MAX.checked_shr(forgotten).unwrap_or_default();
        let is_enough = is_abnormal && counted.count_ones() >= needed.abnormal;
        if !is_enough {
            return None;
        }
        let age = counted.checked_ilog2().unwrap_or_default();
        Some(number.saturating_sub(age.into()))
    }

    /// Whether an alert is due: one that is worse than the last, or after some time.
    pub(super) fn permit(&mut self, is_worse: bool, now: Time) -> bool {
        if is_worse {
            self.repeats = Repeats::default();
        }
        self.repeats.permit(now)
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

    const NEEDED: Needed = Needed {
        abnormal: 3,
        of_last: 5,
    };

    #[test]
    fn abnormal_windows_with_pauses_make_an_alert_and_it_is_repeated_after_an_hour() {
        let mut windows = AbnormalWindows::default();
        let mut add = |number: u64, is_abnormal| {
            let now = Time::of_window(number, 60);
            windows.add(number, is_abnormal, NEEDED, now)
        };
        // The window 7 has no requests.
        assert_eq!([add(4, true), add(5, true), add(6, false)], [None; 3]);
        assert_eq!([add(8, true), add(9, false)], [Some(4), None]);
        assert_eq!(
            [add(10, true), add(12, true)],
            [None; 2],
            "two, then too soon"
        );
        assert_eq!([add(68, true), add(70, true)], [None; 2]);
        assert_eq!(add(72, true), Some(68));
        assert_eq!([add(200, true), add(203, true)], [None; 2]);
        assert_eq!(add(205, true), None, "only two of the last five");
    }
}
