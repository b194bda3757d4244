//! A walk over the text format of protocol buffers, as programs write it.
//!
//! What the parser of their C++ library refuses is malformed or unknown. So is what it takes and
//! no program writes: numbers that are not decimal, values of an enumeration by number, and rare
//! escapes.

use super::Input;
use super::input::length;
use super::magic::read_at;
use super::rules::Rule;
use super::source::Stop;

/// Messages within messages.
const MAX_DEPTH: usize = 32;
/// The longest text, bytes. Real ones have a few KB.
const MAX_BYTES: u64 = 1 << 20;
/// What begins and ends a text.
const QUOTES: &[u8] = b"\"'";
/// The field that stands for each extension of a message, and for the content of a message of any
/// type.
pub(super) const EXTENSION: &str = "[";

/// The type of a value.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Any of the others. A message has the fields of the outermost one.
    Any,
    Float,
    Integer,
    Message(&'static [Field]),
    Text,
    /// One of these words, such as the names of an enumeration.
    Word(&'static [&'static str]),
}

/// A field of a message, which stands there once, or any number of times.
#[derive(Clone, Copy)]
pub(super) enum Field {
    One(&'static str, Kind),
    Many(&'static str, Kind),
}

impl Field {
    pub(super) const fn name(&self) -> &'static str {
        let (Self::One(name, _) | Self::Many(name, _)) = *self;
        name
    }
}

/// What looks at the texts of a file, at any depth. A path is the names of the fields from the
/// outermost message to a value.
pub(super) trait Watch {
    /// A text of the field at the end of the path. `at` is where it begins.
    fn text(&mut self, path: &[&'static str], text: String, at: u64);
    /// A message ends.
    fn end(&mut self, _path: &[&'static str]) {}
}

/// Follows a message with these fields, of which each fault has this rule.
pub(super) fn walk(
    input: &mut dyn Input,
    fields: &[Field],
    rule: &'static Rule,
    watch: &mut dyn Watch,
) -> Result<(), Stop> {
    let bytes = read_at(input, 0, MAX_BYTES)?;
    let mut parser = Parser {
        fields,
        rest: bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes),
        length: bytes.len(),
        path: Vec::new(),
        rule,
        watch,
    };
    if length(input)? > MAX_BYTES {
        return Err(parser.unknown("longer than this scan reads"));
    }
    let is_control = |byte: &u8| byte.is_ascii_control() && !byte.is_ascii_whitespace();
    if bytes.iter().any(is_control) {
        return Err(parser.malformed("a control character"));
    }
    parser.message(fields, None)
}

/// The name of the first field, which is empty if there is none. `head` is the first bytes.
pub(super) fn first_field(head: &[u8]) -> String {
    first_token(skip(head))
}

struct Parser<'t> {
    /// The fields of the outermost message.
    fields: &'t [Field],
    /// What lies behind the position.
    rest: &'t [u8],
    /// The length of the whole text.
    length: usize,
    /// The path to the position.
    path: Vec<&'static str>,
    rule: &'static Rule,
    watch: &'t mut dyn Watch,
}

impl Parser<'_> {
    /// The fields of a message up to the byte that closes it.
    fn message(&mut self, fields: &[Field], close: Option<u8>) -> Result<(), Stop> {
        let mut seen = Vec::new();
        loop {
            let next = self.peek();
            if next == close {
                self.watch.end(&self.path);
                self.pass(1);
                return Ok(());
            }
            let at = self.offset();
            let name = if next == Some(b'[') {
                self.extension()?;
                EXTENSION.to_owned()
            } else {
                self.token()
            };
            if name.is_empty() {
                return Err(self.malformed("no name of a field"));
            }
            let Some(field) = fields.iter().find(|it| it.name() == name) else {
                let detail = format!("the message has no field {name}");
                return Err(Stop::unknown(at, self.rule, detail));
            };
            if let Field::One(name, _) = field {
                if seen.contains(name) {
                    return Err(self.malformed("a field twice"));
                }
                seen.push(*name);
            }
            self.path.push(field.name());
            self.values(*field)?;
            self.path.pop();
            self.take(b",;");
        }
    }

    /// The value of a field, or a list of them.
    fn values(&mut self, field: Field) -> Result<(), Stop> {
        let (Field::One(_, kind) | Field::Many(_, kind)) = field;
        if !self.take(b":") && !matches!(kind, Kind::Any | Kind::Message(_)) {
            return Err(self.malformed("no colon before a value"));
        }
        if matches!(field, Field::One(..)) || !self.take(b"[") {
            return self.value(kind);
        }
        if self.take(b"]") {
            return Ok(());
        }
        loop {
            self.value(kind)?;
            if self.take(b"]") {
                return Ok(());
            }
            if !self.take(b",") {
                return Err(self.malformed("a list that does not go on or end"));
            }
        }
    }

    fn value(&mut self, kind: Kind) -> Result<(), Stop> {
        let first = self.peek();
        let is_extension = self.path.last() == Some(&EXTENSION);
        let is_known = match kind {
            Kind::Message(inner) => return self.inner(inner),
            Kind::Any if is_extension || matches!(first, Some(b'{' | b'<')) => {
                return self.inner(self.fields);
            }
            Kind::Any if first.is_none_or(|byte| !QUOTES.contains(&byte)) => {
                let token = self.token();
                let is_name = token.starts_with(|first: char| first.is_ascii_alphabetic());
                (is_name && !token.contains(['.', '-'])) || token.parse::<f64>().is_ok()
            }
            Kind::Any | Kind::Text => return self.text(),
            Kind::Float => self.token().parse::<f64>().is_ok(),
            Kind::Integer => {
                let token = self.token();
                let number = token.parse::<i64>();
                number.is_ok_and(|number| number.to_string() == token)
            }
            Kind::Word(words) => words.contains(&self.token().as_str()),
        };
        if is_known {
            return Ok(());
        }
        Err(self.unknown("a value that is not known for its field"))
    }

    /// A message in braces.
    fn inner(&mut self, fields: &[Field]) -> Result<(), Stop> {
        let close = match self.byte() {
            Some(b'{') => b'}',
            Some(b'<') => b'>',
            _ => return Err(self.malformed("no message where one has to be")),
        };
        if self.path.len() > MAX_DEPTH {
            return Err(self.unknown("more messages in each other than this scan follows"));
        }
        self.message(fields, Some(close))
    }

    /// The name of an extension, or of a type of message.
    fn extension(&mut self) -> Result<(), Stop> {
        self.pass(1);
        while !self.take(b"]") {
            if self.token().is_empty() && !self.take(b"/") {
                return Err(self.malformed("no name of a message"));
            }
        }
        Ok(())
    }

    /// Texts in quotes that follow each other, as one.
    fn text(&mut self) -> Result<(), Stop> {
        let at = self.offset();
        let mut text = None;
        while let Some(quote) = self.peek().filter(|byte| QUOTES.contains(byte)) {
            let text = text.get_or_insert_with(Vec::new);
            self.pass(1);
            loop {
                match self.byte() {
                    Some(byte) if byte == quote => break,
                    Some(b'\\') => text.push(self.escape()?),
                    None | Some(b'\n') => return Err(self.malformed("a text that does not end")),
                    Some(byte) => text.push(byte),
                }
            }
        }
        let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or_else(|| self.malformed("no text in UTF-8 where one has to be"))?;
        self.watch.text(&self.path, text, at);
        Ok(())
    }

    /// What stands behind a backslash.
    fn escape(&mut self) -> Result<u8, Stop> {
        let escaped = self.rest;
        let (radix, max_digits) = match self.byte() {
            Some(b'n') => return Ok(b'\n'),
            Some(b'r') => return Ok(b'\r'),
            Some(b't') => return Ok(b'\t'),
            Some(byte) if byte == b'\\' || QUOTES.contains(&byte) => return Ok(byte),
            Some(b'x' | b'X') => (16, 2),
            Some(b'u') => (16, 4),
            Some(b'U') => (16, 8),
            _ => {
                self.rest = escaped;
                (8, 3)
            }
        };
        let characters = self.rest.iter().map(|byte| char::from(*byte));
        let digits = characters
            .take(max_digits)
            .take_while(|it| it.is_digit(radix));
        let digits: String = digits.collect();
        self.pass(digits.len());
        // Many digits are those of a character. One of ASCII is a byte.
        let is_byte = |byte: &u8| max_digits < 4 || (digits.len() == max_digits && byte.is_ascii());
        let byte = u8::from_str_radix(&digits, radix).ok().filter(is_byte);
        byte.ok_or_else(|| self.unknown("an escape that programs do not write"))
    }

    /// Passes over one of these bytes, if one is next.
    fn take(&mut self, bytes: &[u8]) -> bool {
        let is_next = self.peek().is_some_and(|byte| bytes.contains(&byte));
        self.pass(usize::from(is_next));
        is_next
    }

    /// The next byte that is no space and in no comment, which stays there.
    fn peek(&mut self) -> Option<u8> {
        self.rest = skip(self.rest);
        self.rest.first().copied()
    }

    /// A name or a number.
    fn token(&mut self) -> String {
        self.peek();
        let token = first_token(self.rest);
        self.pass(token.len());
        token
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.rest.first().copied();
        self.pass(1);
        byte
    }

    fn pass(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    fn offset(&self) -> u64 {
        u64::try_from(self.length.saturating_sub(self.rest.len())).unwrap_or(u64::MAX)
    }

    fn malformed(&self, detail: &str) -> Stop {
        Stop::malformed(self.offset(), self.rule, detail)
    }

    fn unknown(&self, detail: &str) -> Stop {
        Stop::unknown(self.offset(), self.rule, detail)
    }
}

/// What lies behind spaces and comments.
fn skip(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes.trim_ascii_start();
    while rest.starts_with(b"#") {
        let mut lines = rest.splitn(2, |byte| *byte == b'\n');
        rest = lines.nth(1).unwrap_or_default().trim_ascii_start();
    }
    rest
}

/// The letters, digits and signs of a name or a number, none of which may be there.
fn first_token(bytes: &[u8]) -> String {
    let characters = bytes.iter().map(|byte| char::from(*byte));
    let is_part = |it: &char| it.is_ascii_alphanumeric() || matches!(it, '_' | '.' | '-');
    characters.take_while(is_part).collect()
}
