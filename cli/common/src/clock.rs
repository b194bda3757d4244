//! The present time and day, for verbs.

use std::time::{SystemTime, UNIX_EPOCH};

use tensorgate_base::rfc3339::rfc3339;

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
    const DATE_CHARS: usize = 10;
    let now = rfc3339(SystemTime::now());
    now.chars().take(DATE_CHARS).collect()
}
