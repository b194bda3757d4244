//! Added tokens of a vocabulary, which are found in a text before it is split. Special tokens are
//! not matched: a caller's text never becomes a token that controls the model.

use super::table::{Reader, Strings, Writer};

/// The flag of a special token's value. Such a token is matched but passed over, and hides tokens
/// that begin within it, as in Hugging Face's `encode_special_tokens`.
const SPECIAL: u32 = 1 << 31;

/// Added tokens of one kind: those matched before normalisation, or those matched after it.
pub struct Added<'t> {
    tokens: Strings<'t>,
    /// A bit for each byte with which a token begins.
    firsts: &'t [u8],
}

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'s> {
    /// A token's id.
    Token(u32),
    /// Text.
    Text(&'s str),
}

impl<'t> Added<'t> {
    /// Writes tokens, each with its ID and whether it is special. If all are special, the table
    /// stays empty.
    pub fn write<'s>(
        writer: &mut Writer,
        sorted: impl Iterator<Item = (&'s str, (u32, bool))> + Clone,
    ) {
        let some = sorted.clone().any(|(_, (_, special))| !special);
        let sorted = sorted.filter(|_| some);
        let mut firsts = [0_u8; 32];
        for byte in sorted.clone().filter_map(|(token, _)| token.bytes().next()) {
            if let Some(bits) = firsts.get_mut(usize::from(byte >> 3)) {
                *bits |= 1 << (byte & 7);
            }
        }
        let values = sorted.map(|(token, (id, special))| {
            let mark = if special { SPECIAL } else { 0 };
            (token.as_bytes(), id | mark)
        });
        Strings::write(writer, values);
        writer.section(&firsts);
    }

    /// Reads the tokens that `write` wrote.
    pub fn read(reader: &mut Reader<'t>) -> Option<Self> {
        Some(Self {
            tokens: Strings::read(reader)?,
            firsts: reader.section()?,
        })
    }

    /// The pieces of a text, in order: the leftmost token first, and the longest at each position.
    pub fn pieces<'s>(&self, text: &'s str) -> Vec<Piece<'s>> {
        if self.tokens.is_empty() {
            return vec![Piece::Text(text)];
        }
        let mut pieces = Vec::new();
        let bytes = text.as_bytes();
        // `from` is the start of the text that is not yet returned.
        let (mut from, mut at) = (0, 0);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let Some((value, length)) = self.token(rest) else {
                at = at.saturating_add(1);
                continue;
            };
            let end = at.saturating_add(length);
            if value & SPECIAL == 0 {
                pieces.extend(text.get(from..at).map(Piece::Text));
                pieces.push(Piece::Token(value));
                from = end;
            }
            at = end;
        }
        pieces.extend(text.get(from..).map(Piece::Text));
        pieces
    }

    /// The longest token at the start of these bytes.
    fn token(&self, rest: &[u8]) -> Option<(u32, usize)> {
        let first = *rest.first()?;
        let bits = self.firsts.get(usize::from(first >> 3))?;
        (bits >> (first & 7) & 1 == 1)
            .then(|| self.tokens.longest(self.tokens.all(), rest))
            .flatten()
    }
}
