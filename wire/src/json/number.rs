//! JSON numbers, parsed once with RFC 8259's grammar. Most are short enough that one multiplication
//! or division of two exact floats gives the correctly rounded value. Others are rounded from their
//! text.

use super::digits::{digit_value, fraction};
use crate::limits::PLAIN_DIGITS;

/// Powers of ten that are exact doubles.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];
/// Integers up to this value are exact doubles.
const MAX_EXACT_DIGITS: u64 = 1 << 53;
/// Maximum digits of an exponent; longer ones overflow every datatype, or give zero.
const MAX_EXPONENT_DIGITS: usize = 4;

/// A number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number<'a> {
    /// ASCII text: optional minus, digits without a leading zero, fraction and exponent.
    text: &'a [u8],
    /// Neither fraction nor exponent, and not `-0`, which some parsers read as a float.
    pub(super) integer: bool,
    /// Its value, if it has few digits.
    pub(super) plain: Option<Plain>,
}

/// `digits × 10^(exponent - places)`, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plain {
    negative: bool,
    digits: u64,
    /// Digits after the point.
    places: usize,
    exponent: i32,
}

/// Parses the number at the beginning of a text, and returns the rest; `Err` is the position of a
/// missing digit. The next token's parser rejects text that directly follows, such as a digit after
/// a leading zero.
// Inlined, so that unused results are never computed.
#[inline(always)]
pub(super) fn walk(text: &[u8]) -> Result<(Number<'_>, &[u8]), usize> {
    #[cfg(test)]
    WALKED.with(|walked| walked.set(walked.get().wrapping_add(1)));
    let position = |rest: &[u8]| text.len().wrapping_sub(rest.len());
    let (negative, unsigned) = match text {
        [b'-', unsigned @ ..] => (true, unsigned),
        unsigned => (false, unsigned),
    };
    let mut rest = unsigned;
    let mut value = 0_u64;
    match unsigned {
        [b'0', behind @ ..] => rest = behind,
        // Usually few, and as many as before: a predicted branch is faster than eight bytes at
        // once.
        [b'1'..=b'9', ..] => {
            while let [digit @ b'0'..=b'9', behind @ ..] = rest {
                value = value.wrapping_mul(10).wrapping_add(digit_value(*digit));
                rest = behind;
            }
        }
        _ => return Err(position(rest)),
    }
    let mut count = unsigned.len().wrapping_sub(rest.len());
    let mut places = 0_usize;
    let mut integer = true;
    if let [b'.', behind @ ..] = rest {
        (value, places, rest) = fraction(behind, value);
        if places == 0 {
            return Err(position(rest));
        }
        count = count.wrapping_add(places);
        integer = false;
    }
    let mut plain = count <= PLAIN_DIGITS;
    let mut exponent = 0;
    if let [b'e' | b'E', behind @ ..] = rest {
        integer = false;
        let parsed;
        (parsed, rest) = walk_exponent(behind).map_err(position)?;
        plain = plain && parsed.is_some();
        exponent = parsed.unwrap_or_default();
    }
    let number = Number {
        text: text.get(..position(rest)).unwrap_or_default(),
        integer: integer && !(negative && matches!(unsigned, [b'0', ..])),
        plain: plain.then_some(Plain {
            negative,
            digits: value,
            places,
            exponent,
        }),
    };
    Ok((number, rest))
}

#[cfg(test)]
std::thread_local! {
    static WALKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Numbers parsed by this thread, including failures.
#[cfg(test)]
pub(super) fn walked() -> usize {
    WALKED.with(std::cell::Cell::get)
}

/// The exponent after `e`, if it has few digits, and the rest; `Err` is the text at a missing
/// digit.
#[cold]
fn walk_exponent(text: &[u8]) -> Result<(Option<i32>, &[u8]), &[u8]> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let mut rest = digits;
    let mut value = 0_i32;
    while let [digit @ b'0'..=b'9', behind @ ..] = rest {
        value = value.wrapping_mul(10).wrapping_add(i32::from(digit & 0xf));
        rest = behind;
    }
    let count = digits.len().wrapping_sub(rest.len());
    if count == 0 {
        return Err(rest);
    }
    let signed = if negative {
        value.wrapping_neg()
    } else {
        value
    };
    Ok(((count <= MAX_EXPONENT_DIGITS).then_some(signed), rest))
}

