//! Normalises a text before it is split, as Hugging Face's normalizers do.

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};

/// A normalisation step. Steps run in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// BERT's normalizer.
    Bert(Bert),
    /// Converts each character to lower case by itself.
    Lowercase,
    /// Unicode NFC.
    Nfc,
    /// Unicode NFD.
    Nfd,
    /// Unicode NFKC.
    Nfkc,
    /// Unicode NFKD.
    Nfkd,
    /// Removes separate marks.
    StripAccents,
    /// Removes white space at the ends.
    Strip {
        /// At the start.
        left: bool,
        /// At the end.
        right: bool,
    },
}

/// The options of BERT's normalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the format's own four switches"
)]
pub struct Bert {
    /// Removes control characters, and converts all white space to plain spaces.
    pub clean: bool,
    /// Puts spaces around ideographs.
    pub ideographs: bool,
    /// Decomposes the text and removes non-spacing marks.
    pub strip_accents: bool,
    /// Converts to lower case.
    pub lowercase: bool,
}

/// Applies all steps to a text.
pub fn normalised(steps: &[Step], text: &str) -> String {
    let mut text = text.to_owned();
    for step in steps {
        text = step.taken(&text);
    }
    text
}

impl Step {
    fn taken(self, text: &str) -> String {
        match self {
            Self::Bert(bert) => bert.taken(text),
            Self::Lowercase => text.chars().flat_map(char::to_lowercase).collect(),
            Self::Nfc => text.nfc().collect(),
            Self::Nfd => text.nfd().collect(),
            Self::Nfkc => text.nfkc().collect(),
            Self::Nfkd => text.nfkd().collect(),
            Self::StripAccents => text.chars().filter(|c| !is_combining_mark(*c)).collect(),
            Self::Strip { left, right } => {
                let text = if left { text.trim_start() } else { text };
                if right { text.trim_end() } else { text }.to_owned()
            }
        }
    }
}

impl Bert {
    fn taken(self, text: &str) -> String {
        let mut plain = String::with_capacity(text.len());
        for c in text.chars() {
            if self.clean && is_control(c) {
                continue;
            }
            match c {
                c if self.clean && c.is_whitespace() => plain.push(' '),
                c if self.ideographs && is_ideograph(c) => plain.extend([' ', c, ' ']),
                c => plain.push(c),
            }
        }
        if self.strip_accents {
            let marked = |c: &char| c.general_category() == GeneralCategory::NonspacingMark;
            plain = plain.nfd().filter(|c| !marked(c)).collect();
        }
        if self.lowercase {
            plain = plain.chars().flat_map(char::to_lowercase).collect();
        }
        plain
    }
}

/// Whether a character is removed: it has no meaning of its own, and could hide in a word. Tabs and
/// new lines count as spaces.
fn is_control(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        '\u{fffd}' => true,
        c if c.is_ascii() => c.is_ascii_control(),
        c => c.general_category_group() == GeneralCategoryGroup::Other,
    }
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
