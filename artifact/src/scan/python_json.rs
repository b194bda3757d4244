//! JSON as Python writes it: with NaN and Infinity, which JSON does not have.
//!
//! Python's reader and those of most model formats accept these names where a number may stand. No
//! other reader takes them for anything else, so they are no ambiguity: each is read as a number.
//! A reader of JSON keeps each text in memory, so their length is bounded here, too.

use std::io::{self, Read};

/// The names, each with a number of the same length.
const NUMBERS: [(&[u8], &[u8]); 2] = [(b"NaN", b"100"), (b"Infinity", b"10000000")];
/// What JSON has nowhere outside of a text.
const INVALID: u8 = b'?';
/// The kind of error of a text or number that is too long.
pub(super) const TOO_LONG: io::ErrorKind = io::ErrorKind::FileTooLarge;

/// Replaces these names in a stream of JSON, unless they are within a text.
pub(super) struct PythonJson<R> {
    input: R,
    /// The longest text or number, bytes.
    max_bytes: usize,
    /// Bytes of the current one.
    bytes: usize,
    in_text: bool,
    is_escaped: bool,
    /// The byte before, as it is in the input.
    before: u8,
    /// The rest of a name and of its number.
    rest: Option<(&'static [u8], &'static [u8])>,
}

impl<R: Read> PythonJson<R> {
    pub(super) const fn new(input: R, max_bytes: usize) -> Self {
        Self {
            input,
            max_bytes,
            bytes: 0,
            in_text: false,
            is_escaped: false,
            before: b' ',
            rest: None,
        }
    }

    /// The byte that a reader of JSON gets for the next one.
    fn byte(&mut self, byte: u8) -> u8 {
        let before = std::mem::replace(&mut self.before, byte);
        self.bytes = self.bytes.saturating_add(1);
        if self.in_text {
            self.in_text = byte != b'"' || self.is_escaped;
            self.is_escaped = byte == b'\\' && !self.is_escaped;
            return byte;
        }
        if !is_part(byte) {
            self.bytes = 0;
        }
        if let Some(rest) = self.rest.take() {
            return self.within(rest, byte);
        }
        let name = NUMBERS.iter().find(|(name, _)| name.first() == Some(&byte));
        match name {
            // Python accepts a sign before Infinity alone.
            Some(&(name, number))
                if !is_part(before) || (before == b'-' && name.len() > b"NaN".len()) =>
            {
                self.within((name, number), byte)
            }
            _ => {
                self.in_text = byte == b'"';
                byte
            }
        }
    }

    /// The same within a name, or directly behind one.
    fn within(&mut self, rest: (&'static [u8], &'static [u8]), byte: u8) -> u8 {
        match rest {
            ([next, name @ ..], [digit, number @ ..]) if *next == byte => {
                self.rest = Some((name, number));
                *digit
            }
            ([], _) if !is_part(byte) && byte != b'"' => byte,
            _ => INVALID,
        }
    }
}

/// Whether a byte can be within a number or a name.
const fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

impl<R: Read> Read for PythonJson<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(into)?;
        for byte in into.iter_mut().take(count) {
            *byte = self.byte(*byte);
            if self.bytes > self.max_bytes {
                return Err(TOO_LONG.into());
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_of_numbers_are_numbers_and_nothing_else_is() {
        for (document, expected) in [
            (
                "[NaN, Infinity,-Infinity]",
                Some("[100, 10000000,-10000000]"),
            ),
            ("{\"NaN\":NaN}", Some("{\"NaN\":100}")),
            ("[\"\\\"NaN\",NaN]", Some("[\"\\\"NaN\",100]")),
            ("NaN", Some("100")),
            ("[-NaN]", None),
            ("[+Infinity]", None),
            ("[NaN5]", None),
            ("[5NaN]", None),
            ("[Nan]", None),
            ("[Infinit]", None),
            ("[NaN.5]", None),
            ("[NaNNaN]", None),
            ("{NaN:1}", None),
            ("[NaN\"a\"]", None),
        ] {
            let mut read = String::new();
            let mut reader = PythonJson::new(document.as_bytes(), usize::MAX);
            reader.read_to_string(&mut read).unwrap();
            let parsed = serde_json::from_str::<serde_json::Value>(&read);
            assert_eq!(parsed.is_ok(), expected.is_some(), "{document}: {read}");
            assert!(expected.is_none_or(|expected| expected == read), "{read}");
        }
    }
}
