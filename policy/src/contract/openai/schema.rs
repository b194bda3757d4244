//! JSON schemas of tools and formats.
//!
//! A server compiles the schema of a format and of a function that must be called to a grammar, and
//! other schemas only describe. In compiled ones few keywords are allowed. Repetitions and choices
//! are limited, and the whole schema by its weight after all references and repetitions are
//! expanded. Descriptions may have all common keywords and any length of texts within their bytes,
//! and a higher weight: some servers build a grammar from every tool.
//!
//! Recursive definitions are rejected in both. Unknown keywords, and patterns whose keyword the
//! policy does not name, are rejected where a server compiles the schema. A description loses them
//! before the server gets it. Named patterns count with their bytes.

mod fault;
mod keywords;

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::json::Value;

use super::constraints::Constraints;
pub(super) use fault::{Fault, SchemaFault};
use keywords::{SchemasOf, is_definition_name, is_dropped, is_list_of_texts, is_word, schemas_of};

/// Maximum depth with references expanded. A filter's VM has that much stack. Without references a
/// schema nests no deeper, because its reader allows its text as many levels.
const MAX_DEPTH: usize = 64;

/// Limits of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaLimits {
    /// Maximum weight: schemas and characters of an expanded schema.
    pub max_weight: u64,
    /// Maximum repetition count: each may become a state of a grammar.
    pub max_repetitions: u64,
    /// Maximum values of an `enum`.
    pub max_choices: usize,
    /// Maximum definitions.
    pub max_definitions: usize,
}

impl SchemaLimits {
    /// Where a server compiles, unless the policy says otherwise.
    pub const COMPILED: Self = Self {
        max_weight: 16_384,
        max_repetitions: 1_024,
        max_choices: 256,
        max_definitions: 64,
    };
    /// Minimum limits of descriptions. Definitions that double fifteen times weigh twice as much.
    const DESCRIBED: Self = Self {
        max_weight: 32_768,
        max_repetitions: 16_384,
        max_choices: 256,
        max_definitions: 512,
    };
}

/// The rules of one schema.
pub(super) struct SchemaRules<'r> {
    /// Whether the server compiles the schema.
    compiled: bool,
    limits: SchemaLimits,
    /// The policy's, which name the allowed patterns.
    constraints: Option<&'r Constraints>,
}

impl<'r> SchemaRules<'r> {
    /// A schema that the server compiles.
    pub(super) fn compiled(limits: SchemaLimits, constraints: Option<&'r Constraints>) -> Self {
        Self {
            compiled: true,
            limits,
            constraints,
        }
    }

    /// Whether the policy names a keyword with patterns.
    fn names(&self, keyword: &str) -> bool {
        self.constraints.is_some_and(|rule| rule.names(keyword))
    }

    /// A schema that describes. It may have whatever a compiled one may have.
    pub(super) fn described(limits: SchemaLimits, constraints: Option<&'r Constraints>) -> Self {
        let least = SchemaLimits::DESCRIBED;
        let limits = SchemaLimits {
            max_weight: limits.max_weight.max(least.max_weight),
            max_repetitions: limits.max_repetitions.max(least.max_repetitions),
            max_choices: limits.max_choices.max(least.max_choices),
            max_definitions: limits.max_definitions.max(least.max_definitions),
        };
        Self {
            compiled: false,
            limits,
            constraints,
        }
    }
}

/// Checks a schema.
pub(super) fn check(schema: &Value<'_>, rules: &SchemaRules<'_>) -> Result<(), SchemaFault> {
    let mut weights = Weights {
        root: schema,
        definitions: BTreeMap::new(),
        has_reference: false,
        rules,
    };
    for key in DEFINITIONS {
        let Some(definitions) = schema.get(key) else {
            continue;
        };
        if !rules.compiled && *definitions == Value::Null {
            continue;
        }
        let definitions = definitions
            .as_object()
            .ok_or_else(|| SchemaFault::at(key, "is not an object of definitions"))?;
        for (name, schema) in definitions {
            // A name with `/` or an escape is ambiguous in a reference.
            if !is_word(name) && (rules.compiled || !is_definition_name(name)) {
                let cause = "is a name with characters that are not allowed";
                return Err(SchemaFault::at(name, cause).below(key));
            }
            let path = format!("#/{key}/{name}");
            weights.definitions.insert(path, (schema, Known::Unknown));
        }
    }
    let most = rules.limits.max_definitions;
    if weights.definitions.len() > most {
        let cause = format!("has more than {most} definitions, the contract's max_definitions");
        return Err(SchemaFault::new(cause));
    }
    // Unused definitions are compiled too.
    let paths: Vec<_> = weights.definitions.keys().cloned().collect();
    for path in paths {
        let size = weights.of_reference(&path, 0);
        size.map_err(SchemaFault::of_schema)?;
    }
    let size = weights.of(schema, true, 0);
    size.map_err(SchemaFault::of_schema)?;
    let id = schema.get("$id").and_then(Value::as_str);
    if rules.compiled && weights.has_reference && id.is_some_and(|id| !is_word(id)) {
        let cause = "is an address, which the schema's references may be resolved against";
        return Err(SchemaFault::at("$id", cause));
    }
    Ok(())
}

