//! Rewrites an accepted document for the backend: the backend's model name, and limits that the
//! caller omitted.

use alloc::borrow::Cow;
use alloc::string::String;
use core::cell::Cell;

use tensorgate_values::json::{Members, Value, object};

use super::OpenAi;
use super::chat::form;
use super::history::{
    REFUSAL, TEXTS, has_other_content, is_left_out, is_left_out_of_call, is_left_out_of_function,
    is_left_out_of_part, is_left_out_of_tool, is_no_content,
};
use super::members::is_absent;
use super::picture::lower_header;
use super::special_tokens::{SpecialTokens, TextForm};
use super::tokens::{CALLER, max_tokens};
use crate::request::Api;

/// A document for the backend.
#[derive(Debug)]
pub struct Rebuilt<'a> {
    /// The document.
    pub document: Value<'a>,
    /// Whether a text had a special token, which is escaped.
    pub escaped: bool,
}

/// Escapes special tokens, and notes whether a text had one.
struct Escaper<'r> {
    rule: &'r SpecialTokens,
    escaped: Cell<bool>,
}

impl Escaper<'_> {
    fn escape<'a>(&self, text: Cow<'a, str>, form: TextForm) -> Cow<'a, str> {
        let bytes = text.len();
        let text = self.rule.escape(text, form);
        self.note(text.len() != bytes);
        text
    }

    fn escape_schema<'a>(&self, value: Value<'a>) -> Value<'a> {
        let bytes = value.text_bytes();
        let value = self.rule.escape_schema(value);
        self.note(value.text_bytes() != bytes);
        value
    }

    fn note(&self, escaped: bool) {
        self.escaped.set(self.escaped.get() || escaped);
    }
}

