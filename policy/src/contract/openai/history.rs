//! What a client sends back of an answer: calls of functions, reasoning, and members that its SDK
//! adds. Servers choose ids and names, so these are texts within a bound.

use tensorgate_values::json::Value;
use tensorgate_values::safe_text::is_hidden;

use super::tokens::CALLER;

/// Maximum size of a call's id or function name, in bytes with its special tokens escaped. It is
/// twice what an answer may carry, because escaping at most doubles a text.
pub const MAX_CALL_WORD_BYTES: usize = 256;
/// What a longer one, or one that a log cannot show, is.
pub(super) const NOT_A_CALL_WORD: &str =
    "has more than 256 bytes, or a control or hidden character";
/// Maximum length of a participant's name in characters; the API's own limit.
const MAX_PARTICIPANT_CHARACTERS: usize = 64;
/// Maximum position of a call. The backend does not receive it.
const MAX_CALL_INDEX: i64 = 1024;
/// Maximum size of a hint for a cache as JSON. The backend does not receive it.
const MAX_CACHE_CONTROL_BYTES: usize = 256;

/// Texts of an answer beside its content: the names of reasoning at servers, and a refusal.
pub(super) const TEXTS: [&str; 3] = ["reasoning", "reasoning_content", "refusal"];

/// The type of a part that is a refusal, and its member with the text.
pub(super) const REFUSAL: &str = "refusal";

/// Members of an answer for the services that wrote them, as gateways for several providers keep
/// them. The backend does not receive them.
const OF_OTHER_PROVIDERS: [&str; 4] = [
    "annotations",
    "reasoning_details",
    "thinking_blocks",
    "provider_specific_fields",
];

/// A call of a function in an assistant's message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'v> {
    pub(super) id: &'v str,
    pub(super) name: &'v str,
    pub(super) arguments: &'v str,
}

impl<'v> Call<'v> {
    /// Reads a call; `None`: it is not one, or has a member that no rule names.
    pub(super) fn read(call: &'v Value<'_>) -> Option<Self> {
        let function = call.get("function")?;
        let is_named = call.as_object()?.iter().all(|(name, value)| {
            matches!(name.as_ref(), "id" | "function") || is_left_out_of_call(name.as_ref(), value)
        }) && function.as_object()?.iter().all(|(name, value)| {
            matches!(name.as_ref(), "name" | "arguments")
                || is_left_out_of_function(name.as_ref(), value)
        });
        let called = Self {
            id: call.get("id")?.as_str()?,
            name: function.get("name")?.as_str()?,
            arguments: function.get("arguments")?.as_str()?,
        };
        is_named.then_some(called)
    }
}

/// Whether a log can show an id or a name of a call, and the backend gets at most
/// [`MAX_CALL_WORD_BYTES`]. `added_bytes`: what escaping adds.
pub(super) fn is_call_word(word: &str, added_bytes: usize) -> bool {
    let bytes = word.len().saturating_add(added_bytes);
    bytes <= MAX_CALL_WORD_BYTES && !word.chars().any(is_hidden)
}

/// Whether a participant may have this name: the API's pattern `^[^\s<|\\/>]+$`, in any script.
pub(super) fn is_participant(name: &str) -> bool {
    let is_refused =
        |c: char| c.is_whitespace() || is_hidden(c) || matches!(c, '<' | '>' | '|' | '\\' | '/');
    (1..=MAX_PARTICIPANT_CHARACTERS).contains(&name.chars().count())
        && !name.chars().any(is_refused)
}

/// Whether a message needs no content: it calls functions, refuses, or has reasoning alone.
pub(super) fn has_other_content(role: &str, message: &Value<'_>) -> bool {
    let has_calls = message.get("tool_calls").is_some_and(|calls| {
        let calls = calls.as_array();
        calls.is_some_and(|calls| !calls.is_empty())
    });
    let has_text = TEXTS.iter().any(|name| {
        let text = message.get(name).and_then(Value::as_str);
        text.is_some_and(|text| !text.is_empty())
    });
    role == CALLER && (has_calls || has_text)
}

/// Whether a content says nothing, as `null` and a list of no parts do.
pub(super) fn is_no_content(content: &Value<'_>) -> bool {
    *content == Value::Null || content.as_array().is_some_and(|parts| parts.is_empty())
}

/// Whether a member of a message means absent, or is the client's own. Clients send a response back
/// with all its members; the server does not receive these.
pub(super) fn is_left_out(role: &str, name: &str, value: &Value<'_>) -> bool {
    match (name, value) {
        // Some messages need no content; in others null is not content.
        ("role" | "content", _) => false,
        (name, value) if is_null_or_hint(name, value) => true,
        // Clients with one type for all messages write the members of the others, too.
        (_, Value::Array(none)) if none.is_empty() => true,
        (_, Value::Object(none)) if none.is_empty() => true,
        _ if role != CALLER => false,
        // The content as the client has parsed it.
        ("parsed", _) => true,
        (name, Value::Array(_) | Value::Object(_)) if OF_OTHER_PROVIDERS.contains(&name) => true,
        _ => false,
    }
}

/// As [`is_left_out`], for a call. Joined pieces of a stream keep their `index`, and have no `type`
/// if the server left it out. The backend gets the only type that there is.
pub(super) fn is_left_out_of_call(name: &str, value: &Value<'_>) -> bool {
    match (name, value) {
        ("id" | "function", _) => false,
        // The signature of a thought, at Google's compatible API.
        (_, Value::Null) | ("extra_content" | "provider_specific_fields", Value::Object(_)) => true,
        ("type", Value::String(kind)) => matches!(kind.as_ref(), "" | "function"),
        ("index", Value::Int(index)) => (0..=MAX_CALL_INDEX).contains(index),
        _ => false,
    }
}

/// As [`is_left_out`], for the function of a call. An SDK adds the arguments as it has parsed them.
pub(super) fn is_left_out_of_function(name: &str, value: &Value<'_>) -> bool {
    match name {
        "name" | "arguments" => false,
        "parsed_arguments" => true,
        "provider_specific_fields" => value.as_object().is_some() || *value == Value::Null,
        _ => *value == Value::Null,
    }
}

/// The text of a part of a content.
pub(super) fn part_text<'v>(part: &'v Value<'_>) -> Option<&'v str> {
    let mut names = ["text", REFUSAL].into_iter();
    names.find_map(|name| part.get(name)?.as_str())
}

/// As [`is_left_out`], for a part of a content.
pub(super) fn is_left_out_of_part(name: &str, value: &Value<'_>) -> bool {
    name != "type" && is_null_or_hint(name, value)
}

/// As [`is_left_out`], for a tool and its function.
pub(super) fn is_left_out_of_tool(name: &str, value: &Value<'_>) -> bool {
    !matches!(name, "type" | "function" | "name") && is_null_or_hint(name, value)
}

/// Whether a member is null, or a hint for a cache, as APIs of other services have them. Clients of
/// several services send it to each.
fn is_null_or_hint(name: &str, value: &Value<'_>) -> bool {
    match (name, value) {
        (_, Value::Null) => true,
        ("cache_control" | "prompt_cache_breakpoint", Value::Object(_)) => {
            value.text_bytes() <= MAX_CACHE_CONTROL_BYTES
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
