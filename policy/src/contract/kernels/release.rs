//! Transformations of response values: rounding to decimals, and zeroing all but the largest values
//! of a row.

use alloc::vec::Vec;

use tensorgate_values::datatype::{Datatype, FloatFormat};

use super::{BF16, FP16, Half, SIGN, nearest_f32, nearest_f64, toward_zero};

/// Doubles of this size and above have no fraction.
const FRACTIONLESS: f64 = 4_503_599_627_370_496.0;

/// A finite number rounded to `1 / scale`, halves away from zero; other values are unchanged.
fn rounded(number: f64, scale: f64) -> f64 {
    let scaled = number * scale;
    if scaled.abs() < FRACTIONLESS {
        let half = if scaled < 0.0 { -0.5 } else { 0.5 };
        // Integers have no minus zero: a sign would reveal the rounded part.
        toward_zero(scaled + half).map_or(number, |integer| nearest_f64(integer) / scale)
    } else {
        number
    }
}

/// Rounds every element of a float datatype; other datatypes are unchanged.
pub(crate) fn round(datatype: Datatype, decimals: u32, data: &mut [u8]) {
    let scale = (0..decimals).fold(1.0, |scale, _| scale * 10.0);
    let half = |format: &Half, bytes: &mut [u8; 2]| {
        let bits = u16::from_le_bytes(*bytes);
        let magnitude = bits & !SIGN;
        if magnitude < format.infinity {
            let value = rounded(format.value(magnitude), scale).min(format.value(format.max()));
            let value = format.nearest(value);
            let sign = if value == 0 { 0 } else { bits & SIGN };
            *bytes = (value | sign).to_le_bytes();
        }
    };
    match datatype.float_format() {
        Some(FloatFormat::Fp16) => {
            for bytes in data.as_chunks_mut().0 {
                half(&FP16, bytes);
            }
        }
        Some(FloatFormat::Bf16) => {
            for bytes in data.as_chunks_mut().0 {
                half(&BF16, bytes);
            }
        }
        Some(FloatFormat::Fp32) => {
            for bytes in data.as_chunks_mut().0 {
                let value = rounded(f32::from_le_bytes(*bytes).into(), scale);
                *bytes = nearest_f32(value).to_le_bytes();
            }
        }
        Some(FloatFormat::Fp64) => {
            for bytes in data.as_chunks_mut().0 {
                *bytes = rounded(f64::from_le_bytes(*bytes), scale).to_le_bytes();
            }
        }
        None => {}
    }
}

/// Zeroes all but the `k` largest elements of each row; of equal ones the earlier stays. Requires
/// floats of zero or more, whose bits are ordered like their values.
pub(crate) fn keep_greatest(datatype: Datatype, row: usize, k: usize, data: &mut [u8]) {
    let Some(size) = datatype.size_bytes().filter(|_| datatype.is_float()) else {
        return;
    };
    let Some(row_bytes) = row.checked_mul(size).filter(|bytes| *bytes > 0) else {
        return;
    };
    let mut order: Vec<(u64, usize)> = Vec::new();
    for row in data.chunks_mut(row_bytes) {
        order.clear();
        order.extend(
            row.chunks(size)
                .map(|element| {
                    let bits = element.iter().rev();
                    let bits =
                        bits.fold(0_u64, |bits, byte| bits.wrapping_shl(8) | u64::from(*byte));
                    // Minus zero is zero. Negative values, possible only in shadow mode, become
                    // zero too.
                    let sign = 1_u64.wrapping_shl(
                        u32::try_from(size)
                            .unwrap_or(0)
                            .wrapping_mul(8)
                            .wrapping_sub(1),
                    );
                    if bits & sign == 0 { bits } else { 0 }
                })
                .zip(0..),
        );
        if k >= order.len() {
            continue;
        }
        order.select_nth_unstable_by(k, |(one, here), (other, there)| {
            other.cmp(one).then(here.cmp(there))
        });
        for (_, index) in order.iter().skip(k) {
            if let Some(element) = row.chunks_mut(size).nth(*index) {
                element.fill(0);
            }
        }
    }
}
