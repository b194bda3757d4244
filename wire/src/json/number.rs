//! JSON numbers, held to RFC 8259's grammar and read as they are scanned: most are short enough that one multiplication or division of
//! two exact floats is their value, rounded once. The others are rounded from their text.

use super::scan::Scanner;
use crate::fault::BodyFault;
use crate::limits::PLAIN_DIGITS;

/// The powers of ten that a double holds exactly.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];
/// Integers up to here are doubles.
const MAX_EXACT_DIGITS: u64 = 1 << 53;
/// Digits of an exponent that are read; more are a number beyond every datatype, or zero.
const MAX_EXPONENT_DIGITS: usize = 4;

/// A number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number<'a> {
    /// As written, ASCII: an optional minus, digits without a leading zero, then fraction and exponent.
    text: &'a [u8],
    /// Neither fraction nor exponent, and not `-0`, which is a float to some parsers.
    pub(super) integer: bool,
    /// Its value, if it has few digits.
    plain: Option<Plain>,
}

/// `digits × 10^exponent`, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plain {
    negative: bool,
    digits: u64,
    exponent: i32,
}

impl Number<'_> {
    /// Whether it has more significant digits than an integer of 64 bits holds: a float's rounding then leaves its fast path, and
    /// one number can cost as much as a thousand.
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

    /// The nearest FP32, infinity if it is beyond them all.
    pub(super) fn to_f32(self) -> Option<f32> {
        self.plain.and_then(Plain::to_f32).or_else(|| self.parse())
    }

    /// The nearest FP64, infinity if it is beyond them all.
    pub(super) fn to_f64(self) -> Option<f64> {
        self.plain.and_then(Plain::to_f64).or_else(|| self.parse())
    }

    /// An integer literal's value, if the type holds it.
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
    /// Exact operands and one operation: what IEEE 754 rounds once (Clinger 1990, the fast path of every parser of floats).
    fn to_f64(self) -> Option<f64> {
        if self.digits > MAX_EXACT_DIGITS {
            return None;
        }
        let power = POWERS_OF_TEN.get(usize::try_from(self.exponent.unsigned_abs()).ok()?)?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "an integer up to 2^53 is a double"
        )]
        let digits = self.digits as f64;
        let value = if self.exponent < 0 {
            digits / power
        } else {
            digits * power
        };
        Some(if self.negative { -value } else { value })
    }

    /// Through a double, which rounds twice. The second rounding goes wrong only if the first ended on the middle between two singles:
    /// anywhere else the double is on the same side of it as the number itself.
    fn to_f32(self) -> Option<f32> {
        /// What a double has below a single's last bit, and the middle of that. Of normal singles only: the others have fewer bits.
        const BELOW: u64 = (1 << 29) - 1;
        const MIDDLE: u64 = 1 << 28;
        let value = self.to_f64()?;
        let normal = f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX);
        if self.digits != 0 && (!normal.contains(&value.abs()) || value.to_bits() & BELOW == MIDDLE)
        {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounding is what it is for"
        )]
        let value = value as f32;
        Some(value)
    }

    fn to_i64(self) -> Option<i64> {
        let value = i64::try_from(self.digits)
            .ok()
            .filter(|_| self.exponent == 0)?;
        Some(if self.negative {
            value.wrapping_neg()
        } else {
            value
        })
    }
}

/// The number that a text begins with, and its size in bytes, if it is as most are: few digits with a point among them or none, no exponent.
#[inline]
fn short(rest: &[u8]) -> Option<(Number<'_>, usize)> {
    let negative = rest.first() == Some(&b'-');
    let start = usize::from(negative);
    let (value, whole) = digits(rest, start, 0);
    let mut end = start.wrapping_add(whole);
    let leading_zero = whole > 1 && rest.get(start) == Some(&b'0');
    let (mut value, mut fraction) = (value, 0);
    let integer = rest.get(end) != Some(&b'.');
    if !integer {
        let behind = end.wrapping_add(1);
        (value, fraction) = digits(rest, behind, value);
        end = behind.wrapping_add(fraction);
    }
    let well_formed = whole > 0 && !leading_zero && (integer || fraction > 0);
    if !well_formed
        || whole.wrapping_add(fraction) > PLAIN_DIGITS
        || matches!(rest.get(end), Some(b'e' | b'E'))
    {
        return None;
    }
    let number = Number {
        text: rest.get(..end)?,
        integer: integer && !(negative && value == 0),
        plain: Some(Plain {
            negative,
            digits: value,
            exponent: i32::try_from(fraction).ok()?.wrapping_neg(),
        }),
    };
    Some((number, end))
}

/// The digits at `from`, appended to a value: what it is then, wrapping, and how many they are.
#[inline]
fn digits(bytes: &[u8], from: usize, mut value: u64) -> (u64, usize) {
    let rest = bytes.get(from..).unwrap_or_default();
    let mut count = 0_usize;
    for byte in rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        count = count.wrapping_add(1);
    }
    (value, count)
}

