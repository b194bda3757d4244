//! Texts that stand for a request ID of the gate: the ID, or its first characters.

/// The fewest characters that stand for an ID. Fewer are the start of many IDs of a usual log.
const MIN_PREFIX_CHARS: usize = 6;

/// Whether a text stands for an ID.
pub fn matches_id(text: &str, id: &str) -> bool {
    id == text || is_prefix_of(text, id)
}

/// Whether a text is long enough to stand for an ID, and is its beginning.
pub fn is_prefix_of(text: &str, id: &str) -> bool {
    text.chars().count() >= MIN_PREFIX_CHARS && id.starts_with(text)
}
