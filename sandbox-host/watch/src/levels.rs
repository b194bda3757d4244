//! Loads of a subject that return: a job of each hour, or a batch of each night.
//!
//! A short baseline forgets in hours, so a batch at night would be abnormal each night. A level
//! that operators were told of three times, and that goes on, is usual from then on:
//!
//! | a window above the bound of the short baseline | then |
//! |---|---|
//! | its level was reported in three hours, less than 18 hours apart | it is usual at any hour |
//! | its level was reported on three days, in this hour or the next | it is usual in these hours |
//! | otherwise | it is abnormal, and an alert counts its level for its hour and day |
//!
//! Nothing else teaches a level. So an attacker raises three alerts first. What is usual at an hour
//! follows a job that grows by an eighth of an octave a day. The bound of the short baseline has a
//! [`Ceiling`] that rises at most twofold a week. So small steps teach no more.

use std::time::Duration;

use crate::saved::saved;
use crate::time::{DAY_S, HOUR_S, Time};

/// A number of requests on a logarithmic scale, in eighths of an octave. Zero is none.
type Level = u8;

/// The steps of an octave.
const OCTAVE: u8 = 8;
/// A level counts as the same up to this many steps more or less: about 1.5 times.
const TOLERANCE: u8 = 5;
/// A level that is twice the reported one is reported at once.
const WORSE: u8 = OCTAVE;
/// The hours or days with a reported level until it is usual.
const REPORTED: u8 = 3;
/// The hours of a day.
const HOURS: usize = 24;
/// A level without an hour of its own is forgotten after so many hours. It spans a night, and not
/// the time between two.
const KEPT_HOURS: u16 = 18;
/// A level of an hour is forgotten after so many days: two weeks and a day for a weekly job.
const KEPT_DAYS: u16 = 15;

/// The levels that return, and the ceiling of the short baseline.
#[derive(Clone, Debug, Default)]
pub(super) struct Levels {
    pub(super) ceiling: Ceiling,
    /// The level that was last reported.
    reported: Level,
    any_hour: Habit,
    by_hour: [Habit; HOURS],
}

saved!(Levels {
    ceiling,
    reported,
    any_hour,
    by_hour
});

impl Levels {
    /// Whether a count above the bound of the short baseline is usual at this time.
    pub(super) fn accept(&mut self, count: u32, now: Time) -> bool {
        let (level, hour, day) = (level(count), period(now, HOUR_S), period(now, DAY_S));
        let at = now.hour_of_day();
        let mut is_usual = false;
        // A job may start a little earlier or later.
        for ahead in [0, 1, HOURS.saturating_sub(1)] {
            let index = at.saturating_add(ahead);
            let index = index.checked_rem(HOURS).unwrap_or_default();
            if let Some(habit) = self.by_hour.get_mut(index) {
                is_usual |= habit.see(level, day, KEPT_DAYS);
            }
            if is_usual {
                break;
            }
        }
        if self.any_hour.see(level, hour, KEPT_HOURS) {
            is_usual = true;
            // It was reported in hours before this one, and may be a job of the day.
            let known = level.min(self.any_hour.usual);
            if let Some(habit) = self.by_hour.get_mut(at) {
                habit.count(known, day, KEPT_DAYS);
            }
        }
        is_usual
    }

    /// Whether a count is far above the one that was last reported.
    pub(super) fn is_worse(&self, count: u32) -> bool {
        self.reported > 0 && level(count) > self.reported.saturating_add(WORSE)
    }

    /// Counts an abnormal level that is reported now, or was reported within the hour.
    pub(super) fn count(&mut self, count: u32, is_reported_now: bool, now: Time) {
        let level = level(count);
        if is_reported_now {
            self.reported = level;
        }
        let level = level.min(self.reported.saturating_add(TOLERANCE));
        self.any_hour.count(level, period(now, HOUR_S), KEPT_HOURS);
        if let Some(habit) = self.by_hour.get_mut(now.hour_of_day()) {
            habit.count(level, period(now, DAY_S), KEPT_DAYS);
        }
    }
}

