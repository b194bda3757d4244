//! The present time and day, for verbs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tensorgate_base::rfc3339::rfc3339;
use tensorgate_values::time::DAY_S;

use crate::failure::Failure;

/// The present time, Unix seconds.
///
/// # Errors
/// The clock is set before 1970.
pub fn present() -> Result<u64, Failure> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|_| Failure::Failed("the clock is set before 1970".into()))?;
    Ok(since.as_secs())
}

/// Today, UTC, in the form of `not_after`.
pub fn today() -> String {
    day_in(0)
}

/// The day in this many days, UTC, in the form of `not_after`.
pub fn day_in(days: u64) -> String {
    const DATE_CHARS: usize = 10;
    let now = SystemTime::now();
    let then = now.checked_add(Duration::from_secs(days.saturating_mul(DAY_S)));
    let then = rfc3339(then.unwrap_or(now));
    then.chars().take(DATE_CHARS).collect()
}
