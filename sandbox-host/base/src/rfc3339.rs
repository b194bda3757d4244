//! Timestamps as RFC 3339 in UTC with microseconds, in both directions.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The seconds of a day.
const DAY_S: u64 = 86_400;
/// The last second of the year 9999, in Unix time.
const LAST_S: u64 = 253_402_300_799;

/// The length of a timestamp in bytes.
const TEXT_BYTES: usize = 27;

/// Formats as `2026-11-20T11:04:33.123456Z`. Times before 1970 are 1970, times after 9999 are the
/// end of 9999.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs().min(LAST_S);
    let (days, second) = (
        seconds.checked_div(DAY_S).unwrap_or_default(),
        seconds.checked_rem(DAY_S).unwrap_or_default(),
    );
    let (year, month, day) = civil(days);
    let part = |unit: u64, of: u64| {
        second
            .checked_div(unit)
            .and_then(|count| count.checked_rem(of))
            .unwrap_or_default()
    };
    let micros = u64::from(since.subsec_micros());
    // Each line of two logs has one, so the formatting machinery is avoided.
    let mut text = String::with_capacity(TEXT_BYTES);
    for (value, digits, then) in [
        (year, 4, '-'),
        (month, 2, '-'),
        (day, 2, 'T'),
        (part(3_600, 24), 2, ':'),
        (part(60, 60), 2, ':'),
        (part(1, 60), 2, '.'),
        (micros, 6, 'Z'),
    ] {
        put(&mut text, value, digits);
        text.push(then);
    }
    text
}

/// Appends the last `digits` decimal digits of a number, at most six.
fn put(text: &mut String, value: u64, digits: usize) {
    let units = [100_000, 10_000, 1_000, 100, 10, 1];
    for unit in units.into_iter().skip(units.len().saturating_sub(digits)) {
        let digit = value.div_euclid(unit).rem_euclid(10);
        let digit = u32::try_from(digit).ok();
        text.push(
            digit
                .and_then(|digit| char::from_digit(digit, 10))
                .unwrap_or('0'),
        );
    }
}

/// Parses a timestamp in UTC: the format of [`rfc3339`] with any number of fraction digits, or a
/// date.
pub fn parse(text: &str) -> Option<SystemTime> {
    let (day, clock) = match text.split_once('T') {
        Some((day, clock)) => (day, clock.strip_suffix('Z')?),
        None => (text, "00:00:00"),
    };
    let mut date = day.split('-');
    let mut next = |digits: usize| number(date.next()?, digits);
    let (year, month, day) = (next(4)?, next(2)?, next(2)?);
    if date.next().is_some() || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = clock.split(':');
    let mut next = || number(parts.next()?, 2);
    let (hour, minute, second) = (next()?, next()?, next()?);
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos: u64 = format!("{fraction:0<9}").parse().ok()?;
    let days = days(year, month, day)?;
    // A day that its month does not have would be normalised to another one.
    if civil(days) != (year, month, day) {
        return None;
    }
    let seconds = days
        .checked_mul(DAY_S)?
        .checked_add(hour.checked_mul(3_600)?)?
        .checked_add(minute.checked_mul(60)?)?
        .checked_add(second)?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos)))
}

fn number(text: &str, digits: usize) -> Option<u64> {
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

/// Converts days since 1970 to year, month and day of the Gregorian calendar. Years start in March,
/// so that the leap day is the last.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "days are at most those of the year 9999, every divisor is a constant"
)]
const fn civil(days: u64) -> (u64, u64, u64) {
    // From 0000-03-01. An era is the 400 years after which the calendar repeats.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// The inverse. `None` before 1970.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 {
        year.checked_sub(1)?
    } else {
        year
    };
    let (era, year_of_era) = (year.checked_div(400)?, year.checked_rem(400)?);
    let shifted_month = month.checked_add(9)?.checked_rem(12)?;
    let day_of_year = shifted_month
        .checked_mul(153)?
        .checked_add(2)?
        .checked_div(5)?
        .checked_add(day)?
        .checked_sub(1)?;
    let day_of_era = year_of_era
        .checked_mul(365)?
        .checked_add(year_of_era.checked_div(4)?)?
        .checked_sub(year_of_era.checked_div(100)?)?
        .checked_add(day_of_year)?;
    era.checked_mul(146_097)?
        .checked_add(day_of_era)?
        .checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn an_instant_is_written_and_read_back() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399_999_999, "2000-02-28T23:59:59.999999Z"),
            (951_782_400_000_001, "2000-02-29T00:00:00.000001Z"),
            (1_709_251_200_000_000, "2024-03-01T00:00:00.000000Z"),
            (1_795_172_673_123_456, "2026-11-20T11:04:33.123456Z"),
            (4_107_542_399_000_000, "2100-02-28T23:59:59.000000Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
            (253_402_300_799_000_000, "9999-12-31T23:59:59.000000Z"),
        ] {
            let time = UNIX_EPOCH + Duration::from_micros(micros);
            assert_eq!(rfc3339(time), text);
            assert_eq!(parse(text), Some(time), "{text}");
        }
    }

    #[test]
    fn only_utc_in_this_form_is_read() {
        for (text, expected) in [
            ("2026-11-20", Some(1_795_132_800)),
            ("2026-11-20T00:00:01Z", Some(1_795_132_801)),
            ("2026-11-20T00:00:01.5Z", Some(1_795_132_801)),
            ("2026-11-20T00:00:01", None),
            ("2026-11-20T00:00:01+01:00", None),
            ("2026-02-29", None),
            ("2026-13-01", None),
            ("2026-00-01", None),
            ("2026-11-31", None),
            ("2026-11-20T24:00:00Z", None),
            ("2026-11-20T00:60:00Z", None),
            ("2026-11-20T00:00:00.Z", None),
            ("26-11-20", None),
            ("1969-12-31", None),
            ("", None),
            ("yesterday", None),
        ] {
            let read = parse(text).map(|time| time.duration_since(UNIX_EPOCH).unwrap().as_secs());
            assert_eq!(read, expected, "{text}");
        }
    }
}
