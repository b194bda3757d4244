//! Keywords of a schema whose values are no schemas.

use alloc::collections::BTreeSet;
use alloc::format;

use tensorgate_values::json::Value;
use tensorgate_values::safe_text::is_hidden;

use super::SchemaRules;
use super::fault::{Fault, SchemaFault};

/// Maximum size of `title`, `format` and similar members where a server compiles them.
const MAX_WORD_BYTES: usize = 128;
/// Maximum size of the address in `$id`.
const MAX_ADDRESS_BYTES: usize = 256;

const TYPES: [&str; 7] = [
    "object", "array", "string", "number", "integer", "boolean", "null",
];

/// Keywords without schemas that a description may have, besides annotations.
const PLAIN: [&str; 28] = [
    "$ref",
    "const",
    "default",
    "dependentRequired",
    "deprecated",
    "description",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "nullable",
    "readOnly",
    "required",
    "title",
    "uniqueItems",
    "writeOnly",
];

/// How a keyword has schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SchemasOf {
    /// The value is a schema, or a list of schemas.
    Value,
    /// The value has schemas by name.
    Names,
}

/// How a keyword has schemas where no server compiles it; `None`: it has none.
pub(super) fn schemas_of(keyword: &str) -> Option<SchemasOf> {
    match keyword {
        "additionalItems"
        | "additionalProperties"
        | "allOf"
        | "anyOf"
        | "contains"
        | "contentSchema"
        | "else"
        | "if"
        | "items"
        | "not"
        | "oneOf"
        | "prefixItems"
        | "propertyNames"
        | "then"
        | "unevaluatedItems"
        | "unevaluatedProperties" => Some(SchemasOf::Value),
        "$defs" | "definitions" | "dependencies" | "dependentSchemas" | "patternProperties"
        | "properties" => Some(SchemasOf::Names),
        _ => None,
    }
}

/// Whether the server does not get a keyword of a description: one that the contract does not know,
/// a pattern that the policy does not name, and a type or an address that no draft has. Where a
/// server compiles the schema these are faults.
pub(super) fn is_dropped(
    name: &str,
    value: &Value<'_>,
    root: bool,
    rules: &SchemaRules<'_>,
) -> bool {
    if rules.compiled {
        return false;
    }
    match name {
        "pattern" | "patternProperties" => !rules.names(name),
        "type" => (is_text(value) || is_list_of_texts(value)) && !has_types(value),
        "$id" => !root || !value.as_str().is_some_and(is_word),
        "$schema" => !value.as_str().is_some_and(is_draft),
        name => schemas_of(name).is_none() && !PLAIN.contains(&name) && !is_annotation(name, value),
    }
}

/// The published dialects of JSON Schema, as `$schema` names them. A server might fetch any other
/// address.
fn is_draft(text: &str) -> bool {
    const DRAFTS: [&str; 6] = [
        "schema",
        "draft-04/schema",
        "draft-06/schema",
        "draft-07/schema",
        "draft/2019-09/schema",
        "draft/2020-12/schema",
    ];
    let draft = text
        .strip_prefix("http://json-schema.org/")
        .or_else(|| text.strip_prefix("https://json-schema.org/"));
    draft.is_some_and(|draft| DRAFTS.contains(&draft.strip_suffix('#').unwrap_or(draft)))
}

/// A name that is not an address or path.
pub(super) fn is_word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=MAX_WORD_BYTES).contains(&text.len()) && text.bytes().all(plain)
}

/// An absolute URL or URN, as `$id` names a schema. Only references are resolved against it.
fn is_address(text: &str) -> bool {
    let is_absolute = ["urn:", "http://", "https://"]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"'<>\\^`{|}".contains(&byte);
    is_absolute && text.len() <= MAX_ADDRESS_BYTES && text.bytes().all(is_plain)
}

/// A definition's name where no server compiles the schema: libraries name definitions by types of
/// their language (`Page[Item]`). It has no character with a meaning in a reference.
pub(super) fn is_definition_name(text: &str) -> bool {
    let is_refused =
        |c: char| is_hidden(c) || matches!(c, '/' | '~' | '%' | '#' | '\\' | '"' | '\'');
    (1..=MAX_WORD_BYTES).contains(&text.len()) && !text.contains(is_refused)
}

fn is_text(value: &Value<'_>) -> bool {
    matches!(value, Value::String(_))
}

fn is_flag(value: &Value<'_>) -> bool {
    matches!(value, Value::Bool(_))
}

fn is_number(value: &Value<'_>) -> bool {
    matches!(value, Value::Int(_) | Value::Float(_))
}

