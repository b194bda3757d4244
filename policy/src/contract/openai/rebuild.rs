//! Rewrites an accepted document for the backend: the backend's model name, and limits that the
//! caller omitted.

use alloc::borrow::Cow;
use alloc::string::String;

use super::OpenAi;
use super::chat::is_left_out;
use super::tokens::max_tokens;
use crate::request::Api;
use crate::values::json::{Members, Value, object};

/// The document for the backend. Equivalent members are unified. `max_tokens` is always present, so
/// the server never uses its own limit.
pub fn rebuild<'a>(
    rules: &OpenAi,
    api: Api,
    backend_model: &str,
    document: Members<'a>,
) -> Value<'a> {
    let generation = match api {
        Api::Chat => rules.chat.as_ref().map(|rule| &rule.generation),
        Api::Completions => rules.completions.as_ref().map(|rule| &rule.generation),
        Api::Embeddings => None,
    };
    let mut stream = false;
    let max_tokens = generation.map(|rule| max_tokens(&document, rule.max_tokens));
    let mut members: Members<'a> = Members::new();
    members.push((
        Cow::Borrowed("model"),
        Value::String(Cow::Owned(backend_model.into())),
    ));
    for (name, value) in document {
        match (name.as_ref(), value) {
            // Null means absent.
            (_, Value::Null) => {}
            ("max_tokens" | "max_completion_tokens", _) => {}
            ("stream", Value::Bool(true)) => stream = true,
            ("stream" | "stream_options", _) => {}
            ("messages", Value::Array(messages)) => {
                let messages = messages.into_iter().map(said).collect();
                members.push((name, Value::Array(messages)));
            }
            (_, value) => members.push((name, value)),
        }
    }
    if let Some(tokens) = max_tokens {
        let tokens = i64::try_from(tokens).unwrap_or(i64::MAX);
        members.push((Cow::Borrowed("max_tokens"), Value::Int(tokens)));
    }
    if stream {
        members.push((Cow::Borrowed("stream"), Value::Bool(true)));
        // Always requested, because generated tokens are counted.
        let options = object([("include_usage", Value::Bool(true))]);
        members.push((Cow::Borrowed("stream_options"), options));
    }
    Value::Object(members)
}

/// A message without absent members.
fn said(message: Value<'_>) -> Value<'_> {
    let role = message.get("role").and_then(Value::as_str);
    let role = String::from(role.unwrap_or_default());
    match message {
        Value::Object(mut members) => {
            members.retain(|(name, value)| !is_left_out(&role, name, value));
            Value::Object(members)
        }
        other => other,
    }
}