/// Removes what the server does not get of a description that was checked. Returns whether it had
/// such keywords. The recursion is limited by the parser's depth.
pub(super) fn drop_keywords(schema: &mut Value<'_>, root: bool, rules: &SchemaRules<'_>) -> bool {
    let Value::Object(members) = schema else {
        return false;
    };
    let count = members.len();
    members.retain(|(name, value)| !is_dropped(name, value, root, rules));
    let mut dropped = members.len() < count;
    for (name, value) in members {
        let Some(kind) = schemas_of(name) else {
            continue;
        };
        match (kind, value) {
            (SchemasOf::Names, Value::Object(named)) => {
                for (_, schema) in named {
                    dropped |= drop_keywords(schema, false, rules);
                }
            }
            (SchemasOf::Value, Value::Array(list)) => {
                for schema in list {
                    dropped |= drop_keywords(schema, false, rules);
                }
            }
            (SchemasOf::Value | SchemasOf::Names, value) => {
                dropped |= drop_keywords(value, false, rules);
            }
        }
    }
    dropped
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

/// What a keyword adds to the size of its schema.
enum Part {
    /// Something beside the others.
    Beside(Size),
    /// Choices that meet the others.
    Met(Size),
}

/// State of a definition.
#[derive(Clone, Copy)]
enum Known {
    Unknown,
    /// The definition is being expanded: a reference now is recursive.
    Open,
    Size(Size),
}

/// Keywords with definitions, of two drafts.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];
/// Keywords that bound how often something repeats.
const ITEMS: [&str; 2] = ["minItems", "maxItems"];
const PROPERTIES: [&str; 2] = ["minProperties", "maxProperties"];
const LENGTHS: [&str; 2] = ["minLength", "maxLength"];

/// How often something repeats at most; once without a bound.
fn often(schema: &Value<'_>, bounds: [&str; 2]) -> u64 {
    let bounds = bounds
        .into_iter()
        .filter_map(|name| match schema.get(name) {
            Some(Value::Int(count)) => u64::try_from(*count).ok(),
            _ => None,
        });
    bounds.max().unwrap_or(1).max(1)
}

/// Sizes of the definitions.
struct Weights<'v, 'a, 'r> {
    root: &'v Value<'a>,
    definitions: BTreeMap<String, (&'v Value<'a>, Known)>,
    /// Whether any schema so far has a reference.
    has_reference: bool,
    rules: &'r SchemaRules<'r>,
}

