//! Rules of the texts that callers write: their minimum size, special tokens, and the context.

use tensorgate_policy::contract::openai::special_tokens::{
    MAX_MODEL_TOKENS, MAX_NUMBERED_TOKENS, NUMBER_IN_TOKEN, OnToken, SpecialTokens, is_findable,
};
use tensorgate_policy::report::{Path, optional};

use crate::raw::{self, ByteSize};

/// Maximum number of tokens besides the common ones.
const MAX_TOKENS: usize = 64;
/// Default minimum size of a text.
const DEFAULT_MIN_BYTES: usize = 1;

/// The rules of texts.
pub(super) struct TextRules {
    pub(super) min_bytes: usize,
    pub(super) special_tokens: SpecialTokens,
    pub(super) context_tokens: Option<u64>,
}

/// The rules of a model's texts.
pub(super) fn texts(path: &Path, raw: &raw::OpenAi) -> Option<TextRules> {
    let min_bytes = match raw.min_bytes {
        Some(size) => path
            .field("min_bytes")
            .bytes_within(size, 0, shortest_maximum(raw)),
        None => Some(DEFAULT_MIN_BYTES),
    };
    let special_tokens = special_tokens(path, raw);
    let context_tokens = optional(raw.context_tokens, |tokens| {
        tokens.check(&path.field("context_tokens"))
    });
    Some(TextRules {
        min_bytes: min_bytes?,
        special_tokens: special_tokens?,
        context_tokens: context_tokens?,
    })
}

/// The rule for special tokens.
fn special_tokens(path: &Path, raw: &raw::OpenAi) -> Option<SpecialTokens> {
    let on_token = match raw.special_tokens.unwrap_or_default() {
        raw::SpecialTokens::Allow => OnToken::Allow,
        raw::SpecialTokens::Escape => OnToken::Escape,
        raw::SpecialTokens::Refuse => OnToken::Refuse,
    };
    let (additional, only) = (&raw.additional_special_tokens, &raw.only_special_tokens);
    let only_path = path.field("only_special_tokens");
    let additional_path = path.field("additional_special_tokens");
    let checked = listed(&additional_path, additional, MAX_TOKENS, on_token);
    listed(&only_path, only, MAX_MODEL_TOKENS, on_token).and(checked)?;
    match (only.is_empty(), additional.is_empty()) {
        (true, _) => Some(SpecialTokens::new(on_token, additional)),
        (false, true) => Some(SpecialTokens::only(on_token, only)),
        (false, false) => only_path.fail_with_fix(
            "lists all tokens of the model, so that additional_special_tokens have no effect",
            "one of the two",
        ),
    }
}

/// Checks a list of tokens.
fn listed(path: &Path, tokens: &[String], most: usize, on_token: OnToken) -> Option<()> {
    let mut checked = path.distinct(tokens);
    if on_token == OnToken::Allow && !tokens.is_empty() {
        checked = path.fail_with_fix(
            "has no effect: special_tokens allows all tokens",
            "special_tokens: escape",
        );
    }
    path.up_to(tokens.len(), most, "tokens are too many")?;
    let numbered = (tokens.iter()).filter(|token| token.contains(NUMBER_IN_TOKEN));
    path.up_to(numbered.count(), MAX_NUMBERED_TOKENS, "tokens have {n}")?;
    for (index, token) in tokens.iter().enumerate() {
        if !is_findable(token) {
            checked = path.index(index).fail_with_fix(
                "is not a token that can be found in texts: 2 to 64 bytes without blanks, quotes \
                 and backslashes, the first of them punctuation other than `_ - + / =`",
                "<extra_id_7>",
            );
        }
    }
    checked
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
