//! Special tokens in the texts of callers.
//!
//! A server's tokenizer reads `<|im_end|>` in a text as the end of the message, so that a caller
//! can write messages of other roles. It reads `<|image_pad|>` as a picture, and a picture that
//! never came has stopped servers (CVE-2026-44222).
//!
//! Escaping puts a blank behind a token's first character: `< |im_end|>`. No token has a blank
//! inside, and normalization keeps one. It would remove a character without a width.

mod common;
mod scan;

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::json::Value;

use super::history::part_text;
use super::schema::Fault;

use common::TokenSet;
pub use common::{MAX_NUMBER_DIGITS, NUMBER_IN_TOKEN};
pub use scan::folded;
pub(super) use scan::{TextForm, unescaped};

/// What separates a token's first character from the others.
const BREAK: char = ' ';
/// The members of tools and schemas whose texts are for the model, and may be changed.
const PROSE: [&str; 2] = ["description", "title"];
/// Maximum number of tokens in a policy's list of all tokens of a model.
pub const MAX_MODEL_TOKENS: usize = 1_024;
/// Maximum number of tokens with [`NUMBER_IN_TOKEN`] in a list. Each is compared by itself.
pub const MAX_NUMBERED_TOKENS: usize = 16;
/// Maximum size of a token of a policy.
const MAX_TOKEN_BYTES: usize = 64;
/// Why a text is rejected.
const FOUND: Fault = "has a special token of the model";

/// Whether a special token may start with this character, after normalization. A document reserves
/// memory for each of them, so the punctuation of names and of base64 is left out.
pub const fn may_start_token(character: char) -> bool {
    character.is_ascii_punctuation()
        && !matches!(character, '_' | '-' | '+' | '/' | '=' | '"' | '\\')
}

/// Whether a token can be found in texts, and a blank be put into it.
pub fn is_findable(token: &str) -> bool {
    let starts = token.chars().next().is_some_and(may_start_token);
    let more = token.chars().filter_map(folded).nth(1).is_some();
    let excluded = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '\\');
    // A number is `#` in what is compared, and takes all digits that follow.
    let is_clear = token.split_once(NUMBER_IN_TOKEN).is_none_or(|(_, after)| {
        let goes_on = after.starts_with(|c: char| c.is_ascii_digit());
        !goes_on && !after.contains(NUMBER_IN_TOKEN) && !token.contains('#')
    });
    starts && more && is_clear && token.len() <= MAX_TOKEN_BYTES && !token.contains(excluded)
}

/// Whether a text begins with a special token of a common model.
pub fn begins_with_common(text: &str) -> bool {
    TokenSet::new(true, Vec::new()).starts(text.chars().filter_map(folded))
}

/// What a special token leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnToken {
    /// The text is not examined.
    Allow,
    /// The backend gets the text with a blank inside the token.
    Escape,
    /// The request is rejected.
    Refuse,
}

fn normalized(tokens: &[String]) -> Vec<String> {
    let normalized = |token: &String| token.chars().filter_map(folded).collect();
    tokens.iter().map(normalized).collect()
}

/// Rule for the special tokens of a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SpecialTokens {
    pub on_token: OnToken,
    /// The tokens. [`may_start_token`] holds for the first character of each.
    tokens: TokenSet,
}

impl SpecialTokens {
    /// A rule for the tokens of common models and for `additional` ones.
    pub fn new(on_token: OnToken, additional: &[String]) -> Self {
        Self {
            on_token,
            tokens: TokenSet::new(true, normalized(additional)),
        }
    }

    /// A rule for the tokens of one model.
    pub fn only(on_token: OnToken, tokens: &[String]) -> Self {
        Self {
            on_token,
            tokens: TokenSet::new(false, normalized(tokens)),
        }
    }

    fn starts<'t>(&'t self, text: &'t str, form: TextForm) -> impl Iterator<Item = usize> + 't {
        scan::token_starts(text, form, &self.tokens)
    }

    /// Bytes that escaping adds to a text, or why the text is rejected.
    pub(super) fn added_bytes(&self, text: &str, form: TextForm) -> Result<usize, Fault> {
        match self.on_token {
            OnToken::Allow => Ok(0),
            OnToken::Escape => Ok(self.starts(text, form).count()),
            OnToken::Refuse => self.refused(text, form).map(|()| 0),
        }
    }

