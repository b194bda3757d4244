//! JSON strings: scanned, and unescaped only if necessary.

use std::borrow::Cow;

use super::scan::Scanner;
use crate::fault::BodyFault;

impl<'a> Scanner<'a> {
    /// Reads a string; its quote is next.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, BodyFault> {
        let start = self.at.wrapping_add(1);
        if !self.plain_string()? {
            self.at = start;
            return self.escaped_string().map(Cow::Owned);
        }
        let end = self.at.wrapping_sub(1);
        self.text
            .get(start..end)
            .map(Cow::Borrowed)
            .ok_or_else(|| self.form("a string is expected"))
    }

    /// Skips a string; its quote is next.
    pub(super) fn skip_string(&mut self) -> Result<(), BodyFault> {
        let start = self.at.wrapping_add(1);
        if !self.plain_string()? {
            self.at = start;
            self.unescape(|_| {})?;
        }
        Ok(())
    }

    /// Skips a string, or up to its first escape: then `false`.
    fn plain_string(&mut self) -> Result<bool, BodyFault> {
        self.step();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.step();
                    return Ok(true);
                }
                Some(b'\\') => return Ok(false),
                Some(0..0x20) => return Err(self.form("a control character in a string")),
                Some(_) => self.step(),
                None => return Err(self.form("the document ends inside a string")),
            }
        }
    }

    fn escaped_string(&mut self) -> Result<String, BodyFault> {
        let mut text = String::new();
        self.unescape(|piece| text.push_str(piece))?;
        Ok(text)
    }

    /// Passes the parts of a string to `push`, from after its opening quote to after its closing
    /// one.
    fn unescape(&mut self, mut push: impl FnMut(&str)) -> Result<(), BodyFault> {
        let mut start = self.at;
        loop {
            let byte = self
                .peek()
                .ok_or_else(|| self.form("the document ends inside a string"))?;
            if byte < 0x20 {
                return Err(self.form("a control character in a string"));
            }
            if byte == b'"' || byte == b'\\' {
                push(self.text.get(start..self.at).unwrap_or_default());
            }
            self.step();
            if byte == b'"' {
                return Ok(());
            }
            if byte == b'\\' {
                push(self.escape()?.encode_utf8(&mut [0; 4]));
                start = self.at;
            }
        }
    }

    /// Reads an escape after the backslash.
    fn escape(&mut self) -> Result<char, BodyFault> {
        let character = match self.peek() {
            Some(same @ (b'"' | b'\\' | b'/')) => char::from(same),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.step();
                return self.code_point();
            }
            _ => return Err(self.form("an unknown escape")),
        };
        self.step();
        Ok(character)
    }

    /// Reads the digits of `\u` and of a surrogate pair. A lone surrogate is rejected, because
    /// parsers treat it differently.
    fn code_point(&mut self) -> Result<char, BodyFault> {
        const LONE: &str = "a lone surrogate";
        let first = self.hex()?;
        if !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first).ok_or_else(|| self.form(LONE));
        }
        let pair = self.text.as_bytes().get(self.at..self.at.saturating_add(2));
        if first >= 0xdc00 || pair != Some(b"\\u") {
            return Err(self.form(LONE));
        }
        self.step();
        self.step();
        let second = self.hex()?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(self.form(LONE));
        }
        let high = (first & 0x3ff) << 10;
        let point = 0x10000_u32.wrapping_add(high | (second & 0x3ff));
        char::from_u32(point).ok_or_else(|| self.form(LONE))
    }

    fn hex(&mut self) -> Result<u32, BodyFault> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self
                .peek()
                .and_then(|byte| char::from(byte).to_digit(16))
                .ok_or_else(|| self.form("four hex digits are expected"))?;
            value = value << 4 | digit;
            self.step();
        }
        Ok(value)
    }
}
