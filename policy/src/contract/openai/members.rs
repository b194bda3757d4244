//! Members that several kinds of requests share: texts, numbers of choices and tokens, stop
//! sequences, functions, formats.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;

use tensorgate_values::json::{Members, Value, member};

use super::constraints::is_member;
use super::history::is_left_out_of_tool;
use super::ignored::{IgnoredMembers, Owner};
use super::schema::{self, SchemaFault, SchemaRules};
use super::tokens::Contents;
use super::{Faults, Generation, OpenAi};
use crate::contract::{ParameterBound, quote};
use crate::denial::Reason;

/// Maximum size of a stop sequence: longer than any word of a template.
const MAX_STOP_BYTES: usize = 256;
/// Maximum length of a schema's name; the API's own limit.
const MAX_ID_BYTES: usize = 64;
/// Maximum size of a function's name: the limit of tools in MCP.
const MAX_FUNCTION_NAME_BYTES: usize = 128;

/// Maximum pairs of `metadata`; the API's own limit.
const MAX_PAIRS: usize = 16;
/// Maximum size of a name in `metadata`; the API's own limit.
const MAX_KEY_BYTES: usize = 64;

/// Options of a stream that pass. The backend gets `include_usage` alone.
const STREAM_OPTIONS: [&str; 3] = [
    "include_usage",
    "include_obfuscation",
    "continuous_usage_stats",
];
/// Values of a `tool_choice` that names no function.
pub(super) const CHOICES: [&str; 3] = ["none", "auto", REQUIRED];
/// The value that makes the model call a function.
pub(super) const REQUIRED: &str = "required";

impl Generation {
    /// Whether [`Self::check`] checks this member.
    pub(super) fn knows(&self, name: &str) -> bool {
        matches!(
            name,
            "max_tokens" | "max_completion_tokens" | "n" | "stop" | "stream" | "stream_options"
        )
    }

    /// Whether [`Self::constraint`] checks this member.
    pub(super) fn constrains(&self, name: &str) -> bool {
        self.constraints
            .as_ref()
            .is_some_and(|rule| is_member(name) && rule.names(name))
    }

    pub(super) fn constraint(
        &self,
        name: &str,
        value: &Value<'_>,
        document: &Members<'_>,
        faults: &mut Faults,
    ) -> usize {
        let rule = self.constraints.as_ref();
        rule.map_or(0, |rule| rule.check(name, value, document, faults))
    }

    pub(super) fn check(
        &self,
        name: &str,
        value: &Value<'_>,
        document: &Members<'_>,
        model: &OpenAi,
        faults: &mut Faults,
    ) {
        match name {
            "n" => count("n", value, 1, self.n, faults),
            "stop" => self.stops(value, faults),
            "stream" => {
                let allowed = matches!(value, Value::Bool(false) | Value::Null)
                    || *value == Value::Bool(true) && self.stream;
                if !allowed {
                    faults.add_expecting(
                        Reason::Parameter,
                        || "parameter \"stream\"".into(),
                        "the contract does not allow streamed answers",
                        || "false".into(),
                    );
                }
            }
            "stream_options" => {
                let streams = member(document, "stream") == Some(&Value::Bool(true));
                let known = value.as_object().is_some_and(|members| {
                    members.iter().all(|(name, value)| {
                        STREAM_OPTIONS.contains(&name.as_ref())
                            && matches!(value, Value::Bool(_) | Value::Null)
                            || model.ignored_members.has(Owner::StreamOptions, name)
                    })
                });
                if !(*value == Value::Null || streams && known) {
                    faults.add(
                        Reason::Parameter,
                        || "parameter \"stream_options\"".into(),
                        "is not an option of a streamed answer that the contract allows",
                    );
                }
            }
            // Two names for one limit would be ambiguous, unless both have the same value.
            "max_completion_tokens"
                if *value != Value::Null
                    && member(document, "max_tokens")
                        .is_some_and(|other| *other != Value::Null && other != value) =>
            {
                faults.add(
                    Reason::Parameter,
                    || "parameter \"max_completion_tokens\"".into(),
                    "differs from max_tokens",
                );
            }
            name => count(name, value, 1, self.max_tokens, faults),
        }
    }

