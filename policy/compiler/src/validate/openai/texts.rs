//! Rules of the texts that callers write: their minimum size, and special tokens.

use tensorgate_policy::contract::openai::special_tokens::{
    OnToken, SpecialTokens, folded, may_start_token,
};
use tensorgate_policy::report::Path;

use crate::raw::{self, ByteSize};

/// Maximum number of a model's own tokens.
const MAX_TOKENS: usize = 64;
/// Maximum size of a token.
const MAX_TOKEN_BYTES: usize = 64;
/// Default minimum size of a text.
const DEFAULT_MIN_BYTES: usize = 1;

/// The rules of texts.
pub(super) struct TextRules {
    pub(super) min_bytes: usize,
    pub(super) special_tokens: SpecialTokens,
}

/// The minimum size of a text, and the rule for special tokens.
pub(super) fn texts(path: &Path, raw: &raw::OpenAi) -> Option<TextRules> {
    let min_bytes = match raw.min_bytes {
        Some(size) => path
            .field("min_bytes")
            .bytes_within(size, 0, shortest_maximum(raw)),
        None => Some(DEFAULT_MIN_BYTES),
    };
    let on_token = match raw.special_tokens.unwrap_or_default() {
        raw::SpecialTokens::Allow => OnToken::Allow,
        raw::SpecialTokens::Escape => OnToken::Escape,
        raw::SpecialTokens::Refuse => OnToken::Refuse,
    };
    let additional_path = path.field("additional_special_tokens");
    let additional = &raw.additional_special_tokens;
    let mut checked = additional_path.distinct(additional);
    if on_token == OnToken::Allow && !additional.is_empty() {
        checked = additional_path.fail_with_fix(
            "has no effect: special_tokens allows all tokens",
            "special_tokens: escape",
        );
    }
    additional_path.up_to(additional.len(), MAX_TOKENS, "tokens are too many")?;
    for (index, token) in additional.iter().enumerate() {
        if !is_token(token) {
            checked = additional_path.index(index).fail_with_fix(
                "is not a token that can be found in texts: 2 to 64 bytes without blanks, quotes \
                 and backslashes, the first of them punctuation other than `_ - + / =`",
                "<extra_id_7>",
            );
        }
    }
    checked?;
    Some(TextRules {
        min_bytes: min_bytes?,
        special_tokens: SpecialTokens::new(on_token, additional),
    })
}

/// The smallest of the maximum sizes of a text.
fn shortest_maximum(raw: &raw::OpenAi) -> u64 {
    let chat = raw.chat.as_ref().and_then(|raw| raw.max_message_bytes);
    let completions = raw
        .completions
        .as_ref()
        .and_then(|raw| raw.max_prompt_bytes);
    let embeddings = raw.embeddings.as_ref().and_then(|raw| raw.max_item_bytes);
    let sizes = [chat, completions, embeddings].into_iter().flatten();
    sizes.map(|ByteSize(bytes)| bytes).min().unwrap_or(u64::MAX)
}

/// Whether a blank can be put into the token.
fn is_token(token: &str) -> bool {
    let starts = token.chars().next().is_some_and(may_start_token);
    let more = token.chars().filter_map(folded).nth(1).is_some();
    let excluded = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\');
    starts && more && token.len() <= MAX_TOKEN_BYTES && !token.contains(excluded)
}
