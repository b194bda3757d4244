//! Splits a text into words, as Hugging Face's pre-tokenizers do. Words are passed to a sink one by
//! one, which can stop the search.

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};

/// A step. Each splits the words of the previous one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// At white space, which is removed, and around punctuation.
    Bert,
    /// At white space, which is removed, and between word characters and others.
    Whitespace,
    /// At white space, which is removed.
    WhitespaceSplit,
    /// Around punctuation.
    Punctuation,
    /// Around digits.
    Digits {
        /// Each digit separately.
        individual: bool,
    },
    /// GPT-2's words, each with the space before it.
    ByteLevel {
        /// Whether a space is put before the first word.
        prefix: bool,
        /// Whether the text is split at all.
        words: bool,
    },
}

/// Receives a word; can stop the search.
pub type Sink<'s> = &'s mut dyn FnMut(&str) -> ControlFlow<()>;

/// Passes each word of a text to the sink, in order.
pub fn each(steps: &[Step], text: &str, sink: Sink<'_>) -> ControlFlow<()> {
    if text.is_empty() {
        return ControlFlow::Continue(());
    }
    let Some((step, others)) = steps.split_first() else {
        return sink(text);
    };
    step.split(text, &mut |word| each(others, word, sink))
}

/// The role of a character where a text is split.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// It ends a word and is removed.
    Gone,
    /// It is a word of its own.
    Alone,
    /// It continues a word of the same kind.
    Kind(u8),
}

impl Step {
    fn split(self, text: &str, sink: Sink<'_>) -> ControlFlow<()> {
        match self {
            Self::Bert => by(text, sink, |c| match c {
                c if c.is_whitespace() => Part::Gone,
                c if is_punctuation(c) => Part::Alone,
                _ => Part::Kind(0),
            }),
            Self::Whitespace => by(text, sink, |c| match c {
                c if c.is_whitespace() => Part::Gone,
                c => Part::Kind(u8::from(is_of_words(c))),
            }),
            Self::WhitespaceSplit => by(text, sink, |c| match c {
                c if c.is_whitespace() => Part::Gone,
                _ => Part::Kind(0),
            }),
            Self::Punctuation => by(text, sink, |c| match c {
                c if is_punctuation(c) => Part::Alone,
                _ => Part::Kind(0),
            }),
            Self::Digits { individual } => by(text, sink, |c| match c {
                c if individual && c.is_numeric() => Part::Alone,
                c => Part::Kind(u8::from(c.is_numeric())),
            }),
            Self::ByteLevel { prefix, words } => {
                let text = if prefix && !text.starts_with(' ') {
                    &*format!(" {text}")
                } else {
                    text
                };
                if words { gpt2(text, sink) } else { sink(text) }
            }
        }
    }
}

/// Splits a text by the role of each character.
fn by(text: &str, sink: Sink<'_>, part: impl Fn(char) -> Part) -> ControlFlow<()> {
    let mut rest = text;
    let mut kind = None;
    let mut length = 0_usize;
    for c in text.chars() {
        let this = part(c);
        let goes_on = kind == Some(this) && matches!(this, Part::Kind(_));
        if !goes_on {
            rest = hand_on(rest, length, kind, sink)?;
            length = 0;
            kind = Some(this);
        }
        length = length.saturating_add(c.len_utf8());
    }
    hand_on(rest, length, kind, sink).map_continue(drop)
}

/// Passes a word on, unless it is removed. Returns the rest of the text.
fn hand_on<'t>(
    rest: &'t str,
    length: usize,
    kind: Option<Part>,
    sink: Sink<'_>,
) -> ControlFlow<(), &'t str> {
    let (word, rest) = rest.split_at_checked(length).unwrap_or((rest, ""));
    if !word.is_empty() && kind != Some(Part::Gone) {
        sink(word)?;
    }
    ControlFlow::Continue(rest)
}

/// Endings that form a word with the apostrophe before them.
const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

/// GPT-2's words: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
fn gpt2(text: &str, sink: Sink<'_>) -> ControlFlow<()> {
    let mut rest = text;
    while !rest.is_empty() {
        let length = gpt2_word(rest);
        let (word, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        sink(word)?;
        rest = after;
    }
    ControlFlow::Continue(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Space,
    Letter,
    Number,
    Other,
}

fn kind(c: char) -> Kind {
    if c.is_ascii() {
        return match c {
            c if c.is_ascii_alphabetic() => Kind::Letter,
            c if c.is_ascii_digit() => Kind::Number,
            c if c.is_whitespace() => Kind::Space,
            _ => Kind::Other,
        };
    }
    match c.general_category_group() {
        GeneralCategoryGroup::Letter => Kind::Letter,
        GeneralCategoryGroup::Number => Kind::Number,
        _ if c.is_whitespace() => Kind::Space,
        _ => Kind::Other,
    }
}

/// The length in bytes of the first word of a text that is not empty.
fn gpt2_word(text: &str) -> usize {
    if let Some(found) = CONTRACTIONS.iter().find(|one| text.starts_with(**one)) {
        return found.len();
    }
    // One space belongs to the word after it.
    let bare = text.strip_prefix(' ').unwrap_or(text);
    let spaces = text.len().saturating_sub(bare.len());
    if let Some(kind) = bare.chars().next().map(kind)
        && kind != Kind::Space
    {
        return run(bare, kind).saturating_add(spaces);
    }
    let blank = run(text, Kind::Space);
    let last = text
        .get(..blank)
        .and_then(|blank| blank.chars().next_back());
    // The last of several spaces belongs to the next word, if there is one.
    let last = last.map_or(0, char::len_utf8);
    if blank < text.len() && blank > last {
        blank.saturating_sub(last)
    } else {
        blank
    }
}

/// The length in bytes of the text's first run of one kind.
fn run(text: &str, of: Kind) -> usize {
    let end = text.char_indices().find(|(_, c)| kind(*c) != of);
    end.map_or(text.len(), |(at, _)| at)
}

fn is_punctuation(c: char) -> bool {
    if c.is_ascii() {
        c.is_ascii_punctuation()
    } else {
        c.general_category_group() == GeneralCategoryGroup::Punctuation
    }
}

/// `\w` of a Unicode regular expression (UTS #18): letters, marks, digits, connectors, joiners.
fn is_of_words(c: char) -> bool {
    let category = || c.general_category();
    c.is_alphabetic()
        || c.general_category_group() == GeneralCategoryGroup::Mark
        || category() == GeneralCategory::DecimalNumber
        || category() == GeneralCategory::ConnectorPunctuation
        || matches!(c, '\u{200c}' | '\u{200d}')
}
