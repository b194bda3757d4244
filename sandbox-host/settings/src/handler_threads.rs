//! The threads that run handlers. The host starts them, and the memory of a pod must hold what runs
//! on them.

/// The most handlers with a reserved thread. Further handlers share the other threads. Each thread
/// can keep a stack and the memories of one instance resident.
pub const MAX_RESERVED_THREADS: usize = 16;

/// One extra thread for clients without a running call is added per this many threads.
pub const EXTRA_THREADS_FRACTION: usize = 8;

/// The number of extra threads for clients without a running call. None with a single thread, which
/// is configured to have no concurrent calls.
pub const fn extra_threads(width: usize) -> usize {
    if width > 1 {
        width.div_ceil(EXTRA_THREADS_FRACTION)
    } else {
        0
    }
}

/// The threads beside the reserved ones, which all handlers share. A handler has at most `width`
/// calls at once.
pub const fn shared_threads(width: usize) -> usize {
    width.saturating_sub(1).saturating_add(extra_threads(width))
}
