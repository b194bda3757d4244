//! Converts decimal digits to their value, eight bytes at a time. The grammar is checked elsewhere.

/// Ten to the power of eight.
const EIGHT_PLACES: u64 = 100_000_000;

/// Value of a digit byte.
#[inline(always)]
pub(super) fn digit_value(digit: u8) -> u64 {
    u64::from(digit & 0xf)
}

/// Appends leading digits of a text to a value: returns the value (wrapping), the number of places,
/// and the rest. Places may exceed the digits, as if zeros followed; without digits there are none.
#[inline(always)]
pub(super) fn fraction(text: &[u8], value: u64) -> (u64, usize, &[u8]) {
    let Some((eight, behind)) = text.split_first_chunk() else {
        return more(text, value, 0);
    };
    let eight = Eight::new(eight);
    let moved = value.wrapping_mul(EIGHT_PLACES);
    if eight.others == 0 {
        return more(behind, moved.wrapping_add(eight.value()), 8);
    }
    let size = eight.size();
    let rest = text.get(size..).unwrap_or_default();
    let places = if size == 0 { 0 } else { 8 };
    (moved.wrapping_add(eight.padded().value()), places, rest)
}

/// Eight bytes of text in one register, the first one lowest (Lemire, "Quickly parsing eight
/// digits", 2018).
#[derive(Clone, Copy)]
struct Eight {
    /// A digit's byte is its value; other bytes are above 9.
    values: u64,
    /// The highest bit of the first non-digit byte; bits after it are undefined.
    others: u64,
}

impl Eight {
    #[inline(always)]
    const fn new(text: &[u8; 8]) -> Self {
        let values = u64::from_le_bytes(*text) ^ 0x3030_3030_3030_3030;
        // A byte of 0x8a or more carries into the next one, which is after the first non-digit.
        let others = (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080;
        Self { values, others }
    }

    /// Number of leading digits.
    #[inline(always)]
    fn size(self) -> usize {
        usize::try_from(self.others.trailing_zeros() >> 3).unwrap_or_default()
    }

    /// With zeros from the first non-digit on; there is one.
    #[inline(always)]
    const fn padded(self) -> Self {
        // All bits below the lowest set bit, which is a byte's highest.
        let below = (self.others & self.others.wrapping_neg()).wrapping_sub(1);
        Self {
            values: self.values & (below >> 7),
            others: 0,
        }
    }

    /// The value of eight digits.
    #[inline(always)]
    const fn value(self) -> u64 {
        // Pairs of digits (at most 99) in every other byte; then groups of four (9999) and eight.
        // Overflow of a lane is masked or shifted out.
        let pairs = self.values.wrapping_mul(10).wrapping_add(self.values >> 8);
        let left = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(0x000f_4240_0000_0064);
        let right = ((pairs >> 16) & 0x0000_00ff_0000_00ff).wrapping_mul(0x0000_2710_0000_0001);
        left.wrapping_add(right) >> 32
    }
}

/// The same without padding: after eight digits, or for fewer remaining bytes.
#[inline(never)]
fn more(mut text: &[u8], mut value: u64, mut places: usize) -> (u64, usize, &[u8]) {
    while let Some((eight, behind)) = text.split_first_chunk() {
        let eight = Eight::new(eight);
        if eight.others != 0 {
            break;
        }
        value = value.wrapping_mul(EIGHT_PLACES).wrapping_add(eight.value());
        places = places.wrapping_add(8);
        text = behind;
    }
    while let [digit @ b'0'..=b'9', behind @ ..] = text {
        value = value.wrapping_mul(10).wrapping_add(digit_value(*digit));
        places = places.wrapping_add(1);
        text = behind;
    }
    (value, places, text)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests"
    )]

    use super::*;

    /// Compares with byte-wise parsing, after a value of 7.
    fn check(text: &[u8]) {
        let size = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (value, places, rest) = fraction(text, 7);
        assert_eq!(rest, &text[size..], "{text:?}");
        if size == 0 {
            assert_eq!(places, 0, "{text:?}");
            return;
        }
        assert!(places == size || (size < 8 && places == 8), "{text:?}");
        if places <= 18 {
            let digits = str::from_utf8(&text[..size]).unwrap();
            let expected: u64 = format!("7{digits:0<places$}").parse().unwrap();
            assert_eq!(value, expected, "{text:?}");
        }
    }

    #[test]
    fn digits_are_read_up_to_the_first_byte_that_is_none() {
        for text in [
            "12345678",
            "1234567,",
            "00000000",
            "99999999",
            "00000001,",
            "0.123456",
            ",1234567",
            "1,345678",
            "12/45678",
            "12:45678",
            "1\u{7f}345678",
            "\0\0\0\0\0\0\0\0",
            "123é567",
            "é123456",
            "123456789",
            "123456789,23456789",
            "1234567812345678",
            "1234567812345678,",
            "123456781234567812,456789",
            "12345678901234567890123456789012345678901234567890,",
            "1234567",
            "",
            "1",
            "9,",
        ] {
            check(text.as_bytes());
        }
        // Every byte at every position of two registers.
        for position in 0..16 {
            for byte in 0..=u8::MAX {
                let mut text = *b"98765432198765432198765432";
                text[position] = byte;
                check(&text);
                check(&text[..=position]);
                text[position..].fill(byte);
                check(&text);
            }
        }
    }
}
