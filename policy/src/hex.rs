//! Bytes as text, as digests and keys are written everywhere. Nothing is read back here.

use alloc::string::String;

/// Lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0xf])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_byte_is_two_digits() {
        for byte in 0..=u8::MAX {
            assert_eq!(super::hex(&[byte]), alloc::format!("{byte:02x}"));
        }
        assert_eq!(super::hex(&[]), "");
        assert_eq!(super::hex(&[0, 0xab, 1]), "00ab01");
    }
}
