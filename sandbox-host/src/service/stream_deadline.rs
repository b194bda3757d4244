//! When a request must be answered because its stream ends.

use std::time::Duration;

use tensorgate_policy::policy::Limits;
use tokio::time::Instant;

/// Maximum margin between the end of a request and the reset of its stream.
const MAX_END_MARGIN: Duration = Duration::from_millis(250);
/// Divisor for the margin of a shorter time.
const END_MARGIN_DIVISOR: u32 = 20;

/// When a request that arrived at `arrived` must be answered: shortly before `stream_ms`.
pub(super) fn stream_deadline(limits: &Limits, arrived: Instant) -> Instant {
    let time = before_reset(Duration::from_millis(limits.stream_ms));
    arrived.checked_add(time).unwrap_or(arrived)
}

/// A time limit of a stream, less a margin. At the limit itself the proxy or the filter resets the
/// stream, and the caller does not learn why.
pub(super) fn before_reset(time: Duration) -> Duration {
    let margin = time.checked_div(END_MARGIN_DIVISOR).unwrap_or_default();
    time.saturating_sub(margin.min(MAX_END_MARGIN))
}
