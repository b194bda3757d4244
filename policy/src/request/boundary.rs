//! The boundary of a multipart form, as declared in the head.

/// Maximum length (RFC 2046, 5.1.1).
const MAX_BYTES: usize = 70;

/// A boundary: letters, digits and other characters that need no quotes. It is small and copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary {
    text: [u8; MAX_BYTES],
    bytes: u8,
}

impl Boundary {
    /// A boundary with this text; `None` if it is empty, too long or needs quotes.
    pub fn new(text: &str) -> Option<Self> {
        let plain = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'\'' | b'+' | b'_' | b'-' | b'.')
        };
        if text.is_empty() || !text.bytes().all(plain) {
            return None;
        }
        let mut bytes = [0; MAX_BYTES];
        bytes
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());
        Some(Self {
            text: bytes,
            bytes: u8::try_from(text.len()).ok()?,
        })
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        let text = self.text.get(..usize::from(self.bytes));
        // The bytes came from a text.
        text.and_then(|text| core::str::from_utf8(text).ok())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_is_a_short_word_that_needs_no_quotes() {
        let longest = "x".repeat(MAX_BYTES);
        for (text, is_valid) in [
            ("x", true),
            ("----WebKitFormBoundary7MA4YWxkTrZu0gW", true),
            ("------------------------d74496d66958873e", true),
            ("a.b_c+d\'e", true),
            (longest.as_str(), true),
            (&"x".repeat(MAX_BYTES + 1), false),
            ("", false),
            ("a b", false),
            ("a:b", false),
            ("a=b", false),
            ("a\"b", false),
            ("a\r\nb", false),
            ("\u{e9}", false),
        ] {
            let boundary = Boundary::new(text);
            assert_eq!(boundary.is_some(), is_valid, "{text:?}");
            if let Some(boundary) = boundary {
                assert_eq!(boundary.as_str(), text);
            }
        }
    }
}
