//! Runs loops over tensors with wider vectors than those that they were compiled for, where the
//! machine has them.
//!
//! A release for x86-64 runs on each such processor, so the compiler may use 16-byte vectors only.
//! [`widest`] compiles a loop a second time for AVX2 and chooses when it runs. On arm64 NEON is in
//! each processor, and in WebAssembly the module is compiled for its vectors or not, so there is
//! nothing to choose. [`NumberLimit`] is written for each of the three.
#![no_std]

mod numbers;

pub use numbers::{NumberLimit, NumberRun};

/// Runs a loop in its version for AVX2 where this processor has it, otherwise in the other. What
/// the loop calls has to be inlined into it.
#[inline]
pub fn widest<R>(run: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if avx2::get() {
        #[expect(unsafe_code, reason = "code for a processor that was looked up")]
        // SAFETY: the processor has AVX2, and the system saves its registers.
        return unsafe { with_avx2(run) };
    }
    run()
}

#[cfg(target_arch = "x86_64")]
cpufeatures::new!(avx2, "avx2");

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<R>(run: impl FnOnce() -> R) -> R {
    run()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests"
    )]
    use super::*;

    #[test]
    fn a_loop_has_one_result_in_each_version() {
        let mut data = [0_u8; 1021];
        for (at, byte) in data.iter_mut().enumerate() {
            *byte = u8::try_from(at * 7 % 251).unwrap();
        }
        for end in 0..data.len() {
            let part = &data[..end];
            let largest = || part.iter().fold(0_u8, |largest, byte| largest.max(*byte));
            assert_eq!(widest(largest), largest());
        }
    }
}
