//! Parser for the subset of protobuf's text format that model configurations use.
//!
//! It supports `name: value`, `name { … }`, `name [ … ]`, strings, numbers, words and `#`
//! comments.
//! Anything else is an error with its line. The parser does not know field names.

use std::iter::Peekable;
use std::str::CharIndices;

/// Maximum nesting of messages and lists. Triton's own configurations need 6 levels.
const MAX_DEPTH: usize = 16;
/// Maximum number of fields and values in a file.
const MAX_VALUES: usize = 100_000;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A quoted string.
    Text(String),
    /// An integer.
    Number(i64),
    /// `true`, an enum's name, or a floating-point number, as written.
    Word(String),
    /// `{ … }`.
    Message(Message),
}

/// Fields in order. A list becomes one field per value.
pub type Message = Vec<(String, Value)>;

/// Parses a file. An error has a line number and a description.
pub fn read(text: &str) -> Result<Message, (usize, String)> {
    let mut reader = Reader {
        text,
        chars: text.char_indices().peekable(),
        line: 1,
        values: 0,
    };
    let message = reader.fields(0);
    message.map_err(|what| (reader.line, what))
}

struct Reader<'t> {
    text: &'t str,
    chars: Peekable<CharIndices<'t>>,
    line: usize,
    values: usize,
}

impl Reader<'_> {
    /// Parses fields up to the end of the file (depth 0) or the closing brace.
    fn fields(&mut self, depth: usize) -> Result<Message, String> {
        if depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        let mut fields = Vec::new();
        loop {
            self.blanks();
            match self.peek() {
                None if depth == 0 => return Ok(fields),
                None => return Err("a brace is not closed".into()),
                Some('}') if depth > 0 => {
                    self.chars.next();
                    return Ok(fields);
                }
                Some(c) if c.is_ascii_alphabetic() || c == '_' => {}
                Some(c) => return Err(format!("expected a field, found {c:?}")),
            }
            let name = self.word();
            self.blanks();
            let colon = self.take(':');
            self.blanks();
            match self.peek() {
                Some('{') => {
                    let message = self.message(depth)?;
                    fields.push((name, message));
                }
                Some('[') => self.list(&name, depth, &mut fields)?,
                _ if colon => {
                    let value = self.scalar()?;
                    fields.push((name, value));
                }
                _ => return Err(format!("no value for {name}")),
            }
            self.blanks();
            // One separator is optional.
            let _ = self.take(',') || self.take(';');
        }
    }

    fn message(&mut self, depth: usize) -> Result<Value, String> {
        self.count()?;
        self.chars.next();
        Ok(Value::Message(self.fields(depth.saturating_add(1))?))
    }

    fn list(&mut self, name: &str, depth: usize, fields: &mut Message) -> Result<(), String> {
        self.chars.next();
        self.blanks();
        if self.take(']') {
            return Ok(());
        }
        loop {
            self.blanks();
            let value = if self.peek() == Some('{') {
                self.message(depth)?
            } else {
                self.scalar()?
            };
            fields.push((name.to_owned(), value));
            self.blanks();
            if self.take(']') {
                return Ok(());
            }
            if !self.take(',') {
                return Err("list values must be separated by commas".into());
            }
        }
    }

    fn scalar(&mut self) -> Result<Value, String> {
        self.count()?;
        match self.peek() {
            Some(quote @ ('"' | '\'')) => {
                let mut text = self.quoted(quote)?;
                // Adjacent strings are concatenated.
                loop {
                    self.blanks();
                    match self.peek() {
                        Some(quote @ ('"' | '\'')) => text.push_str(&self.quoted(quote)?),
                        _ => return Ok(Value::Text(text)),
                    }
                }
            }
            Some(c) if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') => {
                let word = self.word();
                Ok(word.parse().map_or(Value::Word(word), Value::Number))
            }
            Some(c) => Err(format!("expected a value, found {c:?}")),
            None => Err("expected a value, found the end of the file".into()),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        self.chars.next();
        let mut text = String::new();
        while let Some((_, c)) = self.chars.next() {
            match c {
                c if c == quote => return Ok(text),
                '\n' => break,
                '\\' => match self.chars.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, c @ ('"' | '\'' | '\\'))) => text.push(c),
                    _ => return Err("an unsupported escape".into()),
                },
                c => text.push(c),
            }
        }
        Err("a string is not closed on its line".into())
    }

    fn word(&mut self) -> String {
        let start = self.chars.peek().map_or(self.text.len(), |(at, _)| *at);
        while self
            .peek()
            .is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+'))
        {
            self.chars.next();
        }
        let end = self.chars.peek().map_or(self.text.len(), |(at, _)| *at);
        self.text.get(start..end).unwrap_or_default().to_owned()
    }

    fn blanks(&mut self) {
        while let Some(c) = self.peek() {
            match c {
                '\n' => self.line = self.line.saturating_add(1),
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.chars.next();
                    }
                    continue;
                }
                c if c.is_ascii_whitespace() => {}
                _ => return,
            }
            self.chars.next();
        }
    }

    fn count(&mut self) -> Result<(), String> {
        self.values = self.values.saturating_add(1);
        if self.values > MAX_VALUES {
            return Err(format!("more than {MAX_VALUES} values"));
        }
        Ok(())
    }

    fn take(&mut self, expected: char) -> bool {
        let found = self.peek() == Some(expected);
        if found {
            self.chars.next();
        }
        found
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|(_, c)| *c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_parsed_and_errors_have_line_numbers() {
        for (text, expected) in [
            (
                "name: \"m\" # the model\nmax_batch_size: 8\n",
                Ok(vec![
                    ("name".into(), Value::Text("m".into())),
                    ("max_batch_size".into(), Value::Number(8)),
                ]),
            ),
            (
                "d: [ -1, 3 ] p { k: TYPE_FP32 } e: []",
                Ok(vec![
                    ("d".into(), Value::Number(-1)),
                    ("d".into(), Value::Number(3)),
                    (
                        "p".into(),
                        Value::Message(vec![("k".into(), Value::Word("TYPE_FP32".into()))]),
                    ),
                ]),
            ),
            (
                "i [ { a: 0.5 }, { a: 'x' \"y\" } ]",
                Ok(vec![
                    (
                        "i".into(),
                        Value::Message(vec![("a".into(), Value::Word("0.5".into()))]),
                    ),
                    (
                        "i".into(),
                        Value::Message(vec![("a".into(), Value::Text("xy".into()))]),
                    ),
                ]),
            ),
            ("a: 1\nb {\n", Err((3, "a brace is not closed".into()))),
            ("a: 1\n}", Err((2, "expected a field, found '}'".into()))),
            ("a 1", Err((1, "no value for a".into()))),
            (
                "a: [1 2]",
                Err((1, "list values must be separated by commas".into())),
            ),
            ("a: [1,]", Err((1, "expected a value, found ']'".into()))),
            (
                "a: \"x\ny\"",
                Err((1, "a string is not closed on its line".into())),
            ),
            (
                "\n{\"name\": 1}",
                Err((2, "expected a field, found '{'".into())),
            ),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        assert!(read(&"a {".repeat(100_000)).is_err());
    }
}