impl Number<'_> {
    /// Whether it has more significant digits than a 64-bit integer. Rounding then leaves its fast
    /// path and can cost as much as a thousand numbers.
    pub(super) fn is_long(&self) -> bool {
        self.plain.is_none()
            && self
                .text
                .iter()
                .copied()
                .take_while(|byte| !matches!(byte, b'e' | b'E'))
                .filter(u8::is_ascii_digit)
                .skip_while(|byte| *byte == b'0')
                .count()
                > PLAIN_DIGITS
    }

    /// The nearest FP32; infinity on overflow.
    pub(super) fn to_f32(self) -> Option<f32> {
        self.plain.and_then(Plain::to_f32).or_else(|| self.parse())
    }

    /// The nearest FP64; infinity on overflow.
    pub(super) fn to_f64(self) -> Option<f64> {
        self.plain.and_then(Plain::to_f64).or_else(|| self.parse())
    }

    /// Value of an integer literal, if the type can represent it.
    pub(super) fn to_integer<T: TryFrom<i64> + core::str::FromStr>(self) -> Option<T> {
        match self.plain.and_then(Plain::to_i64) {
            Some(value) => T::try_from(value).ok(),
            None => self.parse(),
        }
    }

    fn parse<T: core::str::FromStr>(self) -> Option<T> {
        str::from_utf8(self.text).ok()?.parse().ok()
    }
}

impl Plain {
    /// The nearest FP64 of exact operands and one operation, which IEEE 754 rounds once (Clinger
    /// 1990).
    #[inline(always)]
    pub(super) fn to_f64(self) -> Option<f64> {
        if self.digits > MAX_EXACT_DIGITS {
            return None;
        }
        self.near_f64()
    }