    fn stops(&self, value: &Value<'_>, faults: &mut Faults) {
        let is_stop_text = |value: &Value<'_>| {
            let text = value.as_str();
            text.is_some_and(|text| (1..=MAX_STOP_BYTES).contains(&text.len()))
        };
        let allowed = match value {
            Value::Null => true,
            Value::String(_) => self.stop > 0 && is_stop_text(value),
            Value::Array(texts) => texts.len() <= self.stop && texts.iter().all(is_stop_text),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Object(_) => false,
        };
        if !allowed {
            faults.add_expecting(
                Reason::Parameter,
                || "parameter \"stop\"".into(),
                "not as many short texts as the contract allows",
                || format!("at most {} texts of 1 to {MAX_STOP_BYTES} bytes", self.stop),
            );
        }
    }
}

/// Whether a member says nothing: `null`, which SDKs with typed requests write for members that
/// their caller has not set, or a list or bias without an entry. Constraints are for the policy
/// alone.
pub(super) fn is_absent(name: &str, value: &Value<'_>) -> bool {
    match value {
        Value::Null => !is_member(name),
        Value::Array(none) => name == "functions" && none.is_empty(),
        Value::Object(none) => name == "logit_bias" && none.is_empty(),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) => false,
    }
}

/// An integer between two limits; `null` means absent. Floats are rejected, because parsers differ.
pub(super) fn count(name: &str, value: &Value<'_>, least: u64, most: u64, faults: &mut Faults) {
    let allowed = match value {
        Value::Null => true,
        Value::Int(value) => {
            u64::try_from(*value).is_ok_and(|value| (least..=most).contains(&value))
        }
        Value::Bool(_)
        | Value::Float(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => false,
    };
    if !allowed {
        faults.add_expecting(
            Reason::Parameter,
            || format!("parameter \"{name}\""),
            "not a whole number within the contract's bounds",
            || format!("a whole number from {least} to {most}"),
        );
    }
}

/// A number of alternative tokens.
pub(super) fn likely(name: &str, value: &Value<'_>, rule: &Generation, faults: &mut Faults) {
    match (rule.logprobs, value) {
        (_, Value::Null) => {}
        (Some(most), value) => count(name, value, 0, most, faults),
        (None, _) => faults.add(
            Reason::Parameter,
            || format!("parameter \"{name}\""),
            "the contract allows none",
        ),
    }
}

/// `metadata`: pairs of texts. The rule bounds each value.
pub(super) fn metadata(value: &Value<'_>, bound: &ParameterBound, faults: &mut Faults) {
    let field = || String::from("parameter \"metadata\"");
    let (Some(pairs), ParameterBound::Text(text)) = (value.as_object(), bound) else {
        let expected = || String::from("an object of texts");
        faults.add_expecting(Reason::Parameter, field, "is not an object", expected);
        return;
    };
    if pairs.len() > MAX_PAIRS {
        let cause = format!("{} pairs, {MAX_PAIRS} are allowed", pairs.len());
        faults.add_expecting(Reason::Parameter, field, &cause, || {
            format!("at most {MAX_PAIRS} pairs")
        });
        return;
    }
    for (key, value) in pairs {
        let field = || format!("parameter \"metadata\"[{}]", quote(key));
        if key.len() > MAX_KEY_BYTES || key.contains(char::is_control) {
            let expected = || format!("a name of at most {MAX_KEY_BYTES} bytes");
            let cause = "the name is too long or has a control character";
            faults.add_expecting(Reason::Parameter, field, cause, expected);
        } else if !value.as_str().is_some_and(|value| text.allows(value)) {
            let cause = "the value is not a text that the contract allows";
            faults.add_expecting(Reason::Parameter, field, cause, || text.expected());
        }
    }
}

/// A text, or a list of at most as many as the rule allows. Token numbers are rejected: a server
/// may fail on unknown ones, and they cannot be checked here.
pub(super) fn texts(
    name: &str,
    value: &Value<'_>,
    (max_items, max_bytes): (usize, usize),
    model: &OpenAi,
    faults: &mut Faults,
) -> Contents {
    let mut item = |value: &Value<'_>, field: &dyn Fn() -> String| {
        let Some(text) = value.as_str() else {
            faults.add_expecting(Reason::Datatype, field, "is not a text", || "a text".into());
            return 0;
        };
        let bytes = model.text(text, max_bytes, field, faults);
        if bytes > max_bytes {
            let cause = format!("{bytes} bytes, {max_bytes} are allowed");
            faults.add_expecting(Reason::ItemTooLong, field, &cause, || {
                format!("at most {max_bytes} bytes")
            });
        }
        bytes
    };
    let Value::Array(items) = value else {
        return Contents {
            texts: item(value, &|| name.into()),
            items: 1,
            ..Contents::default()
        };
    };
    if items.is_empty() || items.len() > max_items {
        let cause = format!("{} texts, 1 to {max_items} are allowed", items.len());
        faults.add_expecting(
            Reason::Shape,
            || name.into(),
            &cause,
            || format!("1 to {max_items} texts"),
        );
        return Contents::default();
    }
    let sizes = items
        .iter()
        .enumerate()
        .map(|(index, value)| item(value, &|| format!("{name}[{index}]")));
    Contents {
        texts: sizes.fold(0, usize::saturating_add),
        items: items.len(),
        ..Contents::default()
    }
}

