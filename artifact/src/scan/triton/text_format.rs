//! A walk over the text format of protocol buffers, as the parser of their C++ library reads it.

use crate::scan::source::Stop;

use super::RULE;
use super::schema::{Field, Kind, Message};

/// What looks at the texts of a configuration, at any depth.
pub(super) trait Watch {
    /// A text of a field. `at` is where it begins.
    fn text(&mut self, message: Message, field: &'static str, text: String, at: u64);
    /// A message ends.
    fn end(&mut self, message: Message, at: u64);
}

/// Follows a configuration.
pub(super) fn walk(bytes: &[u8], watch: &mut impl Watch) -> Result<(), Stop> {
    let mut parser = Parser {
        bytes,
        at: 0,
        watch,
    };
    let is_control = |byte: &u8| byte.is_ascii_control() && !is_space(*byte);
    if let Some(at) = bytes.iter().position(is_control) {
        parser.at = at;
        return Err(parser.malformed("a control character"));
    }
    parser.take(b"\xef\xbb\xbf");
    parser.message(Message::Config, None)
}

struct Parser<'t, 'w, W> {
    bytes: &'t [u8],
    at: usize,
    watch: &'w mut W,
}

impl<W: Watch> Parser<'_, '_, W> {
    /// The fields of a message up to the byte that closes it.
    fn message(&mut self, message: Message, close: Option<u8>) -> Result<(), Stop> {
        let mut seen: Vec<&'static str> = Vec::new();
        loop {
            let next = self.peek();
            if next == close {
                self.watch.end(message, self.offset());
                self.pass(usize::from(next.is_some()));
                return Ok(());
            }
            let at = self.at;
            if next == Some(b'[') {
                return Err(self.unknown("an extension, or a message of any type"));
            }
            let name = self.word();
            if name.is_empty() {
                return Err(self.malformed("no name of a field"));
            }
            let Some(field) = message.field(&name) else {
                self.at = at;
                let detail = format!("the message has no field {name}");
                return Err(self.unknown(detail));
            };
            if !field.is_repeated {
                if seen.contains(&field.name) {
                    self.at = at;
                    return Err(self.malformed(format!("the field {name} is there twice")));
                }
                seen.push(field.name);
            }
            self.values(message, field)?;
            if matches!(self.peek(), Some(b',' | b';')) {
                self.pass(1);
            }
        }
    }

    /// The value of a field, or a list of them.
    fn values(&mut self, message: Message, field: Field) -> Result<(), Stop> {
        let has_colon = self.peek() == Some(b':');
        self.pass(usize::from(has_colon));
        if !has_colon && !matches!(field.kind, Kind::Message(_)) {
            return Err(self.malformed("no colon before a value"));
        }
        if self.peek() != Some(b'[') || !field.is_repeated {
            return self.value(message, field);
        }
        self.pass(1);
        if self.peek() == Some(b']') {
            self.pass(1);
            return Ok(());
        }
        loop {
            self.value(message, field)?;
            match self.peek() {
                Some(b',') => self.pass(1),
                Some(b']') => {
                    self.pass(1);
                    return Ok(());
                }
                _ => return Err(self.malformed("a list that does not go on or end")),
            }
        }
    }

    fn value(&mut self, message: Message, field: Field) -> Result<(), Stop> {
        let first = self.peek();
        let at = self.offset();
        match field.kind {
            Kind::Message(inner) => {
                let close = match first {
                    Some(b'{') => b'}',
                    Some(b'<') => b'>',
                    _ => return Err(self.malformed("no message where one has to be")),
                };
                self.pass(1);
                self.message(inner, Some(close))
            }
            Kind::Text => {
                let text = self.text()?;
                self.watch.text(message, field.name, text, at);
                Ok(())
            }
            Kind::Bool if first.is_some_and(|byte| byte.is_ascii_digit()) => {
                let number = self.number();
                self.check(integer(&number).is_some_and(|value| value <= 1))
            }
            Kind::Bool => {
                let word = self.word();
                self.check(matches!(
                    word.as_str(),
                    "true" | "True" | "t" | "false" | "False" | "f"
                ))
            }
            Kind::Enum(names) if first.is_some_and(|byte| byte.is_ascii_alphabetic()) => {
                let word = self.word();
                if names.contains(&word.as_str()) {
                    return Ok(());
                }
                Err(self.unknown(format!("the value {word} of {}", field.name)))
            }
            Kind::Enum(_) | Kind::Integer => {
                self.sign();
                let number = self.number();
                self.check(integer(&number).is_some())
            }
            Kind::Float => {
                self.sign();
                if self.peek().is_some_and(|byte| byte.is_ascii_alphabetic()) {
                    let word = self.word().to_ascii_lowercase();
                    return self.check(matches!(word.as_str(), "inf" | "infinity" | "nan"));
                }
                let number = self.number();
                self.check(integer(&number).is_some() || is_float(&number))
            }
        }
    }

    /// Texts in quotes that follow each other, as one.
    fn text(&mut self) -> Result<String, Stop> {
        let mut text = Vec::new();
        let mut is_first = true;
        loop {
            let Some(quote) = self.peek().filter(|byte| matches!(byte, b'"' | b'\'')) else {
                if is_first {
                    return Err(self.malformed("no text where one has to be"));
                }
                break;
            };
            is_first = false;
            self.pass(1);
            loop {
                match self.byte() {
                    Some(byte) if byte == quote => break,
                    Some(b'\\') => self.escape(&mut text)?,
                    None | Some(b'\n') => return Err(self.malformed("a text that does not end")),
                    Some(byte) => text.push(byte),
                }
            }
        }
        String::from_utf8(text).map_err(|_| self.malformed("a text that is not UTF-8"))
    }