    /// The nearest FP32 by way of a double with at most two roundings. That double is off by less
    /// than two steps. Rounding it again is wrong only near the middle between two singles, which
    /// is detected.
    #[inline(always)]
    pub(super) fn to_f32(self) -> Option<f32> {
        /// Bits of a double below a single's last bit, and their middle.
        const BELOW: u64 = (1 << 29) - 1;
        const MIDDLE: u64 = 1 << 28;
        /// Twice the maximum error of the double.
        const MARGIN: u64 = 4;
        let value = self.near_f64()?;
        // The smallest non-zero value is 1e-22, a normal single; without an exponent the largest
        // has 19 digits.
        let beyond = self.exponent != 0 && value.abs() > f64::from(f32::MAX);
        let above = value.to_bits().wrapping_sub(MIDDLE.wrapping_sub(MARGIN)) & BELOW;
        if beyond || above <= 2 * MARGIN {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounding is what it is for"
        )]
        let value = value as f32;
        Some(value)
    }

    /// The digits' nearest double, divided or multiplied by an exact power of ten.
    #[inline(always)]
    fn near_f64(self) -> Option<f64> {
        // From a signed integer, for which machines have an instruction.
        #[expect(clippy::cast_precision_loss, reason = "its callers know")]
        let digits = i64::try_from(self.digits).ok()? as f64;
        let value = if self.exponent == 0 {
            digits / POWERS_OF_TEN.get(self.places)?
        } else {
            self.scale(digits)?
        };
        Some(if self.negative { -value } else { value })
    }

    /// The same with an exponent.
    #[cold]
    fn scale(self, digits: f64) -> Option<f64> {
        let exponent = self.exponent.wrapping_sub(i32::try_from(self.places).ok()?);
        let power = POWERS_OF_TEN.get(usize::try_from(exponent.unsigned_abs()).ok()?)?;
        Some(if exponent < 0 {
            digits / power
        } else {
            digits * power
        })
    }

    #[inline(always)]
    pub(super) fn to_i64(self) -> Option<i64> {
        let value = i64::try_from(self.digits)
            .ok()
            .filter(|_| self.places == 0 && self.exponent == 0)?;
        Some(if self.negative {
            value.wrapping_neg()
        } else {
            value
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        reason = "tests"
    )]

    use super::super::scan::Scanner;
    use super::*;

    fn read(text: &str) -> Number<'_> {
        let mut scanner = Scanner::new(text);
        let number = scanner.number().unwrap();
        assert_eq!(scanner.at, text.len(), "{text}");
        number
    }

    /// Compares with the standard library, which rounds correctly.
    fn check(text: &str) {
        let number = read(text);
        let (single, double): (f32, f64) = (text.parse().unwrap(), text.parse().unwrap());
        assert_eq!(
            number.to_f32().unwrap().to_bits(),
            single.to_bits(),
            "{text} as FP32"
        );
        assert_eq!(
            number.to_f64().unwrap().to_bits(),
            double.to_bits(),
            "{text} as FP64"
        );
        let integer = text != "-0" && !text.contains(['.', 'e', 'E']);
        assert_eq!(number.integer, integer, "{text}");
        if integer {
            assert_eq!(
                number.to_integer::<i64>(),
                text.parse().ok(),
                "{text} as INT64"
            );
            assert_eq!(
                number.to_integer::<u64>(),
                text.parse().ok(),
                "{text} as UINT64"
            );
            assert_eq!(
                number.to_integer::<i8>(),
                text.parse().ok(),
                "{text} as INT8"
            );
        }
    }

    #[test]
    fn edge_cases_are_read_as_by_the_standard_library() {
        for text in [
            "0",
            "-0",
            "-0.0",
            "0e5",
            "0.000",
            "1",
            "-1",
            "127",
            "128",
            "-128",
            "-129",
            "0.1",
            "0.5",
            "1e22",
            "1e23",
            "1e-22",
            "1e-23",
            "9007199254740992",
            "9007199254740993",
            "9007199254740995",
            "9223372036854775807",
            "9223372036854775808",
            "-9223372036854775808",
            "-9223372036854775809",
            "-18446744073709551616",
            "-36893488147419103232",
            "18446744073709551615",
            "18446744073709551616",
            "9999999999999999999",
            "99999999999999999999",
            // Between two singles: exactly, slightly above, slightly below.
            "16777217",
            "16777217.000000001",
            "16777216.999999999",
            "16777219",
            "1.000000059604644775390625",
            "1.00000005960464477",
            "1.00000005960464478",
            "8388608.5",
            "8388609.5",
            // A double in the middle although the number is not.
            "1.0000000596046447",
            "1.0000000596046448",
            "33554433.000000001",
            "33554434.99999999999",
            // Subnormal, largest and smallest singles.
            "1e-38",
            "1.17549435e-38",
            "1.1754943e-38",
            "1e-45",
            "7e-46",
            "7.1e-46",
            "1e-46",
            "3.4028235e38",
            "3.4028236e38",
            "3.4028235677973366e38",
            "1e39",
            "1e308",
            "1e309",
            "1e0009",
            "1e00009",
            "1e-0005",
            "1e99999999999999999999",
            "0e99999999999999999999",
            "0.0000000000000000000001",
            "123456789012345678.5e-3",
        ] {
            check(text);
        }
    }

    #[test]
    fn a_hundred_thousand_numbers_are_read_as_the_standard_library_reads_them() {
        // xorshift64*: the same numbers each time.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            state.wrapping_mul(0x2545_f491_4f6c_dd1d)
        };
        for _ in 0..25_000 {
            let (digits, cut, exponent) = (next() >> (next() % 60), next() % 20, next() % 90);
            let text = format!("{digits}");
            check(&text);
            let cut = (cut as usize).min(text.len());
            let (integer, fraction) = text.split_at(text.len() - cut);
            let integer = if integer.is_empty() { "0" } else { integer };
            let fraction = if fraction.is_empty() { "0" } else { fraction };
            check(&format!("{integer}.{fraction}"));
            check(&format!(
                "-{integer}.{fraction}e{}",
                exponent.cast_signed() - 45
            ));
            // As a single is printed, and one step off the middle to the next.
            let single = f32::from_bits(next() as u32);
            if single.is_finite() {
                check(&format!("{single:e}"));
                let middle = f64::midpoint(f64::from(single), f64::from(single.next_up()));
                if middle.is_finite() {
                    check(&format!("{middle:e}"));
                    check(&format!("{:e}", middle.next_up()));
                    check(&format!("{:e}", middle.next_down()));
                }
            }
        }
    }

    #[test]
    fn only_many_significant_digits_make_a_number_long() {
        for (text, long) in [
            ("1234567890123456789", false),
            ("12345678901234567890", true),
            ("0.00000000000000000001", false),
            ("0.000000000000000000012345678901234567890", true),
            ("1.5e00000000000000000000000000", false),
            ("100000000000000000000", true),
        ] {
            assert_eq!(read(text).is_long(), long, "{text}");
        }
    }
}
