//! The wall clock as seconds or milliseconds since 1970. An earlier time counts as 1970: contexts
//! and certificates are then not valid yet.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time now in seconds.
pub fn now_unix_s() -> u64 {
    since_1970().as_secs()
}

/// The time now in milliseconds.
pub fn now_unix_ms() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

fn since_1970() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}
