//! Scans over element data: whether all values are finite and in range.
//!
//! A scan folds a block of elements into one flag without a branch per element, which the compiler
//! turns into vector code. The flag is tested once per block. A range is converted to the element's
//! type once per scan:
//!
//! - Integers: the smallest and largest integers in the range, exactly; nothing is rounded, even
//!   beyond 2^53.
//! - Floats: the bound is rounded to the datatype, so `0.1` for FP32 is the FP32 nearest to 0.1 and
//!   includes it. A bound beyond the largest finite value never includes infinity.
//!
//! NaN is in no range. The scans never choose the denial reason.

mod agreement;
mod channels;
mod element;
mod listed;
mod release;
mod tally;
mod top_score;

use tensorgate_kernels::widest;
use tensorgate_values::datatype::{Datatype, FloatFormat};

use super::TensorRule;

pub(in crate::contract) use agreement::first_difference;
pub use channels::Channels;
pub(in crate::contract) use channels::DataPosition;
pub use element::{Listed, bounds, listed_bits};
pub(crate) use release::{keep_greatest, round};
pub(in crate::contract) use tally::Tally;
pub(crate) use top_score::top_score;

/// Elements per block: large enough to vectorise, small enough to stop early at a bad value.
const BLOCK: usize = 1024;

/// How a scan reports its result.
trait Scan: Copy {
    type Answer;

    /// The result if no element is bad.
    const CLEAN: Self::Answer;

    /// Tests every element of `SIZE` bytes. Remaining bytes at the end are bad, because they are
    /// not tested.
    fn run<const SIZE: usize>(self, data: &[u8], bad: impl Fn([u8; SIZE]) -> bool) -> Self::Answer;
}

/// Whether any element is bad.
#[derive(Clone, Copy)]
struct Any;

impl Scan for Any {
    type Answer = bool;

    const CLEAN: bool = false;

    fn run<const SIZE: usize>(self, data: &[u8], bad: impl Fn([u8; SIZE]) -> bool) -> bool {
        let (elements, rest) = data.as_chunks::<SIZE>();
        !rest.is_empty() || !widest(|| every(elements, |element| !bad(*element)))
    }
}

/// Whether every element is good. The scan uses four positions of a block at once, because one
/// alone leaves most vector units idle and the compiler unrolls no loops for a proxy's VM.
#[inline(always)]
fn every<T>(elements: &[T], is_valid: impl Fn(&T) -> bool) -> bool {
    let mut blocks = elements.chunks_exact(BLOCK);
    blocks.all(|block| {
        let (left, right) = block.split_at(BLOCK / 2);
        let (first, second) = left.split_at(BLOCK / 4);
        let (third, fourth) = right.split_at(BLOCK / 4);
        let pairs = first.iter().zip(second).zip(third.iter().zip(fourth));
        pairs.fold(true, |flag, ((one, two), (three, four))| {
            flag & (is_valid(one) & is_valid(two)) & (is_valid(three) & is_valid(four))
        })
    }) && blocks
        .remainder()
        .iter()
        .fold(true, |flag, element| flag & is_valid(element))
}

/// Index of the first bad element.
#[derive(Clone, Copy)]
struct First;

impl Scan for First {
    type Answer = Option<usize>;

    const CLEAN: Option<usize> = None;

    fn run<const SIZE: usize>(
        self,
        data: &[u8],
        bad: impl Fn([u8; SIZE]) -> bool,
    ) -> Option<usize> {
        let (elements, rest) = data.as_chunks::<SIZE>();
        let left_over = (!rest.is_empty()).then_some(elements.len());
        elements
            .iter()
            .position(|element| bad(*element))
            .or(left_over)
    }
}

/// Whether the rule allows every value, in one scan: a value in range or in the list is finite.
pub(super) fn clean(rule: &TensorRule, position: DataPosition, data: &[u8]) -> bool {
    if let Some(channels) = &rule.numbers.channels {
        return channels::clean(rule.datatype, channels, position, data);
    }
    if let Some(bits) = &rule.numbers.allowed {
        let size = rule.datatype.size_bytes().unwrap_or(0);
        return !listed::listed(Any, size, bits, data);
    }
    match rule.range {
        Some(range) => !out_of_range(Any, rule.datatype, range, data),
        None if rule.datatype == Datatype::Bool => !no_boolean(Any, data),
        None => !(rule.finite && not_finite(Any, rule.datatype, data)),
    }
}