impl<'v, 'a> Weights<'v, 'a, '_> {
    fn of_reference(&mut self, path: &str, depth: usize) -> Result<Size, SchemaFault> {
        if !self.rules.compiled
            && !self.definitions.contains_key(path)
            && let Some(schema) = pointed(self.root, path, self.rules)
        {
            let definition = (schema, Known::Unknown);
            self.definitions.insert(path.into(), definition);
        }
        let definition = self.definitions.get_mut(path);
        let (schema, known) = definition.ok_or("is a reference to an unknown definition")?;
        match *known {
            Known::Size(size) => return Ok(size),
            Known::Open => return Err("refers to a definition that it is part of".into()),
            Known::Unknown => *known = Known::Open,
        }
        let schema = *schema;
        let size = self.of(schema, false, depth);
        let size = size.map_err(|fault| fault.in_definition(path))?;
        if let Some((_, known)) = self.definitions.get_mut(path) {
            *known = Known::Size(size);
        }
        Ok(size)
    }

    /// Size of a schema, itself included. The recursion is limited to [`MAX_DEPTH`], references
    /// included. The height makes the verdict independent of the order of definitions.
    fn of(&mut self, schema: &'v Value<'a>, root: bool, depth: usize) -> Result<Size, SchemaFault> {
        let depth = depth.saturating_add(1);
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        let members = match schema {
            Value::Bool(_) => {
                return Ok(Size {
                    weight: 1,
                    height: 1,
                });
            }
            Value::Object(members) => members,
            Value::Null | Value::Int(_) | Value::Float(_) | Value::String(_) | Value::Array(_) => {
                return Err("is neither an object nor a boolean, as a schema is".into());
            }
        };
        if !self.rules.compiled && !root {
            self.add_nested_definitions(schema);
        }
        let (mut sum, mut met) = (Size::default(), Size::default());
        for (name, value) in members {
            let part = self.keyword(schema, root, (name.as_ref(), value), depth);
            match part.map_err(|fault| fault.below(name))? {
                Part::Beside(size) => sum = sum.and(size),
                Part::Met(size) => met = met.met(size),
            }
        }
        if met.weight > 0 {
            sum = sum.met(met);
        }
        let size = Size {
            weight: sum.weight.saturating_add(self.own_weight(schema)),
            height: sum.height.saturating_add(1),
        };
        let most = self.rules.limits.max_weight;
        if size.weight > most {
            let cause = format!("weighs more than {most} once expanded, the contract's max_weight");
            return Err(SchemaFault::new(cause));
        }
        if size.height > MAX_DEPTH {
            return Err(too_deep());
        }
        Ok(size)
    }

    /// Adds definitions of a schema that is not the root. Some libraries refer to them as if they
    /// were the root's, which has precedence. Those beyond the limit stay unknown.
    fn add_nested_definitions(&mut self, schema: &'v Value<'a>) {
        let most = self.rules.limits.max_definitions;
        for key in DEFINITIONS {
            let nested = schema.get(key).and_then(Value::as_object);
            for (name, schema) in nested.unwrap_or_default() {
                if self.definitions.len() >= most {
                    return;
                }
                if is_definition_name(name) {
                    let path = format!("#/{key}/{name}");
                    let definitions = self.definitions.entry(path);
                    definitions.or_insert((schema, Known::Unknown));
                }
            }
        }
    }

    /// States of the schema itself. A text of n characters has n where a server compiles it, and
    /// so do n unspecified elements or members.
    fn own_weight(&self, schema: &Value<'_>) -> u64 {
        let unbounded = |bounds: [&str; 2], keyword: &str| match schema.get(keyword) {
            Some(Value::Null) | None => often(schema, bounds).saturating_sub(1),
            Some(_) => 0,
        };
        let text = if self.rules.compiled {
            often(schema, LENGTHS)
        } else {
            1
        };
        text.saturating_add(unbounded(ITEMS, "items"))
            .saturating_add(unbounded(PROPERTIES, "additionalProperties"))
    }

    fn keyword(
        &mut self,
        schema: &Value<'_>,
        root: bool,
        (name, value): (&str, &'v Value<'a>),
        depth: usize,
    ) -> Result<Part, SchemaFault> {
        let size = match name {
            name if is_dropped(name, value, root, self.rules) => Size::default(),
            // Serializers write null for keywords that a schema does not have.
            name if !self.rules.compiled && *value == Value::Null && name != "$ref" => {
                Size::default()
            }
            "properties" => self.named(value, depth)?,
            "$defs" | "definitions" if root => Size::default(),
            // References reach them by their whole path.
            "$defs" | "definitions" if !self.rules.compiled => self.named(value, depth)?,
            // A list of schemas before the draft of 2020-12.
            "items" if !self.rules.compiled && value.as_array().is_some() => {
                self.listed(value, depth)?
            }
            "items" => self.of(value, false, depth)?.times(often(schema, ITEMS)),
            "additionalProperties" | "propertyNames" => self
                .of(value, false, depth)?
                .times(often(schema, PROPERTIES)),
            "patternProperties" => self.pattern_properties(value, depth)?,
            "pattern" => self.pattern("pattern", value.as_str().ok_or("is not a text")?)?,
            "prefixItems" => self.listed(value, depth)?,
            "anyOf" | "oneOf" => return Ok(Part::Met(self.listed(value, depth)?)),
            "allOf" => {
                let mut met = Size::default();
                for (index, schema) in schemas(value)?.iter().enumerate() {
                    met = met.met(self.element(index, schema, depth)?);
                }
                return Ok(Part::Met(met));
            }
            "$ref" => {
                let path = value.as_str().ok_or("is not a text")?;
                self.has_reference = true;
                return Ok(Part::Met(self.of_reference(path, depth)?));
            }
            "$id" if !root => return Err("is only allowed in the root of a schema".into()),
            "not"
            | "contains"
            | "additionalItems"
            | "unevaluatedItems"
            | "unevaluatedProperties"
            | "contentSchema"
            | "if"
            | "then"
            | "else"
                if !self.rules.compiled =>
            {
                self.of(value, false, depth)?
            }
            "dependentSchemas" if !self.rules.compiled => self.named(value, depth)?,
            // Before the draft of 2019-09: names of other members, or a schema.
            "dependencies" if !self.rules.compiled => self.dependencies(value, depth)?,
            name => keywords::check(name, value, self.rules).map(|()| Size::default())?,
        };
        Ok(Part::Beside(size))
    }

    /// Size of a pattern below a keyword. It is bounded, not analysed.
    fn pattern(&self, keyword: &str, text: &str) -> Result<Size, SchemaFault> {
        let rule = self.rules.constraints.filter(|rule| rule.names(keyword));
        let rule =
            rule.ok_or("is a pattern, which chat.constraints.members of the policy does not name")?;
        if text.len() > rule.max_bytes {
            return Err("is a pattern larger than the contract allows".into());
        }
        Ok(Size {
            weight: u64::try_from(text.len()).unwrap_or(u64::MAX),
            height: 0,
        })
    }

    fn pattern_properties(
        &mut self,
        value: &'v Value<'a>,
        depth: usize,
    ) -> Result<Size, SchemaFault> {
        let mut sum = Size::default();
        for (text, schema) in value.as_object().ok_or("is not an object of schemas")? {
            let pattern = self.pattern("patternProperties", text)?;
            let below = self.of(schema, false, depth);
            let below = below.map_err(|fault| fault.below(text))?;
            sum = sum.and(pattern).and(below);
        }
        Ok(sum)
    }

    /// Schemas by name.
    fn named(&mut self, value: &'v Value<'a>, depth: usize) -> Result<Size, SchemaFault> {
        let mut sum = Size::default();
        for (name, schema) in value.as_object().ok_or("is not an object of schemas")? {
            let size = self.of(schema, false, depth);
            sum = sum.and(size.map_err(|fault| fault.below(name))?);
        }
        Ok(sum)
    }

    fn dependencies(&mut self, value: &'v Value<'a>, depth: usize) -> Result<Size, SchemaFault> {
        let mut sum = Size::default();
        for (name, value) in value.as_object().ok_or("is not an object")? {
            if !is_list_of_texts(value) {
                let size = self.of(value, false, depth);
                sum = sum.and(size.map_err(|fault| fault.below(name))?);
            }
        }
        Ok(sum)
    }

    fn listed(&mut self, value: &'v Value<'a>, depth: usize) -> Result<Size, SchemaFault> {
        let mut sum = Size::default();
        for (index, schema) in schemas(value)?.iter().enumerate() {
            sum = sum.and(self.element(index, schema, depth)?);
        }
        Ok(sum)
    }

    fn element(
        &mut self,
        index: usize,
        schema: &'v Value<'a>,
        depth: usize,
    ) -> Result<Size, SchemaFault> {
        let size = self.of(schema, false, depth);
        size.map_err(|fault| fault.below(&format!("{index}")))
    }
}

