//! Splits a word into the longest tokens of the vocabulary, from its start.

include!(concat!(env!("OUT_DIR"), "/vocabulary.rs"));

/// A word with more characters is unknown, as in other implementations.
pub const MAX_WORD_CHARS: usize = 100;

/// The prefix of a piece that continues a word.
const CONTINUED: &str = "##";

/// A token's ID, which is its line in the vocabulary.
#[must_use]
pub fn id(token: &str) -> Option<i64> {
    let at = SORTED
        .binary_search_by(|(known, _)| (*known).cmp(token))
        .ok()?;
    SORTED.get(at).map(|(_, id)| *id)
}

/// The IDs of a word's pieces; `None` if the vocabulary cannot form it, or if it is too long.
#[must_use]
pub fn pieces(word: &str) -> Option<Vec<i64>> {
    if word.chars().count() > MAX_WORD_CHARS {
        return None;
    }
    let mut found = Vec::new();
    let mut rest = word;
    while !rest.is_empty() {
        let before = if found.is_empty() { "" } else { CONTINUED };
        let (id, bytes) = longest(before, rest)?;
        found.push(id);
        rest = rest.get(bytes..)?;
    }
    Some(found)
}

/// The longest token that is `before` with a prefix of `rest`, and the length of that prefix. It
/// reads a character more only while a token continues so, so a lookup costs little more than
/// reading the text.
fn longest(before: &str, rest: &str) -> Option<(i64, usize)> {
    let mut token = before.to_owned();
    let mut some: &[(&str, i64)] = &SORTED;
    let mut best = None;
    for c in rest.chars() {
        token.push(c);
        let from = some.partition_point(|(known, _)| *known < token.as_str());
        some = some.get(from..)?;
        let until = some.partition_point(|(known, _)| known.starts_with(token.as_str()));
        some = some.get(..until)?;
        let Some((first, id)) = some.first() else {
            break;
        };
        if *first == token {
            best = Some((*id, token.len().saturating_sub(before.len())));
        }
    }
    best
}
