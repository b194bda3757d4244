//! The largest score of a row, and its share of all of them.

use tensorgate_values::datatype::{Datatype, FloatFormat};

use super::{BF16, FP16, Half, SIGN, toward_zero};

/// Shares are given in millionths.
const MILLION: f64 = 1_000_000.0;

/// The position of the largest score of a row, and its share of their sum in millionths. `None`
/// without a score above zero, or if one is not finite.
pub(crate) fn top_score(datatype: Datatype, row: &[u8]) -> Option<(usize, u32)> {
    match datatype.float_format() {
        Some(FloatFormat::Fp16) => top(row.as_chunks().0.iter().map(|bytes| half(&FP16, *bytes))),
        Some(FloatFormat::Bf16) => top(row.as_chunks().0.iter().map(|bytes| half(&BF16, *bytes))),
        Some(FloatFormat::Fp32) => {
            let scores = row.as_chunks().0.iter();
            top(scores.map(|bytes| f64::from(f32::from_le_bytes(*bytes))))
        }
        Some(FloatFormat::Fp64) => {
            let scores = row.as_chunks().0.iter();
            top(scores.map(|bytes| f64::from_le_bytes(*bytes)))
        }
        None => None,
    }
}

/// A 16-bit float of zero or more. Others are zero.
fn half(format: &Half, bytes: [u8; 2]) -> f64 {
    let bits = u16::from_le_bytes(bytes);
    if bits & SIGN == 0 && bits < format.infinity {
        format.value(bits)
    } else {
        0.0
    }
}

fn top(scores: impl Iterator<Item = f64>) -> Option<(usize, u32)> {
    let (mut sum, mut greatest, mut position) = (0.0, 0.0, 0);
    for (index, score) in scores.enumerate() {
        sum += score.max(0.0);
        if score > greatest {
            (greatest, position) = (score, index);
        }
    }
    let millionths = toward_zero(greatest / sum * MILLION)?;
    Some((position, u32::try_from(millionths).ok()?))
}
