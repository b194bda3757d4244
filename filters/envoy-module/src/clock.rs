//! The clocks, as wasm modules read them from Envoy.

use libc::{CLOCK_MONOTONIC, CLOCK_REALTIME};
use tensorgate_policy::Now;
use tensorgate_policy::time::SECOND_NS;

use crate::abi::clock_ns;

/// Both clocks.
pub fn now() -> Now {
    Now {
        unix_s: unix_ns().wrapping_div(SECOND_NS),
        monotonic_ns: monotonic_ns(),
    }
}

/// The monotonic clock, ns. It is the machine's, because files of the module share state that holds
/// its times.
pub fn monotonic_ns() -> u64 {
    clock_ns(CLOCK_MONOTONIC)
}

/// Nanoseconds since 1970.
pub fn unix_ns() -> u64 {
    clock_ns(CLOCK_REALTIME)
}