/// Index of the first NaN or infinity, if the rule rejects them.
pub(super) fn first_not_finite(rule: &TensorRule, data: &[u8]) -> Option<usize> {
    if rule.finite {
        not_finite(First, rule.datatype, data)
    } else {
        None
    }
}

/// Index of the first value outside its range, its channel's range or the allowed list; for BOOL,
/// the first value other than 0 and 1.
pub(super) fn first_out_of_range(
    rule: &TensorRule,
    position: DataPosition,
    data: &[u8],
) -> Option<usize> {
    if let Some(channels) = &rule.numbers.channels {
        return channels::first_out(rule.datatype, channels, position, data);
    }
    if let Some(bits) = &rule.numbers.allowed {
        let size = rule.datatype.size_bytes().unwrap_or(0);
        return listed::listed(First, size, bits, data);
    }
    match rule.range {
        Some(range) => out_of_range(First, rule.datatype, range, data),
        None if rule.datatype == Datatype::Bool => no_boolean(First, data),
        None => None,
    }
}

/// Whether a value lies outside a range, which need not be the rule's.
pub(super) fn leaves(datatype: Datatype, range: (f64, f64), data: &[u8]) -> bool {
    out_of_range(Any, datatype, range, data)
}

/// Whether a BOOL byte is neither 0 nor 1, which is invalid for any range.
pub(super) fn holds_no_boolean(rule: &TensorRule, data: &[u8]) -> bool {
    rule.datatype == Datatype::Bool && no_boolean(Any, data)
}

fn no_boolean<S: Scan>(scan: S, data: &[u8]) -> S::Answer {
    scan.run(data, |[byte]: [u8; 1]| byte > 1)
}

/// Tests the exponent bits: all ones mean NaN or infinity.
fn not_finite<S: Scan>(scan: S, datatype: Datatype, data: &[u8]) -> S::Answer {
    match datatype.float_format() {
        Some(FloatFormat::Fp16) => scan.run(data, |bytes| {
            u16::from_le_bytes(bytes) & FP16.infinity == FP16.infinity
        }),
        Some(FloatFormat::Bf16) => scan.run(data, |bytes| {
            u16::from_le_bytes(bytes) & BF16.infinity == BF16.infinity
        }),
        Some(FloatFormat::Fp32) => scan.run(data, |bytes| {
            u32::from_le_bytes(bytes) & FP32_EXPONENT == FP32_EXPONENT
        }),
        Some(FloatFormat::Fp64) => scan.run(data, |bytes| {
            u64::from_le_bytes(bytes) & FP64_EXPONENT == FP64_EXPONENT
        }),
        None => S::CLEAN,
    }
}

const FP32_EXPONENT: u32 = f32::INFINITY.to_bits();
const FP64_EXPONENT: u64 = f64::INFINITY.to_bits();

