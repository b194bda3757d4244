//! Settings for glibc's heap: how much freed memory it keeps.
//!
//! It keeps the buffers of common tensors, so that the next request does not need fresh pages,
//! which the kernel has to clear and map. At the end of an arena it keeps no more than that,
//! whatever was freed before. By default glibc adapts to the largest freed buffer and keeps twice
//! its size in each arena, several for each core. That is too little for photographs, and 64 MiB
//! after one body of 32 MiB.

/// The freed memory that is kept at the end of an arena, in bytes: the buffers of several requests
/// with photographs in FP32 (600 KB each), or of one with 8 MB. A buffer of this size is mapped
/// separately and returned when freed.
#[cfg(target_env = "gnu")]
const TRIM_THRESHOLD_BYTES: libc::c_int = 16 << 20;

/// Applies the settings. Must be called before there is a second thread. Returns `false` with
/// another allocator.
#[cfg(target_env = "gnu")]
pub fn keep_freed_memory() -> bool {
    [libc::M_TRIM_THRESHOLD, libc::M_MMAP_THRESHOLD]
        .into_iter()
        .all(|parameter| {
            #[expect(unsafe_code, reason = "the standard library has no such call")]
            // SAFETY: the call takes two numbers and sets one, under the heap's own lock.
            let set = unsafe { libc::mallopt(parameter, TRIM_THRESHOLD_BYTES) };
            set == 1
        })
}

/// Another allocator needs no settings.
#[cfg(not(target_env = "gnu"))]
pub const fn keep_freed_memory() -> bool {
    false
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
    use std::hint::black_box;

    use super::*;

    const PAGE_BYTES: usize = 4 << 10;
    const ROUNDS: usize = 10;

    /// The number of page faults of this thread so far.
    fn faults() -> usize {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').nth(7).unwrap().parse().unwrap()
    }

    /// The page faults of a round in which this many buffers are allocated and freed.
    fn faults_a_round(buffers: usize, bytes: usize) -> usize {
        let round = || {
            let held: Vec<_> = (0..buffers).map(|_| vec![1_u8; bytes]).collect();
            black_box(held);
        };
        round();
        let before = faults();
        (0..ROUNDS).for_each(|_| round());
        (faults() - before) / ROUNDS
    }

    #[test]
    fn buffers_of_common_tensors_are_kept_and_long_ones_go_back() {
        assert!(keep_freed_memory());
        let photographs = std::thread::spawn(|| faults_a_round(5, 600 << 10));
        let photographs = photographs.join().unwrap();
        assert!(photographs < 75, "{photographs} pages");
        // Twice, because the first one that is freed would change the threshold if it were not
        // fixed.
        for _ in 0..2 {
            let long = std::thread::spawn(|| faults_a_round(1, 20 << 20));
            let (long, pages) = (long.join().unwrap(), (20 << 20) / PAGE_BYTES);
            assert!(long >= pages / 2, "{long} pages");
        }
    }
}
