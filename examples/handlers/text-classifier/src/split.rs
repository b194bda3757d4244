//! A text to the words of which tokens are made, as Hugging Face's pre-tokenizers split it. A word is handed on when it is found: who has had enough stops.

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};

/// One step. Each splits what the one before it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// At white space, which goes, and around punctuation.
    Bert,
    /// At white space, which goes, and between what words are made of and what they are not.
    Whitespace,
    /// At white space, which goes.
    WhitespaceSplit,
    /// Around punctuation.
    Punctuation,
    /// Around digits.
    Digits {
        /// Each by itself.
        individual: bool,
    },
    /// GPT-2's words, with the space before them.
    ByteLevel {
        /// Whether the first word gets a space too.
        prefix: bool,
        /// Whether it is split at all.
        words: bool,
    },
}

/// Takes a word; may have had enough.
pub type Sink<'s> = &'s mut dyn FnMut(&str) -> ControlFlow<()>;

/// Each word of a text, in order.
pub fn each(steps: &[Step], text: &str, sink: Sink<'_>) -> ControlFlow<()> {
    if text.is_empty() {
        return ControlFlow::Continue(());
    }
    let Some((step, others)) = steps.split_first() else {
        return sink(text);
    };
    step.split(text, &mut |word| each(others, word, sink))
}

/// What becomes of a character where a text is split.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// It ends a word and goes.
    Gone,
    /// It is a word of its own.
    Alone,
    /// It goes on as the one before it did, if that was of the same kind.
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

/// Splits by what becomes of each character.
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

/// Hands a word on, unless it goes; what is left of the text after it.
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

/// What follows an apostrophe as a word of its own with it.
const CONTRACTIONS: [&str; 7] = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"];

/// The words of GPT-2: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
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

/// Bytes of the first word of a text that is not empty.
fn gpt2_word(text: &str) -> usize {
    if let Some(found) = CONTRACTIONS.iter().find(|one| text.starts_with(**one)) {
        return found.len();
    }
    // One space goes with the word after it.
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
    // The last of several is left to the word after it; at the end of the text there is none.
    let last = last.map_or(0, char::len_utf8);
    if blank < text.len() && blank > last {
        blank.saturating_sub(last)
    } else {
        blank
    }
}

/// Bytes that a text begins with that are all of one kind.
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

/// `\w` of a regular expression over Unicode (UTS #18): letters, marks, digits, connectors, joiners.
fn is_of_words(c: char) -> bool {
    let category = || c.general_category();
    c.is_alphabetic()
        || c.general_category_group() == GeneralCategoryGroup::Mark
        || category() == GeneralCategory::DecimalNumber
        || category() == GeneralCategory::ConnectorPunctuation
        || matches!(c, '\u{200c}' | '\u{200d}')
}