fn out_of_range<S: Scan>(scan: S, datatype: Datatype, range: (f64, f64), data: &[u8]) -> S::Answer {
    macro_rules! integers {
        ($type:ty) => {{
            let (least, greatest) = integer_bounds(range);
            let least = least.max(i128::from(<$type>::MIN));
            let greatest = greatest.min(i128::from(<$type>::MAX));
            match (<$type>::try_from(least), <$type>::try_from(greatest)) {
                (Ok(least), Ok(greatest)) => scan.run(data, |bytes| {
                    let value = <$type>::from_le_bytes(bytes);
                    (value < least) | (value > greatest)
                }),
                // The range contains no value of the datatype.
                _ => scan.run(data, |_: [u8; size_of::<$type>()]| true),
            }
        }};
    }
    macro_rules! floats {
        ($type:ty, $narrow:expr) => {
            match float_bounds(range, f64::from(<$type>::MAX)) {
                Some((least, greatest)) => {
                    let (least, greatest) = ($narrow(least), $narrow(greatest));
                    // Written so that NaN, which compares with nothing, is outside.
                    scan.run(data, |bytes| {
                        let value = <$type>::from_le_bytes(bytes);
                        !((value >= least) & (value <= greatest))
                    })
                }
                None => scan.run(data, |_: [u8; size_of::<$type>()]| true),
            }
        };
    }
    match datatype {
        Datatype::Uint8 => integers!(u8),
        Datatype::Uint16 => integers!(u16),
        Datatype::Uint32 => integers!(u32),
        Datatype::Uint64 => integers!(u64),
        Datatype::Int8 => integers!(i8),
        Datatype::Int16 => integers!(i16),
        Datatype::Int32 => integers!(i32),
        Datatype::Int64 => integers!(i64),
        Datatype::Fp16 => half_out_of_range(scan, &FP16, range, data),
        Datatype::Bf16 => half_out_of_range(scan, &BF16, range, data),
        Datatype::Fp32 => floats!(f32, nearest_f32),
        Datatype::Fp64 => floats!(f64, core::convert::identity),
        Datatype::Bool => {
            let (least, greatest) = integer_bounds(range);
            let allowed = |value: u8| (least..=greatest).contains(&value.into());
            let (no, yes) = (allowed(0), allowed(1));
            scan.run(data, |[byte]: [u8; 1]| {
                !((no & (byte == 0)) | (yes & (byte == 1)))
            })
        }
        // Validation gives these no range; if one exists anyway, everything is rejected.
        Datatype::Bytes => scan.run(data, |_: [u8; 1]| true),
    }
}

/// A 16-bit float format.
struct Half {
    /// Number of mantissa bits.
    mantissa_bits: u32,
    /// Exponent bias.
    bias: u64,
    /// Positive infinity, which is also the exponent mask.
    infinity: u16,
}

const FP16: Half = Half {
    mantissa_bits: 10,
    bias: 15,
    infinity: 0x7c00,
};
const BF16: Half = Half {
    mantissa_bits: 7,
    bias: 127,
    infinity: 0x7f80,
};

impl Half {
    /// The exact value of a finite magnitude.
    fn value(&self, magnitude: u16) -> f64 {
        /// Exponent bias and mantissa width of an FP64.
        const BIAS: u64 = 1023;
        const MANTISSA_BITS: u32 = 52;
        let bits = u64::from(magnitude);
        let exponent = bits.unbounded_shr(self.mantissa_bits);
        let mantissa = bits ^ exponent.unbounded_shl(self.mantissa_bits);
        let power = |exponent: u64| {
            f64::from_bits(
                exponent
                    .wrapping_add(BIAS)
                    .wrapping_sub(self.bias)
                    .unbounded_shl(MANTISSA_BITS),
            )
        };
        // A subnormal has the smallest exponent and no leading one.
        let (leading, exponent) = if exponent == 0 {
            (0_u16, 1)
        } else {
            (1, exponent)
        };
        let unit = f64::from(1_u16.unbounded_shl(self.mantissa_bits));
        let mantissa = u16::try_from(mantissa).map_or(f64::NAN, f64::from);
        (f64::from(leading) + mantissa / unit) * power(exponent)
    }

    /// Bits of the largest finite magnitude.
    const fn max(&self) -> u16 {
        self.infinity.wrapping_sub(1)
    }

    /// Bits of the finite value nearest to a number within the format's range; ties to even.
    fn nearest(&self, number: f64) -> u16 {
        let target = number.abs();
        let (mut below, mut above) = (0_u16, self.max());
        // Finite magnitudes are ordered like their bits: `below` stays at or under the target,
        // `above` at or over it.
        while above.wrapping_sub(below) > 1 {
            let middle = below.midpoint(above);
            if self.value(middle) <= target {
                below = middle
            } else {
                above = middle
            }
        }
        let (down, up) = (target - self.value(below), self.value(above) - target);
        let even_is_below = below & 1 == 0;
        let magnitude = if down < up || (down == up && even_is_below) {
            below
        } else {
            above
        };
        if number < 0.0 {
            magnitude | SIGN
        } else {
            magnitude
        }
    }
}

/// Sign bit of a 16-bit float.
const SIGN: u16 = 0x8000;

