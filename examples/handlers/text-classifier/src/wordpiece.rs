//! WordPiece: splits a word into the longest tokens of the vocabulary, from its start.

use super::table::{Alike, Reader, Strings};

/// A vocabulary, with the ID of unknown words.
pub struct WordPiece<'t> {
    words: Strings<'t>,
    /// Tokens that continue a word.
    inside: Option<Alike>,
    unknown: u32,
    max_chars: usize,
}

impl<'t> WordPiece<'t> {
    /// Reads the tables that were written. `prefix` marks a piece that continues a word.
    pub fn read(
        reader: &mut Reader<'t>,
        prefix: &str,
        unknown: u32,
        max_chars: usize,
    ) -> Option<Self> {
        let words = Strings::read(reader)?;
        Some(Self {
            words,
            inside: words.beginning(prefix.as_bytes()),
            unknown,
            max_chars,
        })
    }

    /// Appends a word's IDs. A word that the vocabulary cannot form, or that is too long, is one
    /// unknown token.
    pub fn ids(&self, word: &str, ids: &mut Vec<u32>) {
        let begun = ids.len();
        let short = word.chars().nth(self.max_chars).is_none();
        if !short || self.pieces(word.as_bytes(), ids).is_none() {
            ids.truncate(begun);
            ids.push(self.unknown);
        }
    }

    fn pieces(&self, word: &[u8], ids: &mut Vec<u32>) -> Option<()> {
        let mut rest = word;
        while !rest.is_empty() {
            let first = rest.len() == word.len();
            let alike = if first {
                Some(self.words.all())
            } else {
                self.inside
            };
            let (id, bytes) = self.words.longest(alike?, rest)?;
            ids.push(id);
            rest = rest.get(bytes..)?;
        }
        Some(())
    }
}
