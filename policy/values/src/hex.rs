//! Hex encoding and decoding of digests and keys.

use alloc::string::String;

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    text.extend(hex_digits(bytes));
    text
}

/// The same digits, one by one.
pub fn hex_digits(bytes: &[u8]) -> impl Iterator<Item = char> + '_ {
    let digit = |value: u8| {
        char::from(match value {
            0..=9 => value.wrapping_add(b'0'),
            _ => value.wrapping_add(b'a' - 10),
        })
    };
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.map(digit)
}

/// Decodes exactly `N` bytes of lower-case hex digits.
pub fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => digit.checked_sub(b'0'),
        b'a'..=b'f' => digit.checked_sub(b'a')?.checked_add(10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn as_many_bytes_are_read_back_and_no_others() {
        for byte in 0..=u8::MAX {
            let text = super::hex(&[byte, 0x5a]);
            assert_eq!(super::unhex(text.as_bytes()), Some([byte, 0x5a]));
        }
        for text in [
            "", "0", "000", "00000", "0000 ", "00FF", "00fg", "+00f", "0x00", "00é",
        ] {
            assert_eq!(super::unhex::<2>(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn every_byte_is_two_digits() {
        for byte in 0..=u8::MAX {
            assert_eq!(super::hex(&[byte]), alloc::format!("{byte:02x}"));
        }
        assert_eq!(super::hex(&[]), "");
        assert_eq!(super::hex(&[0, 0xab, 1]), "00ab01");
    }
}
