//! WordPiece: a word to the longest tokens of the vocabulary that make it up, from its beginning.

use super::table::{Alike, Reader, Strings};

/// A vocabulary, and what stands for what it cannot make up.
pub struct WordPiece<'t> {
    words: Strings<'t>,
    /// Those that go on within a word.
    inside: Option<Alike>,
    unknown: u32,
    max_chars: usize,
}

impl<'t> WordPiece<'t> {
    /// Tables as they were written. `prefix` is what stands before a piece that is not the first of its word.
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

    /// A word's ids; one that cannot be made up, or is too long, is unknown as a whole.
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
