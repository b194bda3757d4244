//! Splits a text into words, as BERT's basic tokenizer does. A word is bounded while it is read: a
//! word longer than any known word is read to its end, and only its excessive length is recorded.

use unicode_normalization::UnicodeNormalization as _;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};

use crate::wordpiece::MAX_WORD_CHARS;

/// The words of a text, one after another.
pub struct Words<'t> {
    characters: Box<dyn Iterator<Item = char> + 't>,
    /// The character that ended the previous word, and is a word itself.
    next: Option<char>,
}

impl<'t> Words<'t> {
    /// Starts at the beginning of a text.
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
                // One character more than a known word can have, to detect long words.
                word.push(c);
                length = length.saturating_add(1);
            }
        }
        (length > 0).then_some(word)
    }
}

/// Whether a character is removed: it has no meaning of its own, and could hide in a word. Tabs and
/// new lines count as spaces.
fn is_control(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        '\u{fffd}' => true,
        c => c.general_category_group() == GeneralCategoryGroup::Other,
    }
}

/// Whether a character is a word of its own: punctuation and ideographs.
fn stands_alone(c: char) -> bool {
    c.is_ascii_punctuation()
        || c.general_category_group() == GeneralCategoryGroup::Punctuation
        || is_ideograph(c)
}

/// Whether a character is in the Unicode blocks that BERT counts as ideographs.
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
