//! Where special tokens begin in a text.

use super::common::TokenSet;

/// How the server reads a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::contract::openai) enum TextForm {
    /// As it is.
    Plain,
    /// Perhaps as JSON, whose escapes it resolves: arguments of calls, and results of tools.
    Json,
}

/// The offsets in a text behind the first character of each special token, in ascending order. A
/// text that is split at each of them holds no token. Tokens may overlap.
pub(super) fn token_starts(
    text: &str,
    form: TextForm,
    tokens: &TokenSet,
) -> impl Iterator<Item = usize> {
    let has_escapes = form == TextForm::Json && text.contains('\\');
    let mut last = 0;
    text.char_indices().filter_map(move |(at, character)| {
        // All tokens and all escapes begin with punctuation.
        let begin = folded(character)?;
        let may_begin = match begin {
            '<' | '[' | ']' | '\\' => true,
            _ => tokens.has_others() && begin.is_ascii_punctuation(),
        };
        if !may_begin {
            return None;
        }
        let rest = text.get(at..)?;
        let bytes = if tokens.starts(rest.chars().filter_map(folded)) {
            character.len_utf8()
        } else if has_escapes && tokens.starts(unescaped(rest).filter_map(folded)) {
            first_unescaped(rest)?.1
        } else {
            return None;
        };
        let offset = at.saturating_add(bytes);
        // `\[INST]` has its token at the backslash and at the bracket, with one offset.
        if offset <= last {
            return None;
        }
        last = offset;
        Some(offset)
    })
}

/// The characters of a text without its JSON escapes.
pub(in crate::contract::openai) fn unescaped(text: &str) -> Unescaped<'_> {
    Unescaped { rest: text }
}

/// See [`unescaped`].
#[derive(Clone)]
pub(in crate::contract::openai) struct Unescaped<'t> {
    rest: &'t str,
}

impl Iterator for Unescaped<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let (character, bytes) = first_unescaped(self.rest)?;
        self.rest = self.rest.get(bytes..).unwrap_or_default();
        Some(character)
    }
}

/// The first character of a text without its JSON escapes, and its size with them.
fn first_unescaped(text: &str) -> Option<(char, usize)> {
    /// Size of an escape with four digits.
    const ESCAPE_BYTES: usize = 6;
    let mut characters = text.chars();
    let character = characters.next()?;
    let plain = Some((character, character.len_utf8()));
    if character != '\\' {
        return plain;
    }
    match characters.next() {
        Some('u') => {
            let digits = text.get(2..ESCAPE_BYTES);
            let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
            match code {
                // Half of a pair is a part of no token.
                Some(code) => Some((char::from_u32(code).unwrap_or(' '), ESCAPE_BYTES)),
                None => plain,
            }
        }
        Some('b' | 'f' | 'n' | 'r' | 't') => Some((' ', 2)),
        Some(escaped) => Some((escaped, escaped.len_utf8().saturating_add(1))),
        None => plain,
    }
}

/// A character after normalization, as far as tokens need it: full-width forms become ASCII, and
/// characters without a width vanish.
pub fn folded(character: char) -> Option<char> {
    /// From a full-width form to its ASCII character.
    const WIDE: u32 = 0xfee0;
    match character {
        '\u{ad}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2060}'..='\u{2064}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' => None,
        '\u{ff01}'..='\u{ff5e}' => {
            char::from_u32(u32::from(character).saturating_sub(WIDE)).or(Some(character))
        }
        '\u{fe64}' => Some('<'),
        '\u{fe65}' => Some('>'),
        _ => Some(character),
    }
}
