//! Python's text to logical lines of names and signs. Nothing of it is run; texts and comments are passed over; what has no end is a fault.

/// Tokens of one file.
const MAX_TOKENS: usize = 400_000;

/// Open brackets at once.
const MAX_DEPTH: usize = 200;

/// A word or a sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A name or a keyword.
    Name(String),
    /// One character that is none of the others.
    Sign(char),
    /// A text or a number: what it says counts for nothing here.
    Value,
}

/// A token and the line that it stands on.
#[derive(Clone, Debug)]
pub struct Placed {
    pub token: Token,
    pub line: usize,
    /// Brackets open around it.
    pub depth: usize,
}

/// A statement, as far as lines go.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// Columns before it; a tab goes to the next multiple of eight.
    pub indent: usize,
    pub tokens: Vec<Placed>,
}

/// Splits a text.
///
/// # Errors
/// If a text or a bracket has no end, or there is more than a handler has.
pub fn lines(text: &str) -> Result<Vec<Line>, String> {
    Lexer {
        rest: text,
        number: 1,
        depth: 0,
        count: 0,
        line: Line::default(),
        begins: true,
        lines: Vec::new(),
    }
    .run()
}

struct Lexer<'t> {
    rest: &'t str,
    number: usize,
    depth: usize,
    count: usize,
    line: Line,
    /// Nothing of the line but spaces has been read.
    begins: bool,
    lines: Vec<Line>,
}

