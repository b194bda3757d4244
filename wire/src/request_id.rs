//! The form of request ids: those of Envoy and of the gate are UUIDs. Other texts in their place
//! are a client's, and are neither logged as an id nor joined by it.

use tensorgate_policy::{hex_digits, unhex};

/// Length of a UUID as text, and where its dashes stand (RFC 9562, section 4).
const UUID_CHARS: usize = 36;
const DASHES: [usize; 4] = [8, 13, 18, 23];

/// Whether a text has the form of a UUID.
pub fn is_uuid(text: &str) -> bool {
    let mut bytes = text.bytes().enumerate();
    text.len() == UUID_CHARS
        && bytes.all(|(position, byte)| {
            if DASHES.contains(&position) {
                byte == b'-'
            } else {
                byte.is_ascii_hexdigit()
            }
        })
}

/// The bytes of a UUID in lower case.
pub(crate) fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    if !is_uuid(text) {
        return None;
    }
    let mut digits = [0; 32];
    let of_text = text.bytes().filter(|byte| *byte != b'-');
    for (digit, byte) in digits.iter_mut().zip(of_text) {
        *digit = byte;
    }
    unhex(&digits)
}

/// A UUID with these bytes, as text.
pub fn uuid_text(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(UUID_CHARS);
    for digit in hex_digits(&bytes) {
        if DASHES.contains(&text.len()) {
            text.push('-');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{is_uuid, uuid_bytes, uuid_text};

    #[test]
    fn the_bytes_of_a_uuid_are_its_digits() {
        let bytes = 0x8f1a_2b3c_0000_4000_8000_0000_0000_00aa_u128.to_be_bytes();
        let text = "8f1a2b3c-0000-4000-8000-0000000000aa";
        assert_eq!(uuid_text(bytes), text);
        assert_eq!(uuid_bytes(text), Some(bytes));
        for other in [
            "",
            "8F1A2B3C-0000-4000-8000-0000000000AA",
            "8f1a2b3c-0000-4000-8000-0000000000a",
            "8f1a2b3c-0000-4000-8000-0000000000aaa",
            "8f1a2b3c00004000800000000000000000aa",
            "8f1a2b3c-0000-4000-80000-000000000aa",
        ] {
            assert_eq!(uuid_bytes(other), None, "{other}");
        }
    }

    #[test]
    fn only_five_groups_of_hex_digits_are_a_uuid() {
        for (text, expected) in [
            ("8f1a2b3c-0000-4000-8000-0000000000aa", true),
            ("8F1A2B3C-0000-4000-8000-0000000000AA", true),
            ("", false),
            ("------------------------------------", false),
            ("8f1a2b3c000040008000000000000000aaaa", false),
            ("8f1a2b3-c0000-4000-8000-0000000000aa", false),
            ("8f1a2b3g-0000-4000-8000-0000000000aa", false),
            ("8f1a2b3c-0000-4000-8000-0000000000aa-", false),
        ] {
            assert_eq!(is_uuid(text), expected, "{text:?}");
        }
    }
}
