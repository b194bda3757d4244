//! Hostile names, and what takes them: the marks of a document.
//!
//! A mark is a harmless name, `zq-ROLE-qz`. It is valid wherever a policy or a command line takes a
//! name, and occurs nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde_json::Value;

/// Beginning of a mark.
pub const OPEN: &str = "zq-";
/// End of a mark.
const CLOSE: &str = "-qz";

/// Texts that end a value in YAML, Go templates, CEL, regular expressions, Envoy's formats or a
/// shell.
const PIECES: [&str; 42] = [
    "\"",
    "'",
    "\n",
    "\r\n",
    "---",
    "...",
    ": ",
    " #",
    "- ",
    "{{",
    "}}",
    "${",
    "$(id)",
    "%REQ(a)%",
    "&a",
    "*a",
    "!!x",
    "|",
    ">",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    "' || true || '",
    "[^a]+",
    "\\d",
    "]]",
    "`id`",
    ",",
    "?",
    "\\",
    "\t",
    " ",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    "true",
    "0x1",
    "~",
    "kind: Secret",
];

/// Names without special characters that some reader of YAML takes for another type.
const WORDS: [&str; 18] = [
    "true",
    "false",
    "null",
    "no",
    "on",
    "y",
    "7",
    "1e3",
    "0x1f",
    "0o7",
    "1_000",
    "2001-01-01",
    "nan",
    ".inf",
    "-1",
    "12:30",
    "a.b",
    "e3",
];

/// Numbers that look random and are the same in each run (xorshift).
pub struct Numbers(pub u64);

impl Numbers {
    /// A number below a bound.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let bound = u64::try_from(bound).unwrap_or(1).max(1);
        usize::try_from(self.0 % bound).unwrap_or_default()
    }

    /// A text of up to five pieces.
    pub fn text(&mut self) -> String {
        let pieces = self.below(6);
        (0..pieces)
            .map(|_| PIECES[self.below(PIECES.len())])
            .collect()
    }

    /// A name that is not empty: a word, a text, or a text within words.
    fn name(&mut self) -> String {
        let word = WORDS[self.below(WORDS.len())];
        match self.below(3) {
            0 => word.to_owned(),
            1 => format!("{word}{}{word}", self.text()),
            _ => match self.text() {
                text if text.is_empty() => word.to_owned(),
                text => text,
            },
        }
    }
}

/// The marks of a text.
pub fn marks(text: &str) -> BTreeSet<String> {
    let parts = text.split(OPEN).skip(1);
    parts
        .filter_map(|part| part.split_once(CLOSE))
        .map(|(role, _)| format!("{OPEN}{role}{CLOSE}"))
        .collect()
}

/// Names by the marks that they replace. The other marks stay.
#[derive(Clone, Debug, Default)]
pub struct Names(BTreeMap<String, String>);

impl Names {
    /// Replaces a mark by this name.
    pub fn set(&mut self, mark: &str, name: String) {
        self.0.insert(mark.to_owned(), name);
    }

    /// How many marks are replaced.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether the replaced marks with this text in them have a name each.
    pub fn differ(&self, part: &str) -> bool {
        let names = self.0.iter().filter(|(mark, _)| mark.contains(part));
        let mut seen = BTreeSet::new();
        names.map(|(_, name)| name).all(|name| seen.insert(name))
    }

    /// Replaces a mark by a hostile name that is accepted with the names so far, if there is one
    /// among a few.
    pub fn replace(&mut self, mark: &str, numbers: &mut Numbers, accepts: impl Fn(&Self) -> bool) {
        const ATTEMPTS: usize = 4;
        for _ in 0..ATTEMPTS {
            self.0.insert(mark.to_owned(), numbers.name());
            if accepts(self) {
                return;
            }
            self.0.remove(mark);
        }
    }

    /// The text with names in place of marks.
    pub fn in_text(&self, text: &str) -> String {
        if !text.contains(OPEN) {
            return text.to_owned();
        }
        let names = self.0.iter();
        names.fold(text.to_owned(), |text, (mark, name)| {
            text.replace(mark, name)
        })
    }

    /// What a flag takes from a text with names in place of marks.
    pub fn parse<T: FromStr>(&self, text: &str) -> T {
        let text = self.in_text(text);
        text.parse()
            .unwrap_or_else(|_| panic!("{text:?} is refused"))
    }

    /// The document with names in place of marks, in keys and values.
    pub fn in_document(&self, document: &Value) -> Value {
        match document {
            Value::String(text) => Value::String(self.in_text(text)),
            Value::Array(items) => items.iter().map(|item| self.in_document(item)).collect(),
            Value::Object(entries) => {
                let entries = entries.iter();
                let entry =
                    |(key, value): (&String, &Value)| (self.in_text(key), self.in_document(value));
                Value::Object(entries.map(entry).collect())
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => document.clone(),
        }
    }
}