impl Lexer<'_> {
    fn run(mut self) -> Result<Vec<Line>, String> {
        while let Some(c) = self.rest.chars().next() {
            match c {
                '\n' => {
                    self.skip(1);
                    self.number = self.number.saturating_add(1);
                    if self.depth == 0 {
                        self.end_line();
                    }
                }
                ' ' | '\t' | '\r' | '\x0c' | '\u{feff}' => self.space(c),
                '#' => {
                    let end = self.rest.find('\n').unwrap_or(self.rest.len());
                    self.skip(end);
                }
                '\\' => self.joined()?,
                '"' | '\'' => self.text(c)?,
                c if c.is_ascii_digit() => {
                    let end = self.word_end(|c| c.is_alphanumeric() || c == '_' || c == '.');
                    self.skip(end);
                    self.push(Token::Value)?;
                }
                c if c.is_alphabetic() || c == '_' => self.name()?,
                c => {
                    self.bracket(c)?;
                    self.skip(c.len_utf8());
                    self.push(Token::Sign(c))?;
                }
            }
        }
        if self.depth > 0 {
            return Err("a bracket is never closed".to_owned());
        }
        self.end_line();
        Ok(self.lines)
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn word_end(&self, within: impl Fn(char) -> bool) -> usize {
        self.rest.find(|c| !within(c)).unwrap_or(self.rest.len())
    }

    fn push(&mut self, token: Token) -> Result<(), String> {
        self.begins = false;
        self.count = self.count.saturating_add(1);
        if self.count > MAX_TOKENS {
            return Err(format!("more than {MAX_TOKENS} words and signs"));
        }
        let (line, depth) = (self.number, self.depth);
        self.line.tokens.push(Placed { token, line, depth });
        Ok(())
    }

    fn end_line(&mut self) {
        let line = core::mem::take(&mut self.line);
        if !line.tokens.is_empty() {
            self.lines.push(line);
        }
        self.begins = true;
    }

    fn space(&mut self, c: char) {
        self.skip(c.len_utf8());
        if self.begins && self.depth == 0 {
            let indent = self.line.indent;
            self.line.indent = match c {
                ' ' => indent.saturating_add(1),
                '\t' => (indent | 7).saturating_add(1),
                _ => indent,
            };
        }
    }

    /// A line that goes on in the next.
    fn joined(&mut self) -> Result<(), String> {
        let after = self.rest.get(1..).unwrap_or_default();
        let after = after.strip_prefix('\r').unwrap_or(after);
        let Some(rest) = after.strip_prefix('\n') else {
            return Err(format!("line {}: a backslash in the middle", self.number));
        };
        self.rest = rest;
        self.number = self.number.saturating_add(1);
        Ok(())
    }

    fn bracket(&mut self, c: char) -> Result<(), String> {
        match c {
            '(' | '[' | '{' => {
                self.depth = self.depth.saturating_add(1);
                if self.depth > MAX_DEPTH {
                    return Err(format!("line {}: brackets too deep", self.number));
                }
            }
            ')' | ']' | '}' => {
                self.depth = self.depth.checked_sub(1).ok_or_else(|| {
                    format!("line {}: a bracket that nothing opened", self.number)
                })?;
            }
            _ => {}
        }
        Ok(())
    }

    fn name(&mut self) -> Result<(), String> {
        let end = self.word_end(|c| c.is_alphanumeric() || c == '_');
        let name = self.rest.get(..end).unwrap_or_default().to_owned();
        let after = self.rest.get(end..).unwrap_or_default();
        let quote = after.chars().next().filter(|c| *c == '"' || *c == '\'');
        let prefix = name.len() <= 2
            && name
                .chars()
                .all(|c| matches!(c.to_ascii_lowercase(), 'r' | 'b' | 'u' | 'f' | 't'));
        self.skip(end);
        match quote {
            Some(quote) if prefix => self.text(quote),
            _ => self.push(Token::Name(name)),
        }
    }

    /// A text, from its quote on. In a raw one a backslash hides a quote too, so that all are alike here.
    fn text(&mut self, quote: char) -> Result<(), String> {
        let begun = self.number;
        let thrice = if quote == '"' { "\"\"\"" } else { "'''" };
        let long = self.rest.starts_with(thrice);
        self.skip(if long { thrice.len() } else { 1 });
        loop {
            let Some(c) = self.rest.chars().next() else {
                return Err(format!("line {begun}: a text without an end"));
            };
            if long && self.rest.starts_with(thrice) {
                self.skip(thrice.len());
                break;
            }
            self.skip(c.len_utf8());
            match c {
                '\\' => {
                    if let Some(hidden) = self.rest.chars().next() {
                        self.skip(hidden.len_utf8());
                        self.number = self.number.saturating_add(usize::from(hidden == '\n'));
                    }
                }
                '\n' if !long => return Err(format!("line {begun}: a text without an end")),
                '\n' => self.number = self.number.saturating_add(1),
                c if c == quote && !long => break,
                _ => {}
            }
        }
        self.push(Token::Value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<(usize, String)> {
        let lines = lines(text).unwrap_or_default();
        let tokens = lines.iter().flat_map(|line| &line.tokens);
        tokens
            .filter_map(|placed| match &placed.token {
                Token::Name(name) => Some((placed.line, name.clone())),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn texts_and_comments_hold_no_names() {
        let text =
            "a = 'import os' # import sys\nb = \"\"\"import\nos\"\"\"\nc = rb'\\'d' + f\"{x}\"\n";
        let found = names(text);
        let expected = [(1, "a"), (2, "b"), (4, "c")];
        assert_eq!(found, expected.map(|(line, name)| (line, name.to_owned())));
    }

    #[test]
    fn what_is_in_brackets_or_behind_a_backslash_is_one_line() {
        let lines =
            lines("from a import (\n    b,\n  c)\nif x and \\\n   y:\n\td()\n").unwrap_or_default();
        let shape: Vec<(usize, usize)> = lines
            .iter()
            .map(|line| (line.indent, line.tokens.len()))
            .collect();
        assert_eq!(shape, [(0, 8), (0, 5), (8, 3)]);
    }

    #[test]
    fn what_has_no_end_is_a_fault() {
        for text in [
            "a = 'b",
            "a = '''b\n\n",
            "a = (1",
            "a = 1)",
            "a = \\ b",
            "'\\",
        ] {
            assert!(lines(text).is_err(), "{text:?}");
        }
        assert!(lines(&"(".repeat(1000)).is_err());
        assert!(lines(&"a ".repeat(MAX_TOKENS + 1)).is_err());
    }
}
