//! Tokenizer for Python: splits source text into logical lines of names and punctuation.
//!
//! Nothing is run. String literals and comments are skipped, except for code in f-strings.
//! Unterminated literals and brackets are errors.

/// Maximum number of tokens per file.
const MAX_TOKENS: usize = 400_000;

/// Maximum nesting of brackets.
const MAX_DEPTH: usize = 200;

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A name or a keyword.
    Name(String),
    /// Any other character.
    Sign(char),
    /// A string or number; its value is not needed.
    Value,
}

/// A token and its position.
#[derive(Clone, Debug)]
pub struct LocatedToken {
    pub token: Token,
    pub line: usize,
    /// Number of open brackets around the token.
    pub depth: usize,
}

/// A logical line.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// Indentation in columns; a tab advances to the next multiple of eight.
    pub indent: usize,
    pub tokens: Vec<LocatedToken>,
}

/// Splits a text into logical lines.
///
/// # Errors
/// A string or a bracket is unterminated, or the text exceeds a limit.
pub fn lines(text: &str) -> Result<Vec<Line>, String> {
    // Python normalises line ends first, so a lone carriage return ends a line and a comment.
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
    /// Whether only white space has been read of the current line.
    begins: bool,
    lines: Vec<Line>,
}

impl Lexer<'_> {
    fn run(mut self) -> Result<Vec<Line>, String> {
        while let Some(c) = self.rest.chars().next() {
            self.token(c)?;
        }
        if self.depth > 0 {
            return Err("a bracket is not closed".to_owned());
        }
        self.end_line();
        Ok(self.lines)
    }

    /// Reads the token that begins with `c`.
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
            // Letters beyond ASCII count too: Python may normalise them to ASCII ones.
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
            return Err(format!("more than {MAX_TOKENS} tokens"));
        }
        let (line, depth) = (self.number, self.depth);
        self.line.tokens.push(LocatedToken { token, line, depth });
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

    /// Line continuation by a backslash.
    fn joined(&mut self) -> Result<(), String> {
        let after = self.rest.get(1..).unwrap_or_default();
        let Some(rest) = after.strip_prefix('\n') else {
            return Err(format!("line {}: a backslash within a line", self.number));
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
                self.depth = self
                    .depth
                    .checked_sub(1)
                    .ok_or_else(|| format!("line {}: an unmatched closing bracket", self.number))?;
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

    /// Reads a string literal, from its quote on. A backslash escapes a quote even in raw strings,
    /// so both kinds are read alike. Code in f-strings is tokenized.
    fn text(&mut self, quote: char, prefix: &str) -> Result<(), String> {
        let holds_code = prefix.contains(['f', 't']);
        let begun = self.number;
        let thrice = if quote == '"' { "\"\"\"" } else { "'''" };
        let long = self.rest.starts_with(thrice);
        self.skip(if long { thrice.len() } else { 1 });
        loop {
            let Some(c) = self.rest.chars().next() else {
                return Err(format!("line {begun}: an unterminated string"));
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
                // A named character, whose braces contain no code.
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
                '\n' if !long => return Err(format!("line {begun}: an unterminated string")),
                '\n' => self.number = self.number.saturating_add(1),
                c if c == quote && !long => break,
                _ => {}
            }
        }
        self.push(Token::Value)
    }

    /// Reads a replacement field of an f-string, up to its closing brace. A colon begins the format
    /// specification.
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
        Err(format!("line {begun}: an unterminated string"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<(usize, String)> {
        let lines = lines(text).unwrap_or_default();
        let tokens = lines.iter().flat_map(|line| &line.tokens);
        tokens
            .filter_map(|located| match &located.token {
                Token::Name(name) => Some((located.line, name.clone())),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn strings_and_comments_contain_no_names() {
        let text =
            "a = 'import os' # import sys\nb = \"\"\"import\nos\"\"\"\nc = rb'\\'d' + f\"{x}\"\n";
        let found = names(text);
        let expected = [(1, "a"), (2, "b"), (4, "c"), (4, "x")];
        assert_eq!(found, expected.map(|(line, name)| (line, name.to_owned())));
    }

    #[test]
    fn brackets_and_backslashes_continue_a_line() {
        let lines =
            lines("from a import (\n    b,\n  c)\nif x and \\\n   y:\n\td()\n").unwrap_or_default();
        let shape: Vec<(usize, usize)> = lines
            .iter()
            .map(|line| (line.indent, line.tokens.len()))
            .collect();
        assert_eq!(shape, [(0, 8), (0, 5), (8, 3)]);
    }

    #[test]
    fn a_lone_carriage_return_ends_a_line() {
        for text in ["# a\rb\n", "'a' # x\r\n\rb", "\\\r\nb", "# a\r\rb"] {
            let found: Vec<String> = names(text).into_iter().map(|(_, name)| name).collect();
            assert_eq!(found, ["b"], "{text:?}");
        }
    }

    #[test]
    fn code_in_f_strings_is_read() {
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
    fn unterminated_strings_and_brackets_are_errors() {
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
