//! A word to the longest tokens of the vocabulary that make it up, from its beginning.

include!(concat!(env!("OUT_DIR"), "/vocabulary.rs"));

/// A longer word, in characters, is unknown: finding its pieces takes time that grows with the square of its length.
pub const MAX_WORD_CHARS: usize = 100;

/// What stands before a piece that is not the first of its word.
const CONTINUED: &str = "##";

/// A token's id, its line in the vocabulary.
#[must_use]
pub fn id(token: &str) -> Option<i64> {
    let at = SORTED
        .binary_search_by(|(known, _)| (*known).cmp(token))
        .ok()?;
    SORTED.get(at).map(|(_, id)| *id)
}

/// The ids of a word's pieces; `None` if it cannot be made up, or is too long.
#[must_use]
pub fn pieces(word: &str) -> Option<Vec<i64>> {
    if word.chars().count() > MAX_WORD_CHARS {
        return None;
    }
    let mut found = Vec::new();
    let mut rest = word;
    let mut token = String::with_capacity(word.len().saturating_add(CONTINUED.len()));
    while !rest.is_empty() {
        token.clear();
        if !found.is_empty() {
            token.push_str(CONTINUED);
        }
        let prefix = token.len();
        token.push_str(rest);
        let hit = loop {
            if token.len() <= prefix {
                return None;
            }
            if let Some(id) = id(&token) {
                break id;
            }
            token.pop();
        };
        found.push(hit);
        rest = rest.get(token.len().saturating_sub(prefix)..)?;
    }
    Some(found)
}