/// A level that returns in periods, which are hours or days.
#[derive(Clone, Copy, Debug, Default)]
struct Habit {
    /// The usual level. Zero for none.
    usual: Level,
    /// The highest level of the last period in which the usual one was seen.
    most: Level,
    /// A level that was reported,
    candidate: Level,
    /// and in how many periods.
    times: u8,
    /// The last period in which the usual level was seen.
    seen: u16,
    /// The last period in which the candidate was reported.
    reported: u16,
}

saved!(Habit {
    usual,
    most,
    candidate,
    times,
    seen,
    reported
});

impl Habit {
    /// Whether a level is at most the usual one. If so, it was seen.
    fn see(&mut self, level: Level, period: u16, kept: u16) -> bool {
        let passed = period.wrapping_sub(self.seen);
        if passed > kept {
            (self.usual, self.most) = (0, 0);
        }
        if self.usual == 0 || level > self.usual.saturating_add(TOLERANCE) {
            return false;
        }
        if passed > 0 {
            self.follow(kept);
            self.seen = period;
            self.most = 0;
        }
        self.most = self.most.max(level);
        true
    }

    /// Moves the usual level towards the last day's by one step. Hours would move it too fast.
    fn follow(&mut self, kept: u16) {
        if kept != KEPT_DAYS {
            return;
        }
        if self.most > self.usual {
            self.usual = self.usual.saturating_add(1);
        } else if self.most < self.usual {
            self.usual = self.usual.saturating_sub(1).max(1);
        }
    }

    /// Counts a reported level once in a period. It is usual after enough of them.
    fn count(&mut self, level: Level, period: u16, kept: u16) {
        let passed = period.wrapping_sub(self.reported);
        let is_known = self.times > 0 && passed <= kept;
        if is_known && level.abs_diff(self.candidate) <= TOLERANCE {
            self.times = self.times.saturating_add(u8::from(passed > 0));
        } else if !is_known || level > self.candidate || passed > 1 {
            (self.candidate, self.times) = (level, 1);
        } else {
            // The start of a job is lower than the job.
            return;
        }
        self.reported = period;
        if self.times >= REPORTED {
            (self.usual, self.most) = (self.candidate, self.candidate);
            (self.candidate, self.times) = (0, 0);
            self.seen = period;
        }
    }
}

/// The most that a short baseline counts as, so that small steps teach no high one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ceiling {
    first: Option<Time>,
    /// The highest usual value, as of its last change.
    highest: f64,
    changed: Time,
}

saved!(Ceiling {
    first,
    highest,
    changed
});

/// A subject's ordinary day is not known before it is over.
const FIRST_DAY: Duration = Duration::from_secs(DAY_S);
/// In the first week a ceiling rises twofold a day, because a weekend may have come first.
const FIRST_WEEK: Duration = Duration::from_secs(7 * DAY_S);
/// How long a ceiling takes to fall by half.
const HALF_LIFE: Duration = Duration::from_secs(28 * DAY_S);

impl Ceiling {
    /// The highest usual value. `None` on the first day.
    pub(super) fn highest(&self, now: Time) -> Option<f64> {
        let is_known = self
            .first
            .is_some_and(|first| now.since(first) >= FIRST_DAY);
        is_known.then_some(self.highest)
    }

    /// Takes the value of a window. An abnormal one counts as its bound.
    pub(super) fn add(&mut self, value: f64, now: Time) {
        let age = now.since(*self.first.get_or_insert(now));
        let passed = now.since(self.changed);
        let doubling = if age < FIRST_WEEK {
            FIRST_DAY
        } else {
            FIRST_WEEK
        };
        let risen = if age < FIRST_DAY {
            f64::INFINITY
        } else {
            self.highest * passed.div_duration_f64(doubling).min(1.0).exp2()
        };
        let fallen = self.highest * (-passed.div_duration_f64(HALF_LIFE)).exp2();
        if value > fallen {
            self.highest = value.min(risen);
            self.changed = now;
        }
    }
}

