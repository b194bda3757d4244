//! JSON schemas for tools and formats, which servers compile to grammars. Only known keywords are
//! allowed. Repetitions and choices are limited, and the whole schema by its weight after all
//! references and repetitions are expanded. Recursive definitions are rejected. So are patterns,
//! unless the policy names their keyword; they count with their bytes.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;

use super::constraints::Constraints;
use crate::values::json::Value;

/// Why a schema is rejected, for the log.
pub(super) type Fault = &'static str;

/// Maximum weight: schemas and characters of an expanded schema.
const MAX_WEIGHT: u64 = 16_384;
/// Maximum depth with references expanded. A document nests 24 deep, and a filter's VM has that
/// much stack.
const MAX_DEPTH: usize = 64;
/// Maximum repetition count: each may become a state of a grammar.
const MAX_REPEATED: i64 = 1_024;
/// Definitions.
const MAX_DEFINITIONS: usize = 64;
/// Values of an `enum`.
const MAX_CHOICES: usize = 256;
/// Maximum size of `title`, `format` and similar members.
const MAX_WORD_BYTES: usize = 128;

const TYPES: [&str; 7] = [
    "object", "array", "string", "number", "integer", "boolean", "null",
];

/// Checks a schema.
pub(super) fn check(schema: &Value<'_>, constraints: Option<&Constraints>) -> Result<(), Fault> {
    let mut weights = Weights {
        definitions: BTreeMap::new(),
        constraints,
    };
    for key in ["$defs", "definitions"] {
        let Some(definitions) = schema.get(key) else {
            continue;
        };
        let definitions = definitions
            .as_object()
            .ok_or("definitions are not an object")?;
        for (name, schema) in definitions {
            // A name with `/` or an escape is ambiguous in a reference.
            if !is_word(name) {
                return Err("a definition's name has characters that are not allowed");
            }
            let path = alloc::format!("#/{key}/{name}");
            weights.definitions.insert(path, (schema, Known::Unknown));
        }
    }
    if weights.definitions.len() > MAX_DEFINITIONS {
        return Err("a schema has too many definitions");
    }
    // Unused definitions are compiled too.
    let paths: alloc::vec::Vec<_> = weights.definitions.keys().cloned().collect();
    for path in paths {
        weights.of_reference(&path, 0)?;
    }
    weights.of(schema, true, 0)?;
    Ok(())
}

/// Expanded size of a schema.
#[derive(Clone, Copy, Default)]
struct Size {
    /// Schemas including repetitions, plus characters of texts.
    weight: u64,
    /// Depth of schemas.
    height: usize,
}

impl Size {
    /// Size of two schemas side by side.
    fn and(self, other: Self) -> Self {
        Self {
            weight: self.weight.saturating_add(other.weight),
            height: self.height.max(other.height),
        }
    }

    /// Size of an intersection: a server pairs each choice of one with each of the other.
    fn met(self, other: Self) -> Self {
        Self {
            weight: self.weight.max(1).saturating_mul(other.weight.max(1)),
            height: self.height.max(other.height),
        }
    }

    fn times(self, count: u64) -> Self {
        Self {
            weight: self.weight.saturating_mul(count),
            ..self
        }
    }
}

/// State of a definition.
#[derive(Clone, Copy)]
enum Known {
    Unknown,
    /// The definition is being expanded: a reference now is recursive.
    Open,
    Size(Size),
}

/// Sizes of the definitions.
struct Weights<'v, 'a, 'r> {
    definitions: BTreeMap<alloc::string::String, (&'v Value<'a>, Known)>,
    /// The policy's, which name the allowed patterns.
    constraints: Option<&'r Constraints>,
}

