//! The clocks.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tensorgate_policy::Now;
use tensorgate_policy::time::SECOND_NS;

/// Start of the monotonic clock. All workers share it, because they share state that holds its
/// times.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
/// The clock at its start, ns: an hour, because a time of 0 means that something never happened.
const START_NS: u64 = 3600 * SECOND_NS;

/// Both clocks.
pub fn now() -> Now {
    Now {
        unix_s: unix_ns().wrapping_div(SECOND_NS),
        monotonic_ns: monotonic_ns(),
    }
}

/// The monotonic clock, ns.
pub fn monotonic_ns() -> u64 {
    let elapsed_ns = u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX);
    START_NS.saturating_add(elapsed_ns)
}

/// Nanoseconds since 1970.
pub fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