    /// What stands behind a backslash.
    fn escape(&mut self, text: &mut Vec<u8>) -> Result<(), Stop> {
        let byte = self.byte();
        match byte {
            Some(b'a') => text.push(7),
            Some(b'b') => text.push(8),
            Some(b'f') => text.push(12),
            Some(b'n') => text.push(b'\n'),
            Some(b'r') => text.push(b'\r'),
            Some(b't') => text.push(b'\t'),
            Some(b'v') => text.push(11),
            Some(byte @ (b'\\' | b'?' | b'\'' | b'"')) => text.push(byte),
            Some(b'x' | b'X') => {
                let byte = self.digits(1..=2, 16).and_then(|it| u8::try_from(it).ok());
                text.push(byte.ok_or_else(|| self.malformed("an escape"))?);
            }
            Some(b'0'..=b'7') => {
                self.at = self.at.saturating_sub(1);
                let byte = self.digits(1..=3, 8).and_then(|it| u8::try_from(it).ok());
                text.push(byte.ok_or_else(|| self.malformed("an escape"))?);
            }
            Some(b'u' | b'U') => {
                let count = if byte == Some(b'u') { 4 } else { 8 };
                let character = self.digits(count..=count, 16).and_then(char::from_u32);
                let character = character.ok_or_else(|| self.malformed("an escape"))?;
                text.extend(character.encode_utf8(&mut [0; 4]).bytes());
            }
            _ => return Err(self.malformed("an escape")),
        }
        Ok(())
    }

    /// A number of so many digits.
    fn digits(&mut self, count: std::ops::RangeInclusive<usize>, radix: u32) -> Option<u32> {
        let rest = self.bytes.get(self.at..)?;
        let found = (rest.iter().take(*count.end()))
            .take_while(|byte| char::from(**byte).is_digit(radix))
            .count();
        let digits = rest.get(..found).filter(|_| count.contains(&found))?;
        self.pass(found);
        u32::from_str_radix(str::from_utf8(digits).ok()?, radix).ok()
    }

    /// The next byte that is no space and in no comment, which stays there.
    fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = self.bytes.get(self.at).copied()?;
            if byte == b'#' {
                let rest = self.bytes.get(self.at..).unwrap_or_default();
                let line = rest.iter().position(|byte| *byte == b'\n');
                self.pass(line.unwrap_or(rest.len()));
            } else if is_space(byte) {
                self.pass(1);
            } else {
                return Some(byte);
            }
        }
    }

    /// A name, which is empty where none is.
    fn word(&mut self) -> String {
        let begins = self.peek().is_some_and(|byte| !byte.is_ascii_digit());
        let is_part = |byte: u8| begins && (byte.is_ascii_alphanumeric() || byte == b'_');
        self.take_while(is_part)
    }

    /// What stands where a number has to be.
    fn number(&mut self) -> String {
        self.peek();
        let mut before = 0;
        self.take_while(|byte| {
            let follows_exponent = matches!(before, b'e' | b'E') && matches!(byte, b'+' | b'-');
            before = byte;
            byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'_' || follows_exponent
        })
    }

    fn sign(&mut self) {
        if self.peek() == Some(b'-') {
            self.pass(1);
        }
    }

    fn take_while(&mut self, mut is_part: impl FnMut(u8) -> bool) -> String {
        let mut text = String::new();
        while let Some(byte) = self.bytes.get(self.at).copied() {
            if !is_part(byte) {
                break;
            }
            text.push(char::from(byte));
            self.pass(1);
        }
        text
    }

    fn take(&mut self, mark: &[u8]) {
        if self.bytes.starts_with(mark) {
            self.pass(mark.len());
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.bytes.get(self.at).copied();
        self.pass(1);
        byte
    }

    fn pass(&mut self, count: usize) {
        self.at = self.at.saturating_add(count);
    }

    fn offset(&self) -> u64 {
        u64::try_from(self.at.min(self.bytes.len())).unwrap_or(u64::MAX)
    }

    fn check(&self, is_right: bool) -> Result<(), Stop> {
        if is_right {
            return Ok(());
        }
        Err(self.malformed("a value of another type"))
    }

    fn malformed(&self, detail: impl Into<String>) -> Stop {
        Stop::malformed(self.offset(), RULE, detail)
    }

    fn unknown(&self, detail: impl Into<String>) -> Stop {
        Stop::unknown(self.offset(), RULE, detail)
    }
}

/// The characters between tokens.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 9..=13)
}

/// A number in decimal, or in octal or hexadecimal digits by its beginning.
fn integer(number: &str) -> Option<u64> {
    let (digits, radix) = match number.as_bytes() {
        [b'0', b'x' | b'X', ..] => (number.get(2..)?, 16),
        [b'0', _, ..] => (number.get(1..)?, 8),
        _ => (number, 10),
    };
    let is_number = digits.chars().all(|digit| digit.is_digit(radix));
    u64::from_str_radix(digits, radix)
        .ok()
        .filter(|_| is_number)
}

/// Whether a text is a number with a fraction or an exponent.
fn is_float(number: &str) -> bool {
    let digits = number.strip_suffix(['f', 'F']).unwrap_or(number);
    let begins = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    begins && !digits.contains('_') && digits.parse::<f64>().is_ok()
}
