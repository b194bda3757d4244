//! Blocks of bytes in four vectors of a WebAssembly module that is compiled for them.

#![expect(unsafe_code, reason = "loads of vectors")]

use core::arch::wasm32::{
    i8x16_bitmask, i8x16_eq, i8x16_swizzle, u8x16_gt, u8x16_lt, u8x16_splat, u8x16_sub, v128,
    v128_and, v128_load,
};

use super::{BLOCK_BYTES, Block, DIGIT_VALUE, OTHERS, quarters};

/// The quarters of a block.
#[derive(Clone, Copy)]
pub(super) struct Simd128Block([v128; 4]);

impl Simd128Block {
    #[inline(always)]
    pub(super) fn load(bytes: &[u8; BLOCK_BYTES]) -> Self {
        Self(quarters(bytes, vector))
    }

    #[inline(always)]
    fn each(self, of: impl Fn(v128) -> v128) -> u64 {
        self.0.iter().rev().fold(0, |mask, bytes| {
            mask << 16 | u64::from(i8x16_bitmask(of(*bytes)))
        })
    }
}

impl Block for Simd128Block {
    #[inline(always)]
    fn equal(self, byte: u8) -> u64 {
        self.each(|bytes| i8x16_eq(bytes, u8x16_splat(byte)))
    }

    #[inline(always)]
    fn above(self, byte: u8) -> u64 {
        self.each(|bytes| u8x16_gt(bytes, u8x16_splat(byte)))
    }

    #[inline(always)]
    fn digits(self) -> u64 {
        self.each(|bytes| u8x16_lt(u8x16_sub(bytes, u8x16_splat(b'0')), u8x16_splat(10)))
    }

    #[inline(always)]
    fn others(self) -> u64 {
        let table = vector(&OTHERS);
        self.each(|bytes| {
            let lower = v128_and(bytes, u8x16_splat(DIGIT_VALUE));
            i8x16_eq(bytes, i8x16_swizzle(table, lower))
        })
    }
}

#[inline(always)]
fn vector(bytes: &[u8; 16]) -> v128 {
    // SAFETY: the array is as long as the vector, which needs no alignment.
    unsafe { v128_load(bytes.as_ptr().cast()) }
}