/// Rank of a 16-bit float in the order of all values: NaNs outermost, -0 just below +0.
const fn rank(bits: u16) -> i16 {
    let negative = bits & SIGN != 0;
    (if negative { bits ^ !SIGN } else { bits }).cast_signed()
}

fn half_out_of_range<S: Scan>(scan: S, format: &Half, range: (f64, f64), data: &[u8]) -> S::Answer {
    let Some((least, greatest)) = half_bounds(format, range) else {
        return scan.run(data, |_: [u8; 2]| true);
    };
    scan.run(data, |bytes| {
        let rank = rank(u16::from_le_bytes(bytes));
        (rank < least) | (rank > greatest)
    })
}

/// The ranks of the smallest and largest value in a range; `None` if empty.
fn half_bounds(format: &Half, range: (f64, f64)) -> Option<(i16, i16)> {
    let (least, greatest) = float_bounds(range, format.value(format.max()))?;
    let (least, greatest) = (format.nearest(least), format.nearest(greatest));
    // Both zeros are the same number: a bound at either includes both.
    let least = rank(if least == 0 { SIGN } else { least });
    let greatest = rank(if greatest == SIGN { 0 } else { greatest });
    Some((least, greatest))
}

/// The part of a range that a float format with this largest finite value can represent; `None` if
/// empty.
fn float_bounds((least, greatest): (f64, f64), max: f64) -> Option<(f64, f64)> {
    if least <= greatest && least <= max && greatest >= -max {
        Some((least.max(-max), greatest.min(max)))
    } else {
        None
    }
}

/// The FP32 nearest to a number within FP32's range.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to the nearest FP32 is what is wanted"
)]
const fn nearest_f32(number: f64) -> f32 {
    number as f32
}

/// Smallest and largest integer in a range; smallest > largest if there is none.
pub(super) fn integer_bounds((least, greatest): (f64, f64)) -> (i128, i128) {
    (
        toward_zero(least).map_or(i128::MAX, |integer| {
            if is_below(integer, least) {
                integer.saturating_add(1)
            } else {
                integer
            }
        }),
        toward_zero(greatest).map_or(i128::MIN, |integer| {
            if is_above(integer, greatest) {
                integer.saturating_sub(1)
            } else {
                integer
            }
        }),
    )
}

/// A number without its fraction, saturating far beyond every datatype's range; `None` for NaN.
#[expect(
    clippy::cast_possible_truncation,
    reason = "float to integer casts saturate, and dropping the fraction is what is wanted"
)]
const fn toward_zero(number: f64) -> Option<i128> {
    if number.is_nan() {
        None
    } else {
        Some(number as i128)
    }
}

/// Compares a number with its integer part. This is exact, because the fraction of a float is a
/// float.
fn is_below(integer: i128, number: f64) -> bool {
    (integer as f64) < number
}

/// As [`is_below`], in the other direction.
fn is_above(integer: i128, number: f64) -> bool {
    (integer as f64) > number
}

/// The double nearest to an integer.
const fn nearest_f64(number: i128) -> f64 {
    number as f64
}

/// A whole double as an integer.
pub(super) fn exact_integer(number: f64) -> Option<i128> {
    let integer = toward_zero(number)?;
    (number.is_finite() && !is_below(integer, number) && !is_above(integer, number))
        .then_some(integer)
}

/// Whether an integer lies in a range, exactly.
pub(super) fn integer_in_range(number: i128, least: f64, greatest: f64) -> bool {
    let (least, greatest) = integer_bounds((least, greatest));
    least <= number && number <= greatest
}

/// Whether a range contains any value of a datatype; otherwise every request would be rejected.
pub fn holds_a_value(datatype: Datatype, range: (f64, f64)) -> bool {
    if let Some((min, max)) = datatype.integer_range() {
        let (least, greatest) = integer_bounds(range);
        return least.max(min) <= greatest.min(max);
    }
    let max = match datatype.float_format() {
        Some(FloatFormat::Fp16) => FP16.value(FP16.max()),
        Some(FloatFormat::Bf16) => BF16.value(BF16.max()),
        Some(FloatFormat::Fp32) => f32::MAX.into(),
        Some(FloatFormat::Fp64) => f64::MAX,
        None => return false,
    };
    float_bounds(range, max).is_some()
}

#[cfg(test)]
mod tests;
