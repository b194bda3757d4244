//! The clocks, as wasm modules read them from Envoy.

use rustix::time::{ClockId, Timespec, clock_gettime};
use tensorgate_policy::Now;
use tensorgate_policy::time::SECOND_NS;

/// Both clocks. The monotonic one is the machine's, as in wasm modules.
pub fn now() -> Now {
    let time = clock_gettime(ClockId::Realtime);
    Now {
        unix_s: u64::try_from(time.tv_sec).unwrap_or_default(),
        monotonic_ns: monotonic_ns(),
    }
}

/// The monotonic clock, ns.
pub fn monotonic_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

/// Nanoseconds since 1970.
pub fn unix_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::Realtime))
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let rest = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(SECOND_NS).saturating_add(rest)
}
