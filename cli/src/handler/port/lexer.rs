//! Python's text to logical lines of names and signs. Nothing of it is run; texts and comments are passed over, but for the code within texts; what has
//! no end is a fault.

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
    // As Python does before it reads anything: a return alone ends a line, and a comment with it.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    Lexer {
        rest: &text,
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
            self.token(c)?;
        }
        if self.depth > 0 {
            return Err("a bracket is never closed".to_owned());
        }
        self.end_line();
        Ok(self.lines)
    }

    /// What begins with `c`.
    fn token(&mut self, c: char) -> Result<(), String> {
        match c {
            '\n' => {
                self.skip(1);
                self.number = self.number.saturating_add(1);
                if self.depth == 0 {
                    self.end_line();
                }
                Ok(())
            }
            ' ' | '\t' | '\x0c' | '\u{feff}' => {
                self.space(c);
                Ok(())
            }
            '#' => {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.skip(end);
                Ok(())
            }
            '\\' => self.joined(),
            '"' | '\'' => self.text(c, ""),
            c if c.is_ascii_digit() => {
                let end = self.word_end(|c| c.is_alphanumeric() || c == '_' || c == '.');
                self.skip(end);
                self.push(Token::Value)
            }
            // A letter beyond ASCII too: it may be another spelling of one within.
            c if c.is_alphabetic() || c == '_' => self.name(),
            c => self.sign(c),
        }
    }

    fn sign(&mut self, c: char) -> Result<(), String> {
        self.bracket(c)?;
        self.skip(c.len_utf8());
        self.push(Token::Sign(c))
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
            Some(quote) if prefix => self.text(quote, &name.to_ascii_lowercase()),
            _ => self.push(Token::Name(name)),
        }
    }

    /// A text, from its quote on. In a raw one a backslash hides a quote too, so that all are alike here. What of it is code is read as such.
    fn text(&mut self, quote: char, prefix: &str) -> Result<(), String> {
        let holds_code = prefix.contains(['f', 't']);
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
            if holds_code && c == '{' {
                if self.rest.starts_with("{{") {
                    self.skip(2);
                } else {
                    self.code()?;
                }
                continue;
            }
            self.skip(c.len_utf8());
            match c {
                // A character's name, in braces that hold no code.
                '\\' if holds_code && !prefix.contains('r') && self.rest.starts_with("N{") => {
                    self.skip(2);
                }
                '\\' if holds_code && self.rest.starts_with(['{', '}']) => {}
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

    /// What stands in a text's braces, and is run: up to the brace that closes it, or the colon that a format begins with.
    fn code(&mut self) -> Result<(), String> {
        let begun = self.number;
        self.sign('{')?;
        let within = self.depth;
        let mut formats = false;
        while let Some(c) = self.rest.chars().next() {
            match c {
                '}' if self.depth == within => return self.sign(c),
                '{' if formats => self.code()?,
                c if formats => {
                    self.skip(c.len_utf8());
                    self.number = self.number.saturating_add(usize::from(c == '\n'));
                }
                ':' if self.depth == within => {
                    self.skip(1);
                    formats = true;
                }
                c => self.token(c)?,
            }
        }
        Err(format!("line {begun}: a text without an end"))
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
        let expected = [(1, "a"), (2, "b"), (4, "c"), (4, "x")];
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
    fn a_return_alone_ends_a_line() {
        for text in ["# a\rb\n", "'a' # x\r\n\rb", "\\\r\nb", "# a\r\rb"] {
            let found: Vec<String> = names(text).into_iter().map(|(_, name)| name).collect();
            assert_eq!(found, ["b"], "{text:?}");
        }
    }

    #[test]
    fn code_within_texts_is_read() {
        for (text, expected) in [
            ("f'{a}'", "a"),
            ("F\"{a('b')} {c}\"", "a c"),
            ("rf'\\{a}'", "a"),
            ("f'\\{a}'", "a"),
            ("f'\\\\{a}'", "a"),
            ("f'{{b}} {a}'", "a"),
            ("f'{{{a}}}'", "a"),
            ("f'{a:{b}>{c}} d'", "a b c"),
            ("f'{a:%H:%M}' b", "a b"),
            ("f'{a!r:x}'", "a r"),
            ("f'''{\na\n} 'b' '''", "a"),
            ("f\"{a[\"b\"]}\" c", "a c"),
            ("f'{f\"{a}\"}'", "a"),
            ("f'{a({1: b}[1])}'", "a b"),
            ("f'\\N{DIGIT ONE}' a", "a"),
            ("t'{a}'", "a"),
            ("b'{a}' r'{a}' '{a}'", ""),
        ] {
            let found: Vec<String> = names(text).into_iter().map(|(_, name)| name).collect();
            assert_eq!(found.join(" "), expected, "{text}");
        }
        assert!(lines(&"f'{".repeat(100_000)).is_err());
        assert!(lines(&format!("f'{{a:{}", "{a:".repeat(100_000))).is_err());
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
            "f'{a'",
            "f'{a:",
        ] {
            assert!(lines(text).is_err(), "{text:?}");
        }
        assert!(lines(&"(".repeat(1000)).is_err());
        assert!(lines(&"a ".repeat(MAX_TOKENS + 1)).is_err());
    }
}