impl<'v, 'a> Weights<'v, 'a, '_> {
    fn of_reference(&mut self, path: &str, depth: usize) -> Result<Size, Fault> {
        let definition = self.definitions.get_mut(path);
        let (schema, known) = definition.ok_or("a reference to an unknown definition")?;
        match *known {
            Known::Size(size) => return Ok(size),
            Known::Open => return Err("a definition refers to itself"),
            Known::Unknown => *known = Known::Open,
        }
        let schema = *schema;
        let size = self.of(schema, false, depth)?;
        if let Some((_, known)) = self.definitions.get_mut(path) {
            *known = Known::Size(size);
        }
        Ok(size)
    }

    /// Size of a schema, itself included. The recursion is limited to [`MAX_DEPTH`], references
    /// included. The height makes the verdict independent of the order of definitions.
    fn of(&mut self, schema: &'v Value<'a>, root: bool, depth: usize) -> Result<Size, Fault> {
        let depth = depth.saturating_add(1);
        if depth > MAX_DEPTH {
            return Err("a schema is nested too deeply");
        }
        let members = match schema {
            Value::Bool(_) => {
                return Ok(Size {
                    weight: 1,
                    height: 1,
                });
            }
            Value::Object(members) => members,
            _ => return Err("a schema is not an object"),
        };
        let often = |bounds: [&str; 2]| {
            let bounds = bounds
                .into_iter()
                .filter_map(|name| match schema.get(name) {
                    Some(Value::Int(count)) => u64::try_from(*count).ok(),
                    _ => None,
                });
            bounds.max().unwrap_or(1).max(1)
        };
        let (mut sum, mut met) = (Size::default(), Size::default());
        for (name, value) in members {
            let more = match name.as_ref() {
                "properties" => self.all(named(value)?, depth)?,
                "$defs" | "definitions" if root => Size::default(),
                "items" => self
                    .of(value, false, depth)?
                    .times(often(["minItems", "maxItems"])),
                "additionalProperties" => self
                    .of(value, false, depth)?
                    .times(often(["minProperties", "maxProperties"])),
                "patternProperties" => self.pattern_properties(value, depth)?,
                "pattern" => {
                    self.pattern("pattern", value.as_str().ok_or("a pattern is not a text")?)?
                }
                "prefixItems" => self.all(listed(value)?.iter(), depth)?,
                "anyOf" | "oneOf" => {
                    met = met.met(self.all(listed(value)?.iter(), depth)?);
                    continue;
                }
                "allOf" => {
                    for schema in listed(value)? {
                        met = met.met(self.of(schema, false, depth)?);
                    }
                    continue;
                }
                "$ref" => {
                    let path = value.as_str().ok_or("a reference is not a text")?;
                    met = met.met(self.of_reference(path, depth)?);
                    continue;
                }
                "$id" if !root => return Err("a schema below the root has an $id"),
                name => plain(name, value).map(|()| Size::default())?,
            };
            sum = sum.and(more);
        }
        if met.weight > 0 {
            sum = sum.met(met);
        }
        // A text of n characters has n states, and so do n unspecified elements or members.
        let unsaid = |bounds: [&str; 2], keyword: &str| match schema.get(keyword) {
            Some(_) => 0,
            None => often(bounds).saturating_sub(1),
        };
        let own = often(["minLength", "maxLength"])
            .saturating_add(unsaid(["minItems", "maxItems"], "items"))
            .saturating_add(unsaid(
                ["minProperties", "maxProperties"],
                "additionalProperties",
            ));
        let size = Size {
            weight: sum.weight.saturating_add(own),
            height: sum.height.saturating_add(1),
        };
        if size.weight > MAX_WEIGHT {
            return Err("a schema is too large once its references are resolved");
        }
        if size.height > MAX_DEPTH {
            return Err("a schema is nested too deeply");
        }
        Ok(size)
    }

    /// Size of a pattern below a keyword. It is bounded, not analysed.
    fn pattern(&self, keyword: &str, text: &str) -> Result<Size, Fault> {
        let rule = self.constraints.filter(|rule| rule.names(keyword));
        let rule = rule.ok_or("the contract allows no patterns")?;
        if text.len() > rule.max_bytes {
            return Err("a pattern larger than the contract allows");
        }
        Ok(Size {
            weight: u64::try_from(text.len()).unwrap_or(u64::MAX),
            height: 0,
        })
    }

    fn pattern_properties(&mut self, value: &'v Value<'a>, depth: usize) -> Result<Size, Fault> {
        let mut sum = Size::default();
        for (pattern, schema) in value.as_object().ok_or("properties are not an object")? {
            let pattern = self.pattern("patternProperties", pattern)?;
            sum = sum.and(pattern).and(self.of(schema, false, depth)?);
        }
        Ok(sum)
    }

    fn all(
        &mut self,
        schemas: impl Iterator<Item = &'v Value<'a>>,
        depth: usize,
    ) -> Result<Size, Fault> {
        let mut sum = Size::default();
        for schema in schemas {
            sum = sum.and(self.of(schema, false, depth)?);
        }
        Ok(sum)
    }
}

fn listed<'v, 'a>(value: &'v Value<'a>) -> Result<&'v [Value<'a>], Fault> {
    value.as_array().ok_or("is not a list of schemas")
}

/// The published dialects of JSON Schema, as `$schema` names them. A server might fetch any other
/// address.
fn is_draft(text: &str) -> bool {
    const DRAFTS: [&str; 5] = [
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
fn is_word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    (1..=MAX_WORD_BYTES).contains(&text.len()) && text.bytes().all(plain)
}

fn named<'v, 'a>(value: &'v Value<'a>) -> Result<impl Iterator<Item = &'v Value<'a>>, Fault> {
    let members: &'v [(Cow<'a, str>, Value<'a>)] =
        value.as_object().ok_or("properties are not an object")?;
    Ok(members.iter().map(|(_, schema)| schema))
}

/// A keyword without a schema.
fn plain(name: &str, value: &Value<'_>) -> Result<(), Fault> {
    let is_text = |value: &Value<'_>| matches!(value, Value::String(_));
    let is_type = |value: &Value<'_>| value.as_str().is_some_and(|text| TYPES.contains(&text));
    let is_valid = match (name, value) {
        ("type", Value::Array(types)) => types.len() <= TYPES.len() && types.iter().all(is_type),
        ("type", value) => is_type(value),
        ("required", Value::Array(names)) => names.iter().all(is_text),
        ("enum", Value::Array(values)) => values.len() <= MAX_CHOICES,
        ("const" | "default" | "examples", _) | ("description", Value::String(_)) => true,
        ("title" | "format", Value::String(text)) => text.len() <= MAX_WORD_BYTES,
        ("$schema", Value::String(text)) => is_draft(text),
        ("$id", Value::String(text)) => is_word(text),
        ("minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf", value) => {
            matches!(value, Value::Int(_) | Value::Float(_))
        }
        (
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties",
            Value::Int(count),
        ) => (0..=MAX_REPEATED).contains(count),
        ("uniqueItems" | "nullable" | "deprecated" | "readOnly" | "writeOnly", Value::Bool(_)) => {
            true
        }
        _ => return Err("a keyword of a schema is not allowed, or too large"),
    };
    if is_valid {
        Ok(())
    } else {
        Err("a keyword of a schema has a value that it cannot have")
    }
}
