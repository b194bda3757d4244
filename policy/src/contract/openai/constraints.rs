//! Output constraints beside a schema in `response_format`: members for expressions, choices and
//! grammars, each with its own rule. The server compiles them, so they are fully checked here
//! first.
//!
//! | member | server | content |
//! |---|---|---|
//! | `structured_outputs` | vLLM | one of `json`, `regex`, `choice`, `grammar`, `json_object` |
//! | `guided_json`, `guided_regex` | vLLM before 0.12 | a schema, an expression |
//! | `guided_choice`, `guided_grammar` | vLLM before 0.12 | choices, a grammar |
//! | `regex`, `ebnf` | SGLang | an expression, a grammar |
//! | `grammar`, `json_schema` | llama.cpp | a grammar, a schema |
//!
//! A schema as a text is rejected, because readers could parse it differently. Whitespace rules,
//! the server's compiler and structural tags (`structural_tag`) are not supported.

use alloc::string::String;
use alloc::vec::Vec;

use super::grammar::{self, Notation};
use super::{Faults, schema};
use crate::contract::pattern::{Fault, Meter};
use crate::denial::Reason;
use crate::json::{Members, Value};

/// Constraints that a caller may use.
#[derive(Clone, Debug, Default)]
pub struct Constraints {
    /// Allowed members.
    pub(crate) members: Vec<String>,
    pub(crate) patterns: Option<PatternRule>,
    pub(crate) choices: Option<Choices>,
    pub(crate) grammars: Option<Grammars>,
    /// Maximum size of a schema; 0: none.
    pub(crate) max_schema_bytes: usize,
}

/// Expressions, including those in schemas.
#[derive(Clone, Copy, Debug)]
pub struct PatternRule {
    pub(crate) max: usize,
    pub(crate) max_bytes: usize,
}

/// Choices.
#[derive(Clone, Copy, Debug)]
pub struct Choices {
    pub(crate) max: usize,
    pub(crate) max_bytes: usize,
}

/// Grammars.
#[derive(Clone, Copy, Debug)]
pub struct Grammars {
    pub(crate) max_bytes: usize,
    pub(crate) max_rules: usize,
}

/// Content of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Schema,
    Pattern,
    Choices,
    /// In either notation, or in EBNF only.
    Grammar {
        lark: bool,
    },
    /// One of the listed members.
    OneOf,
}

/// Members that servers know.
pub(crate) const MEMBERS: [(&str, Kind); 9] = [
    ("structured_outputs", Kind::OneOf),
    ("guided_json", Kind::Schema),
    ("guided_regex", Kind::Pattern),
    ("guided_choice", Kind::Choices),
    ("guided_grammar", Kind::Grammar { lark: true }),
    ("regex", Kind::Pattern),
    ("ebnf", Kind::Grammar { lark: false }),
    ("grammar", Kind::Grammar { lark: false }),
    ("json_schema", Kind::Schema),
];

/// Members of `structured_outputs`; exactly one is present.
const ONE_OF: [(&str, Kind); 4] = [
    ("json", Kind::Schema),
    ("regex", Kind::Pattern),
    ("choice", Kind::Choices),
    ("grammar", Kind::Grammar { lark: true }),
];
/// Options beside it.
const SWITCHES: [&str; 2] = ["disable_any_whitespace", "disable_additional_properties"];

/// Content of the member with this name, if known.
pub(crate) fn kind(name: &str) -> Option<Kind> {
    kind_in(&MEMBERS, name)
}

fn kind_in(members: &[(&str, Kind)], name: &str) -> Option<Kind> {
    let found = members.iter().find(|(known, _)| *known == name);
    found.map(|(_, kind)| *kind)
}

/// The patterns of a request so far.
#[derive(Debug)]
pub(super) struct Patterns<'r> {
    rule: Option<&'r PatternRule>,
    count: usize,
    meter: Meter,
}

impl<'r> Patterns<'r> {
    pub(super) fn new(rule: Option<&'r Constraints>) -> Self {
        Self {
            rule: rule.and_then(|rule| rule.patterns.as_ref()),
            count: 0,
            meter: Meter::default(),
        }
    }

    /// Checks a pattern and returns its weight. `searched`: it need not match the whole text.
    pub(super) fn check(&mut self, text: &str, searched: bool) -> Result<u64, Fault> {
        let rule = self.rule.ok_or("the contract allows no patterns")?;
        if text.len() > rule.max_bytes {
            return Err("a pattern larger than the contract allows");
        }
        self.count = self.count.saturating_add(1);
        if self.count > rule.max {
            return Err("more patterns than the contract allows");
        }
        self.meter.pattern(text, searched)
    }
}

impl Constraints {
    /// Whether the contract allows a member.
    pub(super) fn takes(&self, name: &str) -> bool {
        self.members.iter().any(|member| member == name)
    }

