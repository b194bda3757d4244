//! Points in time as texts have them: RFC 3339 in UTC.

use std::time::Duration;

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
