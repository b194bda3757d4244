//! Scans over element data: is every value finite, is every value in range.
//!
//! A scan folds a block of elements into one flag without a branch an element, which the compiler turns into vector code,
//! and looks at the flag once a block. A range is brought into the element's own type once a scan:
//!
//! - Integers: the least and greatest integers in the range, exactly; nothing is rounded into it, beyond 2^53 either.
//! - Floats: the bound is read as that datatype reads it, so that `0.1` on FP32 is the FP32 nearest to 0.1 and includes it. A
//!   bound beyond the datatype's largest finite value never lets an infinity in.
//!
//! NaN lies in no range. It never decides which reason is given.

mod channels;
mod element;
mod listed;
mod release;
mod tally;

use super::TensorRule;
use crate::datatype::Datatype;

pub(crate) use channels::Channels;
pub(in crate::contract) use channels::Place;
pub(crate) use element::{Listed, bounds, listed_bits};
pub(crate) use release::{keep_greatest, round};
pub(in crate::contract) use tally::Tally;

/// Elements a block: large enough to vectorise, small enough to stop early on a bad value.
const BLOCK: usize = 1024;

/// How a scan answers.
trait Scan: Copy {
    type Answer;

    /// No element is bad.
    const CLEAN: Self::Answer;

    /// Tests every element of `SIZE` bytes. Bytes that are left over at the end are bad: nobody has tested them.
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
        !rest.is_empty() || !every(elements, |element| !bad(*element))
    }
}

/// Whether every element is good, looked at in four places of a block at once: one alone leaves most of a core's vector units idle, and
/// the compiler unrolls no loop for a proxy's VM.
#[inline(always)]
fn every<T>(elements: &[T], good: impl Fn(&T) -> bool) -> bool {
    let mut blocks = elements.chunks_exact(BLOCK);
    blocks.all(|block| {
        let (left, right) = block.split_at(BLOCK / 2);
        let (first, second) = left.split_at(BLOCK / 4);
        let (third, fourth) = right.split_at(BLOCK / 4);
        let pairs = first.iter().zip(second).zip(third.iter().zip(fourth));
        pairs.fold(true, |flag, ((one, two), (three, four))| {
            flag & (good(one) & good(two)) & (good(three) & good(four))
        })
    }) && blocks
        .remainder()
        .iter()
        .fold(true, |flag, element| flag & good(element))
}

/// Where the first bad element is.
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