/// A name without special characters.
pub(super) fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(plain)
}

/// A function's name: letters and digits of any script, and the punctuation that servers of tools
/// use (`github.search_issues`). Servers write it into grammars, so it has no quotes or brackets.
fn is_function_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/');
    (1..=MAX_FUNCTION_NAME_BYTES).contains(&name.len()) && name.chars().all(is_plain)
}

/// Whether an object declares a function.
pub(super) fn is_function(value: &Value<'_>) -> bool {
    value.get("type").and_then(Value::as_str) == Some("function")
}

/// The name, if it is the object's only member.
pub(super) fn only_name<'v>(value: &'v Value<'_>) -> Option<&'v str> {
    let single = value.as_object()?.len() == 1;
    value.get("name")?.as_str().filter(|_| single)
}

/// A function definition.
pub(super) fn function(
    tool: &Value<'_>,
    rules: &SchemaRules<'_>,
    ignored: &IgnoredMembers,
) -> Result<(), SchemaFault> {
    let members = tool.as_object().ok_or("is not an object")?;
    if !is_function(tool) {
        return Err("is not a function".into());
    }
    let other = |(name, value): &&(Cow<'_, str>, Value<'_>)| {
        let name: &str = name;
        !matches!(name, "type" | "function")
            && !is_left_out_of_tool(name, value)
            && !ignored.has(Owner::Tool, name)
    };
    if let Some((name, _)) = members.iter().find(other) {
        return Err(SchemaFault::at(
            name,
            "is a member of a tool that no rule names",
        ));
    }
    let function = tool.get("function").and_then(Value::as_object);
    let function = function.ok_or_else(|| SchemaFault::at("function", "is not an object"))?;
    let present = function.iter();
    for (name, value) in present.filter(|(name, _)| !ignored.has(Owner::Function, name)) {
        let checked = function_member(name, value, rules);
        checked.map_err(|fault| fault.below(name).below("function"))?;
    }
    if function.iter().any(|(name, _)| name == "name") {
        Ok(())
    } else {
        Err(SchemaFault::at("function", "has no name"))
    }
}

fn function_member(
    name: &str,
    value: &Value<'_>,
    rules: &SchemaRules<'_>,
) -> Result<(), SchemaFault> {
    match (name, value) {
        (name, value) if is_left_out_of_tool(name, value) => Ok(()),
        ("name", Value::String(text)) if is_function_name(text) => Ok(()),
        ("name", _) => Err("is not a name of 1 to 128 letters, digits and _ - . : /".into()),
        ("description", Value::String(_)) | ("strict", Value::Bool(_)) => Ok(()),
        ("description", _) => Err("is not a text".into()),
        ("strict", _) => Err("is not a boolean".into()),
        ("parameters", schema) => schema::check(schema, rules),
        _ => Err("is a member of a function that no rule names".into()),
    }
}

/// Tools whose schemas the server compiles: those that must be called, and strict ones.
pub(super) enum Compiled<'v> {
    /// Strict ones alone.
    Strict,
    /// One that must be called, by name.
    Named(&'v str),
    /// One of all must be called.
    All,
}

impl<'v> Compiled<'v> {
    pub(super) fn of(choice: Option<&'v Value<'_>>) -> Self {
        match choice {
            Some(Value::String(word)) if word == REQUIRED => Self::All,
            Some(choice) => {
                let function = choice.get("function").and_then(only_name);
                function.map_or(Self::Strict, Self::Named)
            }
            None => Self::Strict,
        }
    }

    pub(super) fn has(&self, tool: &Value<'_>) -> bool {
        let Some(function) = tool.get("function") else {
            return false;
        };
        let is_called = match self {
            Self::Strict => false,
            Self::Named(name) => function.get("name").and_then(Value::as_str) == Some(*name),
            Self::All => true,
        };
        is_called || function.get("strict") == Some(&Value::Bool(true))
    }
}