/// Digits that a scanner went over.
#[derive(Clone, Copy, Default)]
struct Digits {
    /// How many.
    count: usize,
    /// Their value, wrapping: it means something only while there are few.
    value: u64,
}

impl<'a> Scanner<'a> {
    /// Takes a number.
    #[inline]
    pub(super) fn number(&mut self) -> Result<Number<'a>, BodyFault> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        if let Some((number, size)) = short(rest) {
            self.at = self.at.wrapping_add(size);
            return Ok(number);
        }
        self.any_number()
    }

    fn any_number(&mut self) -> Result<Number<'a>, BodyFault> {
        let start = self.at;
        let negative = self.peek() == Some(b'-');
        if negative {
            self.step();
        }
        let mut digits = Digits::default();
        if self.peek() == Some(b'0') {
            self.step();
            digits.count = 1;
        } else {
            self.digits(&mut digits)?;
        }
        let mut integer = true;
        let before = digits.count;
        if self.peek() == Some(b'.') {
            integer = false;
            self.step();
            self.digits(&mut digits)?;
        }
        let fraction = digits.count.wrapping_sub(before);
        let mut exponent = Some(0_i32);
        if let Some(b'e' | b'E') = self.peek() {
            integer = false;
            self.step();
            let sign = self.peek();
            if let Some(b'+' | b'-') = sign {
                self.step();
            }
            let mut said = Digits::default();
            self.digits(&mut said)?;
            exponent = i32::try_from(said.value)
                .ok()
                .filter(|_| said.count <= MAX_EXPONENT_DIGITS)
                .map(|value| {
                    if sign == Some(b'-') {
                        value.wrapping_neg()
                    } else {
                        value
                    }
                });
        }
        let text = self.text.as_bytes().get(start..self.at).unwrap_or_default();
        let plain = exponent
            .filter(|_| digits.count <= PLAIN_DIGITS)
            .zip(i32::try_from(fraction).ok())
            .map(|(exponent, fraction)| Plain {
                negative,
                digits: digits.value,
                exponent: exponent.wrapping_sub(fraction),
            });
        // What follows is checked by whoever takes the next token: a leading zero's second digit is no comma.
        Ok(Number {
            text,
            integer: integer && text != b"-0",
            plain,
        })
    }

    /// Takes one digit or more.
    fn digits(&mut self, into: &mut Digits) -> Result<(), BodyFault> {
        let start = self.at;
        let (value, count) = digits(self.text.as_bytes(), start, into.value);
        if count == 0 {
            return Err(self.form("a digit is expected"));
        }
        self.at = start.wrapping_add(count);
        into.value = value;
        into.count = into.count.wrapping_add(count);
        Ok(())
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

    use super::*;

    fn read(text: &str) -> Number<'_> {
        let mut scanner = Scanner::new(text);
        let number = scanner.number().unwrap();
        assert_eq!(scanner.at, text.len(), "{text}");
        number
    }

    /// Against the standard library, which rounds every text right.
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
        if number.integer {
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
    fn what_lies_on_an_edge_is_read_as_the_standard_library_reads_it() {
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
            "18446744073709551615",
            "18446744073709551616",
            "9999999999999999999",
            "99999999999999999999",
            // Between two singles: exactly, a little above, a little below.
            "16777217",
            "16777217.000000001",
            "16777216.999999999",
            "16777219",
            "1.000000059604644775390625",
            "1.00000005960464477",
            "1.00000005960464478",
            "8388608.5",
            "8388609.5",
            // A double that is in the middle though the number is not.
            "1.0000000596046447",
            "1.0000000596046448",
            "33554433.000000001",
            "33554434.99999999999",
            // Where singles have fewer bits, end, and begin.
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
            let (whole, fraction) = text.split_at(text.len() - cut);
            let whole = if whole.is_empty() { "0" } else { whole };
            let fraction = if fraction.is_empty() { "0" } else { fraction };
            check(&format!("{whole}.{fraction}"));
            check(&format!(
                "-{whole}.{fraction}e{}",
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
    fn digits_are_read_up_to_the_first_byte_that_is_none() {
        for text in [
            "12345678",
            "1234567,",
            "00000000",
            "99999999",
            "0.123456",
            ",1234567",
            "1,345678",
            "12/45678",
            "12:45678",
            "1\u{7f}345678",
            "\0\0\0\0\0\0\0\0",
            "123é567",
            "é123456",
            "12345678901234567890",
            "123456789",
            "1234567",
            "",
            "1",
        ] {
            let expected = text.bytes().take_while(u8::is_ascii_digit).count();
            let value = text[..expected].parse().unwrap_or(0);
            assert_eq!(digits(text.as_bytes(), 0, 0), (value, expected), "{text}");
        }
        // Every byte in every place.
        for place in 0..8 {
            for byte in 0..=u8::MAX {
                let mut eight = *b"98765432";
                eight[place] = byte;
                let size = eight
                    .iter()
                    .take_while(|byte| byte.is_ascii_digit())
                    .count();
                let value = str::from_utf8(&eight[..size]).unwrap().parse().unwrap_or(0);
                assert_eq!(digits(&eight, 0, 0), (value, size), "{eight:?}");
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