/// Whether every value is one that its rule allows. One scan: a value in range, or listed, is finite.
pub(super) fn clean(rule: &TensorRule, place: Place, data: &[u8]) -> bool {
    if let Some(channels) = &rule.numbers.channels {
        return channels::clean(rule.datatype, channels, place, data);
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

/// Where the first NaN or infinity is, if the rule refuses them.
pub(super) fn first_not_finite(rule: &TensorRule, data: &[u8]) -> Option<usize> {
    if rule.finite {
        not_finite(First, rule.datatype, data)
    } else {
        None
    }
}

/// Where the first value is that is out of the rule's range, of its channel's, or not listed; of BOOL, the first that is neither 0 nor 1.
pub(super) fn first_out_of_range(rule: &TensorRule, place: Place, data: &[u8]) -> Option<usize> {
    if let Some(channels) = &rule.numbers.channels {
        return channels::first_out(rule.datatype, channels, place, data);
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

/// Whether a byte of BOOL is neither 0 nor 1: no value of the datatype, whatever the rule's range.
pub(super) fn holds_no_boolean(rule: &TensorRule, data: &[u8]) -> bool {
    rule.datatype == Datatype::Bool && no_boolean(Any, data)
}

fn no_boolean<S: Scan>(scan: S, data: &[u8]) -> S::Answer {
    scan.run(data, |[byte]: [u8; 1]| byte > 1)
}

/// By the exponent's bits: all ones is NaN or an infinity.
fn not_finite<S: Scan>(scan: S, datatype: Datatype, data: &[u8]) -> S::Answer {
    match datatype {
        Datatype::Fp16 => scan.run(data, |bytes| {
            u16::from_le_bytes(bytes) & FP16.infinity == FP16.infinity
        }),
        Datatype::Bf16 => scan.run(data, |bytes| {
            u16::from_le_bytes(bytes) & BF16.infinity == BF16.infinity
        }),
        Datatype::Fp32 => scan.run(data, |bytes| {
            u32::from_le_bytes(bytes) & FP32_EXPONENT == FP32_EXPONENT
        }),
        Datatype::Fp64 => scan.run(data, |bytes| {
            u64::from_le_bytes(bytes) & FP64_EXPONENT == FP64_EXPONENT
        }),
        _ => S::CLEAN,
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
                // The range holds none of the datatype's values.
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
        // Validation gives these no range: whoever wrote one anyway gets nothing through.
        Datatype::Bytes => scan.run(data, |_: [u8; 1]| true),
    }
}

/// A 16-bit float format.
struct Half {
    /// Bits of the mantissa.
    mantissa_bits: u32,
    /// The exponent's bias.
    bias: u64,
    /// Positive infinity, which is the exponent's bits.
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
    /// The value of a finite magnitude's bits, exactly.
    fn value(&self, magnitude: u16) -> f64 {
        /// An FP64's exponent bias and mantissa width.
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

    /// The greatest finite magnitude's bits.
    const fn max(&self) -> u16 {
        self.infinity.wrapping_sub(1)
    }

    /// The bits of the finite value nearest to a number within the format's range; ties to even.
    fn nearest(&self, number: f64) -> u16 {
        let target = number.abs();
        let (mut below, mut above) = (0_u16, self.max());
        // Finite magnitudes are in the order of their bits: `below` stays at or under the target, `above` at or over it.
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

/// A 16-bit float's sign.
const SIGN: u16 = 0x8000;

/// A 16-bit float's place in the order of all of them, NaNs outermost, -0 just under +0.
const fn place(bits: u16) -> i16 {
    let negative = bits & SIGN != 0;
    (if negative { bits ^ !SIGN } else { bits }).cast_signed()
}

fn half_out_of_range<S: Scan>(scan: S, format: &Half, range: (f64, f64), data: &[u8]) -> S::Answer {
    let Some((least, greatest)) = float_bounds(range, format.value(format.max())) else {
        return scan.run(data, |_: [u8; 2]| true);
    };
    let (least, greatest) = (format.nearest(least), format.nearest(greatest));
    // The two zeros are one number: a bound of either lets both in.
    let least = place(if least == 0 { SIGN } else { least });
    let greatest = place(if greatest == SIGN { 0 } else { greatest });
    scan.run(data, |bytes| {
        let place = place(u16::from_le_bytes(bytes));
        (place < least) | (place > greatest)
    })
}

/// The part of a range that a float format with this greatest finite value can reach; `None` if there is none.
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

/// The least and the greatest integer in a range; least > greatest if there is none.
fn integer_bounds((least, greatest): (f64, f64)) -> (i128, i128) {
    (
        toward_zero(least).map_or(i128::MAX, |whole| {
            if is_below(whole, least) {
                whole.saturating_add(1)
            } else {
                whole
            }
        }),
        toward_zero(greatest).map_or(i128::MIN, |whole| {
            if is_above(whole, greatest) {
                whole.saturating_sub(1)
            } else {
                whole
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

/// Compares a number with itself without its fraction: that is exact, since what is left of a float is a float again.
fn is_below(whole: i128, number: f64) -> bool {
    (whole as f64) < number
}

/// As [`is_below`], the other way.
fn is_above(whole: i128, number: f64) -> bool {
    (whole as f64) > number
}

/// The double nearest to an integer.
const fn nearest_f64(number: i128) -> f64 {
    number as f64
}

/// A double that is a whole number, as one.
pub(super) fn whole(number: f64) -> Option<i128> {
    let whole = toward_zero(number)?;
    (number.is_finite() && !is_below(whole, number) && !is_above(whole, number)).then_some(whole)
}

/// Whether a whole number lies in a range, exactly.
pub(super) fn whole_between(number: i128, least: f64, greatest: f64) -> bool {
    let (least, greatest) = integer_bounds((least, greatest));
    least <= number && number <= greatest
}

/// Whether a range holds any value of a datatype; without one, every request would be refused.
pub(crate) fn holds_a_value(datatype: Datatype, range: (f64, f64)) -> bool {
    let (least, greatest) = integer_bounds(range);
    let integers = |min: i128, max: i128| least.max(min) <= greatest.min(max);
    match datatype {
        Datatype::Uint8 => integers(0, u8::MAX.into()),
        Datatype::Uint16 => integers(0, u16::MAX.into()),
        Datatype::Uint32 => integers(0, u32::MAX.into()),
        Datatype::Uint64 => integers(0, u64::MAX.into()),
        Datatype::Int8 => integers(i8::MIN.into(), i8::MAX.into()),
        Datatype::Int16 => integers(i16::MIN.into(), i16::MAX.into()),
        Datatype::Int32 => integers(i32::MIN.into(), i32::MAX.into()),
        Datatype::Int64 => integers(i64::MIN.into(), i64::MAX.into()),
        Datatype::Fp16 => float_bounds(range, FP16.value(FP16.max())).is_some(),
        Datatype::Bf16 => float_bounds(range, BF16.value(BF16.max())).is_some(),
        Datatype::Fp32 => float_bounds(range, f32::MAX.into()).is_some(),
        Datatype::Fp64 => float_bounds(range, f64::MAX).is_some(),
        Datatype::Bool => integers(0, 1),
        Datatype::Bytes => false,
    }
}

#[cfg(test)]
mod tests;
