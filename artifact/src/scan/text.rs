//! Texts: which files are nothing but text.

use std::io;

use super::Input;
use super::magic::read_at;

/// Bytes that are looked at together.
const CHUNK_BYTES: u64 = 64 << 10;

/// Whether a file is text in UTF-8 without control characters, to its last byte.
pub(super) fn is_text(input: &mut dyn Input) -> io::Result<bool> {
    let mut offset: u64 = 0;
    loop {
        let chunk = read_at(input, offset, CHUNK_BYTES)?;
        if chunk.is_empty() {
            return Ok(true);
        }
        let valid = match std::str::from_utf8(&chunk) {
            Ok(text) => text.as_bytes(),
            // A character that the end of the chunk cuts belongs to the next chunk.
            Err(error) if error.error_len().is_none() && error.valid_up_to() > 0 => {
                chunk.get(..error.valid_up_to()).unwrap_or_default()
            }
            Err(_) => return Ok(false),
        };
        if valid.iter().any(is_binary) {
            return Ok(false);
        }
        let read = u64::try_from(valid.len()).unwrap_or(u64::MAX);
        offset = offset.saturating_add(read);
    }
}

/// Control characters that no text has. A form feed separates the pages of licences.
fn is_binary(byte: &u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r' | b'\x0c')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::Cursor;

    #[test]
    fn a_text_has_no_control_characters_and_only_complete_ones() {
        // The chunk ends within a character of two bytes.
        let cut = format!("a{}", "é".repeat(40_000));
        for (content, expected) in [
            ("a text\twith a tab\r\n\u{c}".as_bytes(), true),
            (cut.as_bytes(), true),
            (cut.as_bytes().strip_suffix(b"\xa9").unwrap(), false),
            ("escape \u{1b}[0m".as_bytes(), false),
            ("zero \0".as_bytes(), false),
            (b"\xff".as_slice(), false),
        ] {
            let found = is_text(&mut Cursor::new(content)).unwrap();
            assert_eq!(found, expected, "{content:?}");
        }
    }
}
