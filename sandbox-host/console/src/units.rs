//! Numbers and times as people read them.

use std::time::SystemTime;

use tensorgate_base::rfc3339::rfc3339;

/// What divides the groups of three digits: a narrow space that does not break.
const GROUP: char = '\u{202f}';

/// Whole seconds, `2026-11-27T02:01:49Z`.
pub(crate) fn seconds(time: SystemTime) -> String {
    let text = rfc3339(time);
    let without_fraction = text
        .split_once('.')
        .map(|(seconds, _)| format!("{seconds}Z"));
    without_fraction.unwrap_or(text)
}

/// The time of day, `02:01:49.123`.
pub(crate) fn clock(time: SystemTime) -> String {
    let text = rfc3339(time);
    text.get(11..23).unwrap_or(&text).to_owned()
}

/// A count with its digits in groups of three.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len().saturating_mul(2));
    let mut left = digits.len();
    for digit in digits.chars() {
        if left < digits.len() && left.is_multiple_of(3) {
            text.push(GROUP);
        }
        text.push(digit);
        left = left.saturating_sub(1);
    }
    text
}

/// A duration of microseconds.
pub(crate) fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => tenths(us, 1_000, "ms"),
        _ => tenths(us, 1_000_000, "s"),
    }
}

/// A size in bytes.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => tenths(bytes, 1_024, "KiB"),
        1_048_576..1_073_741_824 => tenths(bytes, 1_048_576, "MiB"),
        _ => tenths(bytes, 1_073_741_824, "GiB"),
    }
}

/// Events per minute over a time in seconds.
pub(crate) fn per_minute(count: u64, over_s: u64) -> String {
    tenths(count.saturating_mul(60), over_s.max(1), "")
}

/// A number of units with one decimal place, rounded down.
fn tenths(number: u64, of: u64, unit: &str) -> String {
    let tenths = u128::from(number)
        .saturating_mul(10)
        .checked_div(u128::from(of))
        .unwrap_or_default();
    let (units, tenth) = (tenths.div_euclid(10), tenths.rem_euclid(10));
    let space = if unit.is_empty() { "" } else { " " };
    format!("{units}.{tenth}{space}{unit}")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn numbers_are_shown_with_their_units() {
        for (shown, expected) in [
            (count(0), "0"),
            (count(999), "999"),
            (count(1_234_567), "1\u{202f}234\u{202f}567"),
            (duration(999), "999 µs"),
            (duration(1_250), "1.2 ms"),
            (duration(2_000_000), "2.0 s"),
            (bytes(1_023), "1023 B"),
            (bytes(1_536), "1.5 KiB"),
            (bytes(u64::MAX), "17179869183.9 GiB"),
            (per_minute(7, 300), "1.4"),
            (per_minute(7, 0), "420.0"),
        ] {
            assert_eq!(shown, expected);
        }
        let time = UNIX_EPOCH.checked_add(Duration::from_millis(3_723_045));
        assert_eq!(time.map(seconds).as_deref(), Some("1970-01-01T01:02:03Z"));
        assert_eq!(time.map(clock).as_deref(), Some("01:02:03.045"));
    }
}
