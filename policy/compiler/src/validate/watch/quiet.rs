//! Quiet windows of a rule: `02:00-04:00`, with days `sat 02:00-04:00` or `mon-fri 22:00-04:00`.
//! All are in UTC, so that a change of daylight saving moves none.

use tensorgate_policy::policy::{DAY_MINUTES, QuietWindow};
use tensorgate_policy::report::{Path, quote};

/// How a window is written.
const FORMS: &str = "02:00-04:00, sat 02:00-04:00, mon-fri 22:00-04:00";
/// The days, in the order of the bits of a window.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// The bits of all days.
const EVERY_DAY: u8 = 0b111_1111;
/// The minutes of an hour.
const HOUR_MINUTES: u16 = 60;

pub(super) fn window(at: &Path, text: &str) -> Option<QuietWindow> {
    let window = read(text);
    if window.is_none() {
        at.error_with_fix(format!("{} is not a quiet window", quote(text)), FORMS);
    }
    window
}

fn read(text: &str) -> Option<QuietWindow> {
    let (days, times) = match text.split_once(' ') {
        Some((days, times)) => (read_days(days)?, times),
        None => (EVERY_DAY, text),
    };
    let (from, to) = times.split_once('-')?;
    let (from, to) = (minute(from)?, minute(to)?);
    // An end at midnight is the end of the same day.
    let to = if to == 0 { DAY_MINUTES } else { to };
    let is_time = from < DAY_MINUTES && from != to;
    is_time.then_some(QuietWindow { days, from, to })
}

/// The bits of a day, or of the days from one to another.
fn read_days(text: &str) -> Option<u8> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let index = |name: &str| DAYS.iter().position(|day| *day == name);
    let (first, last) = (index(first)?, index(last)?);
    let is_between = |day: usize| {
        if first <= last {
            (first..=last).contains(&day)
        } else {
            day >= first || day <= last
        }
    };
    let days = (0_u8..).zip(0..DAYS.len());
    Some(days.fold(0, |bits, (bit, day)| {
        let own = 1_u8.checked_shl(bit.into()).unwrap_or_default();
        bits | if is_between(day) { own } else { 0 }
    }))
}

/// A time of the day as its minute, `00:00` to `24:00`.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str| {
        let is_pair = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_pair.then(|| digits.parse::<u16>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    if minutes >= HOUR_MINUTES {
        return None;
    }
    let minute = hours.checked_mul(HOUR_MINUTES)?.checked_add(minutes)?;
    (minute <= DAY_MINUTES).then_some(minute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_a_start_an_end_and_days() {
        for (text, expected) in [
            ("02:00-04:00", Some((EVERY_DAY, 120, 240))),
            ("22:00-04:00", Some((EVERY_DAY, 1_320, 240))),
            ("00:00-24:00", Some((EVERY_DAY, 0, 1_440))),
            ("22:30-00:00", Some((EVERY_DAY, 1_350, 1_440))),
            ("mon 00:00-01:00", Some((0b1, 0, 60))),
            ("mon-fri 02:00-04:00", Some((0b1_1111, 120, 240))),
            ("sat-mon 02:00-04:00", Some((0b110_0001, 120, 240))),
            ("02:00-02:00", None),
            ("24:00-02:00", None),
            ("2:00-04:00", None),
            ("02:60-04:00", None),
            ("02:00-24:01", None),
            ("+2:00-04:00", None),
            ("monday 02:00-04:00", None),
            (" 02:00-04:00", None),
            ("mon  02:00-04:00", None),
            ("02:00", None),
            ("", None),
        ] {
            let found = read(text).map(|it| (it.days, it.from, it.to));
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
