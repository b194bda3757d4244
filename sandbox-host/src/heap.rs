//! What the heap keeps of memory that was freed: as much as the buffers of common tensors take, so that the next request's are not made of fresh pages,
//! each of which the kernel clears and maps; and at an arena's end no more, whatever has come before (what is freed below something still held stays). Left to itself glibc's heap goes by the longest buffer that it was
//! given back: it keeps twice that in each of its arenas, of which there are several a core. That is too little beside photographs, and 64 MiB once a body
//! of 32 has come.

/// What is freed at an arena's end and kept, bytes: the buffers of some requests with photographs in FP32 (600 KB each), or of one with 8 MB. What is as
/// long by itself is mapped by itself, and goes back to the kernel as it is freed.
#[cfg(target_env = "gnu")]
const KEPT_BYTES: libc::c_int = 16 << 20;

/// Has the heap keep so much. To be called before there is a second thread. False where it is another heap, which has ways of its own.
#[cfg(target_env = "gnu")]
pub fn keep() -> bool {
    [libc::M_TRIM_THRESHOLD, libc::M_MMAP_THRESHOLD]
        .into_iter()
        .all(|parameter| {
            #[expect(unsafe_code, reason = "the standard library has no such call")]
            // SAFETY: it takes two numbers and sets one, under the heap's own lock.
            let set = unsafe { libc::mallopt(parameter, KEPT_BYTES) };
            set == 1
        })
}

/// Another heap.
#[cfg(not(target_env = "gnu"))]
pub const fn keep() -> bool {
    false
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
    use std::hint::black_box;

    use super::*;

    const PAGE_BYTES: usize = 4 << 10;
    const ROUNDS: usize = 10;

    /// Pages that this thread was given so far.
    fn faults() -> usize {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').nth(7).unwrap().parse().unwrap()
    }

    /// Pages for so many buffers of as many bytes at once, again and again, in a round.
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
        assert!(keep());
        let photographs = std::thread::spawn(|| faults_a_round(5, 600 << 10));
        let photographs = photographs.join().unwrap();
        assert!(photographs < 75, "{photographs} pages");
        // Twice: the first one that was freed would change what is kept, were that not settled.
        for _ in 0..2 {
            let long = std::thread::spawn(|| faults_a_round(1, 20 << 20));
            let (long, pages) = (long.join().unwrap(), (20 << 20) / PAGE_BYTES);
            assert!(long >= pages / 2, "{long} pages");
        }
    }
}
