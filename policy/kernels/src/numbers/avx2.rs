//! Blocks of bytes in two vectors of AVX2.

#![expect(unsafe_code, reason = "code for a processor that was looked up")]

use core::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_add_epi8, _mm256_cmpeq_epi8, _mm256_cmpgt_epi8,
    _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_set1_epi8, _mm256_setr_m128i,
    _mm256_shuffle_epi8,
};

use super::{BLOCK_BYTES, Block, NumberLimit, NumberRun, OTHERS, run_by};

// Beside AVX2, what makes counts and shifts of bits single instructions.
cpufeatures::new!(vectors, "avx2", "bmi1", "bmi2", "popcnt");

pub(super) fn is_supported() -> bool {
    vectors::get()
}

pub(super) fn run(limit: NumberLimit, text: &[u8]) -> NumberRun {
    if !is_supported() {
        return NumberRun::default();
    }
    // SAFETY: the processor has these instructions, and the system saves its registers.
    unsafe { with_vectors(limit, text) }
}

#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
fn with_vectors(limit: NumberLimit, text: &[u8]) -> NumberRun {
    // SAFETY: this function has AVX2.
    run_by(limit, text, |bytes| unsafe { Avx2Block::load(bytes) })
}

/// The first half of a block, and the second. There is one only where the processor has AVX2.
#[derive(Clone, Copy)]
struct Avx2Block(__m256i, __m256i);

impl Avx2Block {
    /// # Safety
    /// The processor has AVX2.
    #[inline(always)]
    unsafe fn load(bytes: &[u8; BLOCK_BYTES]) -> Self {
        let first: *const __m256i = bytes.as_ptr().cast();
        // SAFETY: both vectors are within the block and need no alignment.
        unsafe { Self(_mm256_loadu_si256(first), _mm256_loadu_si256(first.add(1))) }
    }

    /// The highest bit of each byte.
    #[inline(always)]
    fn mask(self) -> u64 {
        // SAFETY: the processor has AVX2.
        let [first, second] =
            unsafe { [_mm256_movemask_epi8(self.0), _mm256_movemask_epi8(self.1)] };
        u64::from(first.cast_unsigned()) | u64::from(second.cast_unsigned()) << 32
    }

    #[inline(always)]
    fn each(self, of: impl Fn(__m256i) -> __m256i) -> u64 {
        Self(of(self.0), of(self.1)).mask()
    }
}

impl Block for Avx2Block {
    #[inline(always)]
    fn equal(self, byte: u8) -> u64 {
        // SAFETY: the processor has AVX2.
        self.each(|bytes| unsafe { _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(byte.cast_signed())) })
    }

    #[inline(always)]
    fn above(self, byte: u8) -> u64 {
        // SAFETY: the processor has AVX2.
        self.each(|bytes| unsafe { _mm256_cmpgt_epi8(bytes, _mm256_set1_epi8(byte.cast_signed())) })
    }

    #[inline(always)]
    fn digits(self) -> u64 {
        // Moved up so that the digits are the ten greatest signed numbers of a byte.
        const MOVED: i8 = i8::MAX - b'9'.cast_signed();
        // SAFETY: the processor has AVX2.
        self.each(|bytes| unsafe {
            let moved = _mm256_add_epi8(bytes, _mm256_set1_epi8(MOVED));
            _mm256_cmpgt_epi8(moved, _mm256_set1_epi8(i8::MAX - 10))
        })
    }

    #[inline(always)]
    fn others(self) -> u64 {
        // SAFETY: the processor has AVX2, and the table is as long as a vector of 128 bits.
        self.each(|bytes| unsafe {
            let table = _mm_loadu_si128(OTHERS.as_ptr().cast());
            _mm256_cmpeq_epi8(
                bytes,
                _mm256_shuffle_epi8(_mm256_setr_m128i(table, table), bytes),
            )
        })
    }
}
