//! The wall clock as seconds since 1970.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time now. A time before 1970 counts as 1970: contexts and certificates are then not valid
/// yet.
pub fn now_unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
