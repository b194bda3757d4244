//! A word to the longest tokens of the vocabulary that make it up, from its beginning.

include!(concat!(env!("OUT_DIR"), "/vocabulary.rs"));

/// A longer word, in characters, is unknown, as it is to others who read this vocabulary.
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
    while !rest.is_empty() {
        let before = if found.is_empty() { "" } else { CONTINUED };
        let (id, bytes) = longest(before, rest)?;
        found.push(id);
        rest = rest.get(bytes..)?;
    }
    Some(found)
}

/// The longest token that is `before` and a beginning of `rest`, and how much of `rest` that is. Looks at one more character as long as any
/// token goes on so: what a caller writes costs little more than what it takes to read it.
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
