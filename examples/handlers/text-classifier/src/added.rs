//! Tokens that were added to a vocabulary: they are found in a text before it is split. Special ones are not: what a caller writes is text, and never a
//! token that means something to the model.

use super::table::{Reader, Strings, Writer};

/// The mark of a special token's value: it is passed over, and hides others that begin within it, as Hugging Face's `encode_special_tokens` has it.
const SPECIAL: u32 = 1 << 31;

/// Added tokens of one kind: those that are looked for before the text is normalised, or after.
pub struct Added<'t> {
    tokens: Strings<'t>,
    /// A bit for each byte that a token begins with.
    firsts: &'t [u8],
}

/// What a text is made of.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'s> {
    /// A token's id.
    Token(u32),
    /// Text.
    Text(&'s str),
}

impl<'t> Added<'t> {
    /// Writes tokens, each with its id and whether it is special. Where all are special there is nothing to look for.
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

    /// Those that were written there.
    pub fn read(reader: &mut Reader<'t>) -> Option<Self> {
        Some(Self {
            tokens: Strings::read(reader)?,
            firsts: reader.section()?,
        })
    }

    /// A text's pieces, in order: the leftmost token first, of several there the longest.
    pub fn pieces<'s>(&self, text: &'s str) -> Vec<Piece<'s>> {
        if self.tokens.is_empty() {
            return vec![Piece::Text(text)];
        }
        let mut pieces = Vec::new();
        let bytes = text.as_bytes();
        // Text that was not handed on begins at `from`.
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

    /// The longest token that bytes begin with.
    fn token(&self, rest: &[u8]) -> Option<(u32, usize)> {
        let first = *rest.first()?;
        let bits = self.firsts.get(usize::from(first >> 3))?;
        (bits >> (first & 7) & 1 == 1)
            .then(|| self.tokens.longest(self.tokens.all(), rest))
            .flatten()
    }
}
