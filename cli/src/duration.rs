//! Durations as users write and read them.

use std::time::Duration;

/// Parses a whole number with `s`, `m`, `h` or `d`.
pub fn parse(text: &str) -> Option<Duration> {
    let units = [('s', 1), ('m', 60), ('h', 3_600), ('d', 86_400)];
    let (count, unit_s) = units
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    let seconds = count.parse::<u64>().ok()?.checked_mul(unit_s)?;
    Some(Duration::from_secs(seconds))
}

/// A duration in milliseconds, rounded down.
pub fn total_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
