//! Compares two runs of elements, floats within a tolerance.

use tensorgate_values::datatype::{Datatype, FloatFormat};

use super::{BF16, FP16, Half, SIGN};

/// Index of the first difference; `None` if equal. Runs of different lengths differ at the end of
/// the shorter one.
pub(in crate::contract) fn first_difference(
    datatype: Datatype,
    one: &[u8],
    other: &[u8],
    tolerance: f64,
) -> Option<usize> {
    let bits = |bytes: [u8; 2], half: &Half| half_value(half, u16::from_le_bytes(bytes));
    match datatype.float_format() {
        Some(FloatFormat::Fp16) => floats(one, other, tolerance, |bytes| bits(bytes, &FP16)),
        Some(FloatFormat::Bf16) => floats(one, other, tolerance, |bytes| bits(bytes, &BF16)),
        Some(FloatFormat::Fp32) => {
            let value = |bytes| f64::from(f32::from_le_bytes(bytes));
            floats(one, other, tolerance, value)
        }
        Some(FloatFormat::Fp64) => floats(one, other, tolerance, f64::from_le_bytes),
        None => {
            let differ = one.iter().zip(other).position(|(a, b)| a != b);
            let end = (one.len() != other.len()).then(|| one.len().min(other.len()));
            let width = datatype.size_bytes().unwrap_or(1).max(1);
            differ.or(end).map(|offset| offset.div_euclid(width))
        }
    }
}

fn half_value(half: &Half, bits: u16) -> f64 {
    let magnitude = bits & !SIGN;
    let value = match magnitude.cmp(&half.infinity) {
        core::cmp::Ordering::Less => half.value(magnitude),
        core::cmp::Ordering::Equal => f64::INFINITY,
        core::cmp::Ordering::Greater => f64::NAN,
    };
    if bits == magnitude { value } else { -value }
}

fn floats<const N: usize>(
    one: &[u8],
    other: &[u8],
    tolerance: f64,
    value: impl Fn([u8; N]) -> f64,
) -> Option<usize> {
    let (one, rest) = one.as_chunks();
    let (other, other_rest) = other.as_chunks();
    let differ =
        (one.iter().zip(other)).position(|(a, b)| a != b && !near(value(*a), value(*b), tolerance));
    let end = (one.len() != other.len() || rest != other_rest).then(|| one.len().min(other.len()));
    differ.or(end)
}

/// Whether two values differ by at most the tolerance, relative to the larger one or to 1. A NaN
/// equals another, an infinity itself.
fn near(one: f64, other: f64, tolerance: f64) -> bool {
    if one.is_nan() || other.is_nan() {
        return one.is_nan() && other.is_nan();
    }
    if one.is_infinite() || other.is_infinite() {
        return one.total_cmp(&other).is_eq();
    }
    (one - other).abs() <= tolerance * one.abs().max(other.abs()).max(1.0)
}
