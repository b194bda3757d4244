//! Time as an argument: a driver reads its clocks once a step and passes both readings in.

/// Nanoseconds a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// Two clock readings taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Wall clock, seconds since the Unix epoch. Decides expiry.
    pub unix_s: u64,
    /// Monotonic clock, nanoseconds since an arbitrary start that all workers of one process share.
    /// Decides buckets.
    pub monotonic_ns: u64,
}