    /// Checks an allowed member. Returns its size, with schemas separate.
    pub(super) fn check(
        &self,
        name: &str,
        value: &Value<'_>,
        document: &Members<'_>,
        faults: &mut Faults,
    ) -> Bytes {
        let held = match kind(name) {
            _ if *value == Value::Null => Ok(Bytes::default()),
            // Servers reject a second constraint, ignore it, or fail.
            _ if document.iter().any(|other| is_another(name, other)) => {
                Err("comes beside another constraint, or beside tools")
            }
            Some(Kind::OneOf) => self.one_of(value),
            Some(kind) => self.holds(kind, value),
            None => Err("is no constraint"),
        };
        held.unwrap_or_else(|cause| {
            let field = || alloc::format!("parameter \"{name}\"");
            faults.add(Reason::Parameter, field, cause);
            Bytes::default()
        })
    }

    fn one_of(&self, value: &Value<'_>) -> Result<Bytes, Fault> {
        let mut held = None;
        for (name, value) in value.as_object().ok_or("is not an object")? {
            let one = match (name.as_ref(), value) {
                (_, Value::Null) => continue,
                (name, Value::Bool(_)) if SWITCHES.contains(&name) => continue,
                ("json_object", Value::Bool(true)) if self.max_schema_bytes > 0 => Bytes::default(),
                (name, value) => {
                    let kind = kind_in(&ONE_OF, name).ok_or("has a member that no rule names")?;
                    self.holds(kind, value)?
                }
            };
            if held.replace(one).is_some() {
                return Err("says more than one constraint");
            }
        }
        held.ok_or("says no constraint")
    }

    fn holds(&self, kind: Kind, value: &Value<'_>) -> Result<Bytes, Fault> {
        let mut patterns = Patterns::new(Some(self));
        let other = |bytes| Bytes {
            schema: 0,
            other: bytes,
        };
        match (kind, value) {
            (Kind::Schema, _) if self.max_schema_bytes == 0 => Err("the contract allows no schema"),
            (Kind::Schema, Value::Object(_)) => {
                let bytes = value.text_bytes();
                if bytes > self.max_schema_bytes {
                    return Err("a schema larger than the contract allows");
                }
                schema::check(value, &mut patterns)?;
                Ok(Bytes {
                    schema: bytes,
                    other: 0,
                })
            }
            (Kind::Pattern, Value::String(text)) => {
                patterns.check(text, false)?;
                Ok(other(text.len()))
            }
            (Kind::Choices, Value::Array(choices)) => self.choices(choices).map(other),
            (Kind::Grammar { lark }, Value::String(text)) => {
                let rule = self.grammars.as_ref();
                let rule = rule.ok_or("the contract allows no grammar")?;
                let notation = if lark {
                    Notation::of(text)
                } else {
                    Notation::Ebnf
                };
                grammar::check(text, notation, rule, &mut patterns.meter)?;
                Ok(other(text.len()))
            }
            _ => Err("is of another kind than it has to be"),
        }
    }

    fn choices(&self, choices: &[Value<'_>]) -> Result<usize, Fault> {
        let rule = self.choices.as_ref();
        let rule = rule.ok_or("the contract allows no choices")?;
        if choices.is_empty() || choices.len() > rule.max {
            return Err("not as many choices as the contract allows");
        }
        let mut bytes = 0_usize;
        for choice in choices {
            let text = choice.as_str().ok_or("a choice is no text")?;
            // A server converts choices to a grammar, in which a line break is a line break.
            if text.is_empty() || text.chars().any(char::is_control) {
                return Err("a choice is empty, or has a control character");
            }
            if text.len() > rule.max_bytes {
                return Err("a choice larger than the contract allows");
            }
            bytes = bytes.saturating_add(text.len());
        }
        Ok(bytes)
    }

    /// Maximum size of constraints in a request.
    pub(super) fn most(&self) -> Bytes {
        let patterns = self.patterns.map_or(0, |rule| rule.max_bytes);
        let choices = self
            .choices
            .map_or(0, |rule| rule.max.saturating_mul(rule.max_bytes));
        let grammars = self.grammars.map_or(0, |rule| rule.max_bytes);
        Bytes {
            schema: self.max_schema_bytes,
            other: patterns.max(choices).max(grammars),
        }
    }
}

/// Sizes of constraints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bytes {
    /// Size of a schema, which a server's template may include.
    pub(super) schema: usize,
    /// Size of everything else, which templates do not include.
    pub(super) other: usize,
}

impl Bytes {
    pub(super) fn add(&mut self, more: Self) {
        let Self { schema, other } = more;
        self.schema = self.schema.saturating_add(schema);
        self.other = self.other.saturating_add(other);
    }
}

/// Whether another member of the request also constrains the response.
fn is_another(name: &str, (other, value): &(alloc::borrow::Cow<'_, str>, Value<'_>)) -> bool {
    let text = || value.get("type").and_then(Value::as_str) == Some("text");
    match other.as_ref() {
        _ if *value == Value::Null => false,
        "tools" => true,
        "response_format" => !text(),
        other => other != name && kind(other).is_some(),
    }
}

#[cfg(test)]
mod tests;
