//! Blocks of bytes in four vectors of NEON, which each processor of arm64 has.

#![expect(unsafe_code, reason = "loads of vectors")]

use core::arch::aarch64::{
    uint8x16_t, vandq_u8, vceqq_u8, vcgtq_u8, vcltq_u8, vdupq_n_u8, vgetq_lane_u64, vld1q_u8,
    vpaddq_u8, vqtbl1q_u8, vreinterpretq_u64_u8, vsubq_u8,
};

use super::{BLOCK_BYTES, Block, DIGIT_VALUE, OTHERS, quarters};

/// A bit for each byte of half a vector.
const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];

/// The quarters of a block.
#[derive(Clone, Copy)]
pub(super) struct NeonBlock([uint8x16_t; 4]);

impl NeonBlock {
    #[inline(always)]
    pub(super) fn load(bytes: &[u8; BLOCK_BYTES]) -> Self {
        Self(quarters(bytes, vector))
    }

    #[inline(always)]
    fn each(self, of: impl Fn(uint8x16_t) -> uint8x16_t) -> u64 {
        let weights = vector(&BITS);
        // SAFETY: the processor has NEON.
        unsafe {
            let [first, second, third, fourth] = self.0.map(|bytes| vandq_u8(of(bytes), weights));
            // Each sum of neighbours has the bits of twice as many bytes.
            let halves = vpaddq_u8(vpaddq_u8(first, second), vpaddq_u8(third, fourth));
            vgetq_lane_u64::<0>(vreinterpretq_u64_u8(vpaddq_u8(halves, halves)))
        }
    }
}

impl Block for NeonBlock {
    #[inline(always)]
    fn equal(self, byte: u8) -> u64 {
        // SAFETY: the processor has NEON.
        self.each(|bytes| unsafe { vceqq_u8(bytes, vdupq_n_u8(byte)) })
    }

    #[inline(always)]
    fn above(self, byte: u8) -> u64 {
        // SAFETY: the processor has NEON.
        self.each(|bytes| unsafe { vcgtq_u8(bytes, vdupq_n_u8(byte)) })
    }

    #[inline(always)]
    fn digits(self) -> u64 {
        // SAFETY: the processor has NEON.
        self.each(|bytes| unsafe { vcltq_u8(vsubq_u8(bytes, vdupq_n_u8(b'0')), vdupq_n_u8(10)) })
    }

    #[inline(always)]
    fn others(self) -> u64 {
        let table = vector(&OTHERS);
        // SAFETY: the processor has NEON.
        self.each(|bytes| unsafe {
            let lower = vandq_u8(bytes, vdupq_n_u8(DIGIT_VALUE));
            vceqq_u8(bytes, vqtbl1q_u8(table, lower))
        })
    }
}

#[inline(always)]
fn vector(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: the array is as long as the vector, which needs no alignment.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}
