//! Time is an argument: a driver reads its clocks once per step and passes both readings.

/// Nanoseconds per second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// Two clock readings taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Wall clock, in seconds since the Unix epoch; used for expiry.
    pub unix_s: u64,
    /// Monotonic clock, in nanoseconds since an arbitrary start that all workers of a process
    /// share; used for buckets.
    pub monotonic_ns: u64,
}