/// The level of a count.
fn level(count: u32) -> Level {
    let octave = count.checked_ilog2().unwrap_or_default();
    let scaled = u64::from(count).saturating_mul(OCTAVE.into());
    let step = scaled.checked_shr(octave).unwrap_or_default() & 7;
    let steps = u64::from(octave).saturating_mul(OCTAVE.into());
    let level = steps.saturating_add(step).saturating_add(1);
    Level::try_from(level).unwrap_or(Level::MAX)
}

/// The number of a period, of which the low bits are enough.
fn period(now: Time, length_s: u64) -> u16 {
    let [low, high, ..] = now.window(length_s).to_le_bytes();
    u16::from_le_bytes([low, high])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;

    /// Whether a count in these hours is usual. Each that is not is reported.
    fn usual(levels: &mut Levels, loads: &[(u64, u32)]) -> Vec<bool> {
        let show = |(hour, count): &(u64, u32)| {
            let now = Time::of_window(*hour, HOUR_S);
            let is_usual = levels.accept(*count, now);
            if !is_usual {
                levels.count(*count, true, now);
            }
            is_usual
        };
        loads.iter().map(show).collect()
    }

    #[test]
    fn a_level_is_usual_after_three_hours_or_three_nights() {
        let hourly: Vec<_> = (0..6).map(|hour| (hour, 400)).collect();
        let seen = usual(&mut Levels::default(), &hourly);
        assert_eq!(seen, [false, false, false, true, true, true]);
        let mut levels = Levels::default();
        // The job starts a little earlier or later.
        let nightly = [(2, 400), (26, 410), (50, 390), (74, 400), (97, 400)];
        let seen = usual(&mut levels, &nightly);
        assert_eq!(seen, [false, false, false, true, true]);
        let other = [(24 * 4 + 14, 400), (24 * 5 + 2, 1_200)];
        assert_eq!(usual(&mut levels, &other), [false; 2]);
    }

    #[test]
    fn a_level_that_was_not_reported_three_times_is_not_learned() {
        // A low level on other nights is no report of the high one.
        let nights = [(2, 5_000), (26, 120), (50, 120), (74, 5_000)];
        assert_eq!(usual(&mut Levels::default(), &nights), [false; 4]);
        let rising: Vec<_> = (0..8_u64)
            .map(|night| (2 + 24 * night, 100_u32 << night))
            .collect();
        assert_eq!(usual(&mut Levels::default(), &rising), [false; 8]);
    }

    #[test]
    fn the_usual_level_of_an_hour_rises_less_than_twofold_a_week() {
        let mut levels = Levels::default();
        usual(&mut levels, &[(2, 400), (26, 400), (50, 400)]);
        // The attacker sends the most that is still usual.
        let mut most = 400_u32;
        for night in 3..31 {
            let now = Time::of_window(2 + 24 * night, HOUR_S);
            let mut tried = most;
            while levels.clone().accept(tried + tried / 32, now) {
                tried += tried / 32;
            }
            assert!(levels.accept(tried, now), "night {night}");
            most = tried;
        }
        // 1.6 times is the tolerance, and four weeks pass.
        assert!(most < 400 * 16 * 17 / 10, "{most}");
    }

    #[test]
    fn a_ceiling_rises_at_most_twofold_a_week() {
        let mut ceiling = Ceiling::default();
        let at = |hour| Time::of_window(hour, HOUR_S);
        (0..24).for_each(|hour| ceiling.add(10.0, at(hour)));
        assert_eq!(ceiling.highest(at(23)), None);
        for hour in 24..24 * 7 {
            ceiling.add(10.0, at(hour));
        }
        for week in 1..5 {
            for hour in 0..168 {
                ceiling.add(1e9, at(week * 168 + hour));
            }
        }
        let highest = ceiling.highest(at(168 * 5)).unwrap_or_default();
        assert!((100.0..=160.1).contains(&highest), "{highest}");
    }

    #[test]
    fn a_level_is_an_eighth_of_an_octave() {
        let counts = [0, 1, 2, 3, 4, 400, 800, u32::MAX];
        assert_eq!(counts.map(level), [1, 1, 9, 13, 17, 69, 77, 255]);
    }
}