/// The document for the backend. Equivalent members are unified. `max_tokens` is always present, so
/// the server never uses its own limit.
pub fn rebuild<'a>(
    rules: &OpenAi,
    api: Api,
    backend_model: &str,
    document: Members<'a>,
) -> Rebuilt<'a> {
    let tokens = Escaper {
        rule: &rules.special_tokens,
        escaped: Cell::new(false),
    };
    let generation = match api {
        Api::Chat => rules.chat.as_ref().map(|rule| &rule.generation),
        Api::Completions => rules.completions.as_ref().map(|rule| &rule.generation),
        Api::Embeddings => None,
    };
    let has_rule = |name: &str| rules.parameters.iter().any(|(known, _)| known == name);
    let mut stream = false;
    let max_tokens = generation.map(|rule| max_tokens(&document, rule.max_tokens));
    let mut members: Members<'a> = Members::new();
    members.push((
        Cow::Borrowed("model"),
        Value::String(Cow::Owned(backend_model.into())),
    ));
    for (name, value) in document {
        if is_absent(&name, &value) {
            continue;
        }
        match (name.as_ref(), value) {
            // Null means absent.
            (_, Value::Null) => {}
            ("max_tokens" | "max_completion_tokens", _) => {}
            ("stream", Value::Bool(true)) => stream = true,
            ("stream" | "stream_options", _) => {}
            ("messages", Value::Array(messages)) => {
                let messages = messages.into_iter();
                let messages = messages.map(|message| escaped_message(message, &tokens));
                members.push((name, Value::Array(messages.collect())));
            }
            ("prompt" | "input", value) => {
                members.push((name, texts(value, &tokens)));
            }
            ("tools", Value::Array(tools)) => {
                let tools = tools.into_iter();
                let tools = tools.map(|tool| without(tool, "function", is_left_out_of_tool));
                let tools = Value::Array(tools.collect());
                let tools = tokens.escape_schema(tools);
                members.push((name, tools));
            }
            ("response_format", format) => {
                // Absent members may have any name, so the server does not get them.
                let format = without(format, "json_schema", |_, value| *value == Value::Null);
                members.push((name, tokens.escape_schema(format)));
            }
            (_, value @ Value::Object(_)) if has_rule(name.as_ref()) => {
                members.push((name, without_nulls(value)));
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
    Rebuilt {
        document: Value::Object(members),
        escaped: tokens.escaped.get(),
    }
}

/// An object and the one below `inner`, without the omitted members.
fn without<'a>(
    mut value: Value<'a>,
    inner: &str,
    is_omitted: fn(&str, &Value<'_>) -> bool,
) -> Value<'a> {
    if let Value::Object(members) = &mut value {
        members.retain(|(name, value)| !is_omitted(name, value));
        for (name, value) in members {
            if let Value::Object(members) = value
                && **name == *inner
            {
                members.retain(|(name, value)| !is_omitted(name, value));
            }
        }
    }
    value
}

/// An object without members that are null, which its rule does not bound. The recursion is limited
/// by the depth of the rule.
fn without_nulls(value: Value<'_>) -> Value<'_> {
    let Value::Object(mut members) = value else {
        return value;
    };
    members.retain(|(_, value)| *value != Value::Null);
    let members = members.into_iter();
    let members = members.map(|(name, value)| (name, without_nulls(value)));
    Value::Object(members.collect())
}

/// A text or a list of texts, with special tokens escaped.
fn texts<'a>(value: Value<'a>, tokens: &Escaper<'_>) -> Value<'a> {
    match value {
        Value::String(text) => Value::String(tokens.escape(text, TextForm::Plain)),
        Value::Array(elements) => {
            let elements = elements.into_iter();
            Value::Array(elements.map(|element| texts(element, tokens)).collect())
        }
        other @ (Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::Object(_)) => other,
    }
}

/// A message without absent members, and with special tokens escaped.
fn escaped_message<'a>(message: Value<'a>, tokens: &Escaper<'_>) -> Value<'a> {
    let role = message.get("role").and_then(Value::as_str);
    let role = String::from(role.unwrap_or_default());
    let has_other = has_other_content(&role, &message);
    let Value::Object(mut members) = message else {
        return message;
    };
    members.retain(|(name, value)| !is_left_out(&role, name, value));
    if role == CALLER && !has_other && !members.iter().any(|(name, _)| name == "content") {
        members.push((Cow::Borrowed("content"), Value::text("")));
    }
    for (name, value) in &mut members {
        match &**name {
            // A list of no parts, beside calls or reasoning.
            "content" if has_other && is_no_content(value) => *value = Value::Null,
            // Templates may write null as a word.
            "content" if is_no_content(value) => *value = Value::text(""),
            "content" => {
                retain_parts(value);
                escape(value, "text", form(&role), tokens);
            }
            "tool_calls" => escape_calls(value, tokens),
            "name" | "tool_call_id" => escape(value, "", TextForm::Plain, tokens),
            name if TEXTS.contains(&name) => escape(value, "", TextForm::Plain, tokens),
            _ => {}
        }
    }
    Value::Object(members)
}

/// Leaves out what the server does not receive of the parts of a content.
fn retain_parts(content: &mut Value<'_>) {
    let Value::Array(parts) = content else {
        return;
    };
    for part in parts {
        if let Value::Object(members) = part {
            members.retain(|(name, value)| !is_left_out_of_part(name, value));
            refusal_as_text(members);
            for (_, value) in members {
                if let Value::Object(picture) = value {
                    picture.retain(|(_, value)| *value != Value::Null);
                    for (name, value) in picture {
                        if **name == *"url"
                            && let Value::String(url) = value
                        {
                            lower_header(url);
                        }
                    }
                }
            }
        }
    }
}

/// Writes a part that is a refusal as a text, because not every server knows such parts.
fn refusal_as_text(part: &mut Members<'_>) {
    if part.iter().all(|(name, _)| name != REFUSAL) {
        return;
    }
    for (name, value) in part {
        match &**name {
            "type" => *value = Value::text("text"),
            REFUSAL => *name = Cow::Borrowed("text"),
            _ => {}
        }
    }
}

/// The calls of a message: their own members alone, with special tokens escaped.
fn escape_calls(calls: &mut Value<'_>, tokens: &Escaper<'_>) {
    let Value::Array(calls) = calls else {
        return;
    };
    for call in calls {
        let Value::Object(members) = call else {
            continue;
        };
        members.retain(|(name, value)| !is_left_out_of_call(name, value));
        for (name, value) in &mut *members {
            match (&**name, value) {
                ("id", value) => escape(value, "", TextForm::Plain, tokens),
                ("function", Value::Object(members)) => {
                    members.retain(|(name, value)| !is_left_out_of_function(name, value));
                    for (name, value) in members {
                        let form = match &**name {
                            "arguments" => TextForm::Json,
                            _ => TextForm::Plain,
                        };
                        escape(value, "", form, tokens);
                    }
                }
                _ => {}
            }
        }
        members.push((Cow::Borrowed("type"), Value::text("function")));
    }
}

/// Escapes special tokens in a text, and in the members of this name of lists and objects. The
/// recursion is limited by the parser's depth.
fn escape(value: &mut Value<'_>, member: &str, form: TextForm, tokens: &Escaper<'_>) {
    match value {
        Value::String(text) => {
            let original = core::mem::take(text);
            *text = tokens.escape(original, form);
        }
        Value::Array(elements) => {
            for element in elements {
                escape(element, member, form, tokens);
            }
        }
        Value::Object(members) => {
            for (name, value) in members {
                if **name == *member || !matches!(value, Value::String(_)) {
                    escape(value, member, form, tokens);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {}
    }
}