fn too_deep() -> SchemaFault {
    let cause = format!("is nested deeper than {MAX_DEPTH} schemas, references expanded");
    SchemaFault::new(cause)
}

fn schemas<'v, 'a>(value: &'v Value<'a>) -> Result<&'v [Value<'a>], Fault> {
    value.as_array().ok_or("is not a list of schemas")
}

/// The schema at a JSON pointer: some libraries refer to where a schema first occurs. Each schema
/// has one pointer, so that it is expanded once. Escapes are read differently, and rejected. What
/// the server does not get, and values that are no schemas, have no pointer.
fn pointed<'v, 'a>(
    root: &'v Value<'a>,
    path: &str,
    rules: &SchemaRules<'_>,
) -> Option<&'v Value<'a>> {
    let path = path.strip_prefix("#/")?;
    if path.contains(['~', '%']) {
        return None;
    }
    let (mut schema, mut names) = (root, path.split('/'));
    while let Some(keyword) = names.next() {
        let value = schema.get(keyword)?;
        if is_dropped(keyword, value, false, rules) {
            return None;
        }
        schema = match (schemas_of(keyword)?, value) {
            (SchemasOf::Value, Value::Array(elements)) => {
                let index = names.next()?;
                let canonical = index == "0" || !index.starts_with(['0', '+']);
                let index: usize = index.parse().ok().filter(|_| canonical)?;
                elements.get(index)?
            }
            (SchemasOf::Value, value) => value,
            (SchemasOf::Names, value) => value.get(names.next()?)?,
        };
    }
    Some(schema)
}

#[cfg(test)]
mod tests;
