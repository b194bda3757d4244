//! A text to words, as BERT's basic tokeniser makes them. A word is bounded while it is read: what is longer than any known word keeps
//! being read to its end and is kept only as too long.

use unicode_normalization::UnicodeNormalization as _;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};

use crate::wordpiece::MAX_WORD_CHARS;

/// The words of a text, one after another.
pub struct Words<'t> {
    characters: Box<dyn Iterator<Item = char> + 't>,
    /// What ended the word before it, and is one itself.
    next: Option<char>,
}

impl<'t> Words<'t> {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(text: &'t str) -> Self {
        let cleaned = text.chars().filter(|c| !is_control(*c));
        let plain = cleaned
            .nfd()
            .filter(|c| c.general_category() != GeneralCategory::NonspacingMark);
        Self {
            characters: Box::new(plain.flat_map(char::to_lowercase)),
            next: None,
        }
    }
}

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if let Some(alone) = self.next.take() {
            return Some(alone.into());
        }
        let mut word = String::new();
        let mut length = 0_usize;
        for c in self.characters.by_ref() {
            if c.is_whitespace() {
                if length > 0 {
                    return Some(word);
                }
            } else if stands_alone(c) {
                if length == 0 {
                    return Some(c.into());
                }
                self.next = Some(c);
                return Some(word);
            } else if length <= MAX_WORD_CHARS {
                // One more than a known word can have, so that it is seen to be too long.
                word.push(c);
                length = length.saturating_add(1);
            }
        }
        (length > 0).then_some(word)
    }
}

/// What is left out: it has no meaning of its own, and could hide in a word. A tab and a new line are spaces.
fn is_control(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        '\u{fffd}' => true,
        c => c.general_category_group() == GeneralCategoryGroup::Other,
    }
}

/// Punctuation and ideographs: a word each.
fn stands_alone(c: char) -> bool {
    c.is_ascii_punctuation()
        || c.general_category_group() == GeneralCategoryGroup::Punctuation
        || is_ideograph(c)
}

/// The blocks that BERT counts.
const fn is_ideograph(c: char) -> bool {
    matches!(c,
        '\u{4e00}'..='\u{9fff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{20000}'..='\u{2a6df}'
        | '\u{2a700}'..='\u{2b73f}'
        | '\u{2b740}'..='\u{2b81f}'
        | '\u{2b920}'..='\u{2ceaf}'
        | '\u{f900}'..='\u{faff}'
        | '\u{2f800}'..='\u{2fa1f}')
}
