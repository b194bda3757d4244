//! Points in time as texts have them: RFC 3339 in UTC.

use std::time::Duration;

/// Length of a day as text, such as `2027-01-31`.
const DAY_CHARS: usize = 10;

/// A point in time as texts show it.
pub(super) fn rfc3339(seconds: u64) -> String {
    der::DateTime::from_unix_duration(Duration::from_secs(seconds)).map_or_else(
        |_| format!("{seconds} s after 1970"),
        |time| time.to_string(),
    )
}

/// A time of RFC 3339 in UTC, in seconds since 1970. Parts of a second are left out.
pub(super) fn from_rfc3339(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z')?;
    let (date_time, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_part = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let time: der::DateTime = format!("{date_time}Z").parse().ok()?;
    let since_1970: Duration = time.unix_duration();
    is_part.then_some(since_1970.as_secs())
}

/// The first second of a day in UTC, such as `2027-01-31`, since 1970.
pub fn day_start_s(day: &str) -> Option<u64> {
    if day.len() != DAY_CHARS {
        return None;
    }
    from_rfc3339(&format!("{day}T00:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_starts_at_midnight_in_utc() {
        assert_eq!(day_start_s("1970-01-01"), Some(0));
        assert_eq!(day_start_s("2026-11-25"), Some(1_795_564_800));
        for text in [
            "",
            "2026-02-30",
            "2026-1-1",
            "2026-11-25T",
            "26-11-2025",
            "1969-12-31",
        ] {
            assert_eq!(day_start_s(text), None, "{text}");
        }
    }
}
