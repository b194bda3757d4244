//! Hours of the day that are usually abnormal: those of a nightly job. An hour is learned after
//! three days, and forgotten when it stays normal.

use crate::saved::saved;
use crate::time::{HOUR_S, Time};

/// The hours of a day.
const HOURS: usize = 24;
/// Abnormal windows that make an hour abnormal.
const MIN_ABNORMAL: u32 = 3;
/// Days until an hour is usually abnormal.
const LEARNED_DAYS: u8 = 3;
/// The most days that are remembered. A job of working days keeps its hour at weekends.
const MAX_DAYS: u8 = 7;
/// A value up to so many times the usual one is usual, too.
const TIMES: f64 = 1.25;

/// How abnormal each hour of the day usually is.
#[derive(Debug, Default)]
pub(super) struct Hours {
    /// The number of the current hour. Absent before the first window.
    number: Option<u64>,
    /// The abnormal windows of the current hour,
    abnormal: u32,
    /// and their largest value.
    largest: f64,
    hours: [Hour; HOURS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Hour {
    /// The days on which it was abnormal. A normal day takes one away.
    days: u8,
    /// The usual largest value.
    usual: f64,
}

saved!(Hours { number, hours });
saved!(Hour { days, usual });

impl Hours {
    /// Adds a window with its value, which is abnormal for other hours.
    pub(super) fn add(&mut self, now: Time, value: f64, is_abnormal: bool) {
        let number = now.window(HOUR_S);
        let last = self.number.replace(number).unwrap_or(number);
        if number > last {
            self.end_hour(last);
            let day = u64::try_from(HOURS).unwrap_or_default();
            let silent = number.saturating_sub(last).saturating_sub(1).min(day);
            for hour in (1..=silent).map(|passed| last.saturating_add(passed)) {
                self.end_hour(hour);
            }
        }
        if is_abnormal {
            self.abnormal = self.abnormal.saturating_add(1);
            self.largest = self.largest.max(value);
        }
    }

    /// The largest value that is usual at this time of day, or zero. A job does not start at the
    /// same minute each day, so the hours before and after count.
    pub(super) fn usual(&self, now: Time) -> f64 {
        let number = now.window(HOUR_S);
        let near = [number.saturating_sub(1), number, number.saturating_add(1)];
        let hours = near
            .iter()
            .filter_map(|number| self.hours.get(of_day(*number)));
        hours
            .filter(|hour| hour.days >= LEARNED_DAYS)
            .fold(0.0_f64, |usual, hour| usual.max(hour.usual * TIMES))
    }

    fn end_hour(&mut self, number: u64) {
        let is_abnormal = std::mem::take(&mut self.abnormal) >= MIN_ABNORMAL;
        let largest = std::mem::take(&mut self.largest);
        let Some(hour) = self.hours.get_mut(of_day(number)) else {
            return;
        };
        if !is_abnormal {
            hour.days = hour.days.saturating_sub(1);
            return;
        }
        hour.usual = if hour.days == 0 {
            largest
        } else {
            (hour.usual + largest) / 2.0
        };
        hour.days = hour.days.saturating_add(1).min(MAX_DAYS);
    }
}

/// The hour of the day of an hour.
fn of_day(number: u64) -> usize {
    Time::of_window(number, HOUR_S).hour_of_day()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;

    #[test]
    fn an_hour_is_learned_after_three_days_and_forgotten() {
        let mut hours = Hours::default();
        let mut days_usual = Vec::new();
        for day in 0..12_u64 {
            let at = |minute| Time::from_s((day * 1_440 + minute) * 60);
            days_usual.push(hours.usual(at(130)) > 0.4);
            assert!(hours.usual(at(600)) < 0.1, "another hour");
            for minute in 0..1_440 {
                let is_abnormal = day < 5 && (120..160).contains(&minute);
                hours.add(at(minute), 0.4, is_abnormal);
            }
        }
        let learned = [3, 4, 5, 6, 7].map(|day| days_usual.get(day).copied());
        assert_eq!(learned, [Some(true); 5]);
        assert_eq!(days_usual.iter().filter(|is_usual| **is_usual).count(), 5);
    }
}
