//! The inverse cosine transform of a block: libjpeg's accurate one, in whole numbers.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "positions in a block of 64, and samples limited to a byte"
)]

use super::BLOCK;
use super::frame::SIDE;

/// The bits behind the point of a factor, and of what the first pass makes.
const FACTOR_BITS: u32 = 13;
const PASS_BITS: u32 = 2;

/// Transforms the coefficients of a block to samples, in rows that are `stride` apart.
pub(super) fn block(
    coefficients: &[i16; BLOCK],
    quantization: &[u16; BLOCK],
    samples: &mut [u8],
    stride: usize,
) {
    if coefficients.iter().skip(1).all(|each| *each == 0) {
        let dc = i32::from(coefficients[0]).wrapping_mul(i32::from(quantization[0]));
        let sample = limited(dc.wrapping_shl(PASS_BITS).wrapping_add(16) >> (PASS_BITS + 3));
        for row in samples.chunks_mut(stride).take(SIDE) {
            if let Some(row) = row.first_chunk_mut::<SIDE>() {
                row.fill(sample);
            }
        }
        return;
    }
    let mut columns = [[0_i32; SIDE]; SIDE];
    for (column, to) in columns.iter_mut().enumerate() {
        let mut values = [0; SIDE];
        for (row, each) in values.iter_mut().enumerate() {
            let at = row.wrapping_mul(SIDE).wrapping_add(column);
            *each = i32::from(coefficients[at]).wrapping_mul(i32::from(quantization[at]));
        }
        *to = transform(values, FACTOR_BITS - PASS_BITS);
    }
    for (at, row) in samples.chunks_mut(stride).take(SIDE).enumerate() {
        let values = transform(
            columns.map(|column| column[at]),
            FACTOR_BITS + PASS_BITS + 3,
        );
        for (sample, value) in row.iter_mut().zip(values) {
            *sample = limited(value);
        }
    }
}

/// A sample from 0 to 255 of a value around 0.
fn limited(value: i32) -> u8 {
    value.wrapping_add(128).clamp(0, 255) as u8
}

/// Transforms eight values, and removes bits behind the point.
fn transform(values: [i32; SIDE], bits: u32) -> [i32; SIDE] {
    let add = i32::wrapping_add;
    let sub = i32::wrapping_sub;
    let times = i32::wrapping_mul;
    let [d0, d1, d2, d3, d4, d5, d6, d7] = values;

    let z1 = times(add(d2, d6), 4_433);
    let t2 = add(z1, times(d6, -15_137));
    let t3 = add(z1, times(d2, 6_270));
    let t0 = add(d0, d4).wrapping_shl(FACTOR_BITS);
    let t1 = sub(d0, d4).wrapping_shl(FACTOR_BITS);
    let even = [add(t0, t3), add(t1, t2), sub(t1, t2), sub(t0, t3)];

    let z5 = times(add(add(d7, d3), add(d5, d1)), 9_633);
    let z1 = times(add(d7, d1), -7_373);
    let z2 = times(add(d5, d3), -20_995);
    let z3 = add(times(add(d7, d3), -16_069), z5);
    let z4 = add(times(add(d5, d1), -3_196), z5);
    let odd = [
        add(times(d1, 12_299), add(z1, z4)),
        add(times(d3, 25_172), add(z2, z3)),
        add(times(d5, 16_819), add(z2, z4)),
        add(times(d7, 2_446), add(z1, z3)),
    ];

    let half = 1_i32.wrapping_shl(bits.wrapping_sub(1));
    let mut made = [0; SIDE];
    for (at, (even, odd)) in even.into_iter().zip(odd).enumerate() {
        made[at] = add(add(even, odd), half) >> bits;
        made[7_usize.wrapping_sub(at)] = add(sub(even, odd), half) >> bits;
    }
    made
}