    fn refused(&self, text: &str, form: TextForm) -> Result<(), Fault> {
        match self.starts(text, form).next() {
            Some(_) => Err(FOUND),
            None => Ok(()),
        }
    }

    /// As [`Self::added_bytes`], for a list of tools or a schema. Names and values would mean
    /// something else if they were escaped, so a token in one of them is a fault. The recursion is
    /// limited by the parser's depth.
    pub(super) fn added_to_schema(&self, value: &Value<'_>) -> Result<usize, Fault> {
        match (self.on_token, value) {
            (OnToken::Allow, _) => Ok(0),
            (_, Value::String(text)) => self.refused(text, TextForm::Plain).map(|()| 0),
            (_, Value::Array(elements)) => elements.iter().try_fold(0_usize, |bytes, element| {
                Ok(bytes.saturating_add(self.added_to_schema(element)?))
            }),
            (_, Value::Object(members)) => members.iter().try_fold(0_usize, |bytes, member| {
                let (name, value) = member;
                self.refused(name, TextForm::Plain)?;
                let more = if PROSE.contains(&name.as_ref())
                    && let Value::String(text) = value
                {
                    self.added_bytes(text, TextForm::Plain)?
                } else {
                    self.added_to_schema(value)?
                };
                Ok(bytes.saturating_add(more))
            }),
            (_, Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_)) => Ok(0),
        }
    }

    /// Rejects a token that begins in one part of a message and ends in another. Templates trim
    /// the texts of parts and write them one behind the other, whatever is between them. A blank
    /// at the end of a part would be trimmed too, so such a token cannot be escaped.
    pub(super) fn across_parts(&self, parts: &[Value<'_>], form: TextForm) -> Result<(), Fault> {
        if self.on_token == OnToken::Allow {
            return Ok(());
        }
        let texts = || {
            let texts = parts.iter().filter_map(part_text);
            texts.map(|text| text.trim_matches(|c: char| c.is_whitespace() || c.is_control()))
        };
        if texts().nth(1).is_none() {
            return Ok(());
        }
        let apart = texts().map(|text| self.starts(text, form).count());
        let apart = apart.fold(0, usize::saturating_add);
        let bytes = texts().map(str::len).fold(0, usize::saturating_add);
        let mut joined = String::with_capacity(bytes);
        texts().for_each(|text| joined.push_str(text));
        if self.starts(&joined, form).count() > apart {
            return Err("has a special token of the model across its parts");
        }
        Ok(())
    }

    /// The text for the backend.
    pub(super) fn escape<'a>(&self, text: Cow<'a, str>, form: TextForm) -> Cow<'a, str> {
        if self.on_token != OnToken::Escape {
            return text;
        }
        let breaks = self.starts(&text, form).count();
        if breaks == 0 {
            return text;
        }
        let mut escaped = String::with_capacity(text.len().saturating_add(breaks));
        let mut from = 0;
        for start in self.starts(&text, form) {
            escaped.push_str(text.get(from..start).unwrap_or_default());
            escaped.push(BREAK);
            from = start;
        }
        escaped.push_str(text.get(from..).unwrap_or_default());
        Cow::Owned(escaped)
    }

    /// As [`Self::escape`], for a list of tools or a schema.
    pub(super) fn escape_schema<'a>(&self, value: Value<'a>) -> Value<'a> {
        match value {
            Value::Array(elements) => {
                let elements = elements.into_iter();
                Value::Array(
                    elements
                        .map(|element| self.escape_schema(element))
                        .collect(),
                )
            }
            Value::Object(members) => {
                let members = members.into_iter().map(|(name, value)| {
                    let value = if PROSE.contains(&name.as_ref())
                        && let Value::String(text) = value
                    {
                        Value::String(self.escape(text, TextForm::Plain))
                    } else {
                        self.escape_schema(value)
                    };
                    (name, value)
                });
                Value::Object(members.collect())
            }
            scalar @ (Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Float(_)
            | Value::String(_)) => scalar,
        }
    }
}

#[cfg(test)]
mod tests;