fn is_type(value: &Value<'_>) -> bool {
    value.as_str().is_some_and(|text| TYPES.contains(&text))
}

fn has_types(value: &Value<'_>) -> bool {
    match value.as_array() {
        Some(types) => types.len() <= TYPES.len() && types.iter().all(is_type),
        None => is_type(value),
    }
}

pub(super) fn is_list_of_texts(value: &Value<'_>) -> bool {
    value
        .as_array()
        .is_some_and(|names| names.iter().all(is_text))
}

/// Checks a keyword without a schema.
pub(super) fn check(
    name: &str,
    value: &Value<'_>,
    rules: &SchemaRules<'_>,
) -> Result<(), SchemaFault> {
    let is_valid = match name {
        "type" => has_types(value),
        // A flag in draft 3.
        "required" => is_list_of_texts(value) || !rules.compiled && is_flag(value),
        "enum" => return choices(value, rules),
        "const" | "default" | "examples" => true,
        "description" => is_text(value),
        "title" | "format" => value
            .as_str()
            .is_some_and(|text| !rules.compiled || text.len() <= MAX_WORD_BYTES),
        "$schema" => value.as_str().is_some_and(is_draft),
        "$id" => value
            .as_str()
            .is_some_and(|text| is_word(text) || is_address(text)),
        "minimum" | "maximum" | "multipleOf" => is_number(value),
        // Flags in draft 4 and in OpenAPI 3.0.
        "exclusiveMinimum" | "exclusiveMaximum" => {
            is_number(value) || !rules.compiled && is_flag(value)
        }
        "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" => {
            return repetitions(name, value, rules);
        }
        "uniqueItems" | "nullable" | "deprecated" | "readOnly" | "writeOnly" => is_flag(value),
        _ if rules.compiled => {
            return Err(SchemaFault::from(
                "is not a keyword that the contract allows where the server compiles the schema",
            ));
        }
        "minContains" | "maxContains" => return repetitions(name, value, rules),
        "dependentRequired" => value
            .as_object()
            .is_some_and(|members| members.iter().all(|(_, names)| is_list_of_texts(names))),
        name => is_annotation(name, value),
    };
    if is_valid {
        Ok(())
    } else {
        Err("has a value that the keyword cannot have".into())
    }
}

/// Whether a keyword only describes, as OpenAPI and editors have it. Only models read it.
fn is_annotation(name: &str, value: &Value<'_>) -> bool {
    match name {
        "$comment"
        | "$anchor"
        | "contentEncoding"
        | "contentMediaType"
        | "markdownDescription"
        | "deprecationMessage" => is_text(value),
        "discriminator" | "externalDocs" | "xml" => value.as_object().is_some(),
        "enumDescriptions" | "enumNames" | "propertyOrdering" => is_list_of_texts(value),
        "example" => true,
        // Extensions, as OpenAPI has them; but one server compiles `x-guidance`.
        name => name.starts_with("x-") && name != "x-guidance",
    }
}

/// Values of an `enum`. A description may have a long list of names, for example of time zones.
fn choices(value: &Value<'_>, rules: &SchemaRules<'_>) -> Result<(), SchemaFault> {
    let values = value.as_array().ok_or("is not a list")?;
    let most = rules.limits.max_choices;
    if values.len() <= most {
        return Ok(());
    }
    if rules.compiled {
        let cause = format!("has more than {most} values, the contract's max_choices");
        return Err(SchemaFault::new(cause));
    }
    let mut names = BTreeSet::new();
    let mut texts = values.iter().map(Value::as_str);
    if texts.all(|text| text.is_some_and(|text| names.insert(text))) {
        return Ok(());
    }
    let cause = format!("has more than {most} values, and they are not texts, each once");
    Err(SchemaFault::new(cause))
}

/// A count. Lengths of texts are bounded only where a server makes states of them.
fn repetitions(name: &str, value: &Value<'_>, rules: &SchemaRules<'_>) -> Result<(), SchemaFault> {
    const FRACTION: Fault = "is not a whole number";
    let Value::Int(count) = value else {
        return Err(FRACTION.into());
    };
    let count = u64::try_from(*count).map_err(|_| "is below zero")?;
    let most = rules.limits.max_repetitions;
    let is_length = matches!(name, "minLength" | "maxLength");
    if count <= most || is_length && !rules.compiled {
        return Ok(());
    }
    let cause = format!("is more than {most}, the contract's max_repetitions");
    Err(SchemaFault::new(cause))
}
