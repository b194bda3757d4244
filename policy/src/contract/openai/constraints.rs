//! What an answer may be held to beside a schema in `response_format`: the members by which servers take expressions, choices and grammars, each by its
//! own rule. Whoever sends one has the server compile it, so that all of it is looked through before it gets there.
//!
//! | member | server | what it holds |
//! |---|---|---|
//! | `structured_outputs` | vLLM (docs.vllm.ai, "Structured Outputs") | an object with one of `json`, `regex`, `choice`, `grammar`, `json_object` |
//! | `guided_json`, `guided_regex`, `guided_choice`, `guided_grammar` | vLLM before 0.12 | a schema, an expression, choices, a grammar |
//! | `regex`, `ebnf` | SGLang (docs.sglang.io, "Structured Outputs") | an expression, a grammar |
//! | `grammar`, `json_schema` | llama.cpp (tools/server/README.md) | a grammar, a schema |
//!
//! A schema that comes as a text is none: two readers could read two things. What a whitespace is, which compiler a server takes, and tags inside a
//! text (`structural_tag`) are nobody's but the server's.

use alloc::string::String;
use alloc::vec::Vec;

use super::grammar::{self, Notation};
use super::{Faults, schema};
use crate::contract::pattern::{Fault, Meter};
use crate::denial::Reason;
use crate::json::{Members, Value};

/// What a caller may ask for beside a format.
#[derive(Clone, Debug, Default)]
pub struct Constraints {
    /// Members that are taken.
    pub(crate) members: Vec<String>,
    pub(crate) patterns: Option<PatternRule>,
    pub(crate) choices: Option<Choices>,
    pub(crate) grammars: Option<Grammars>,
    /// A schema; 0: none.
    pub(crate) max_schema_bytes: usize,
}

/// Expressions, those of schemas among them.
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

/// What a member holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Schema,
    Pattern,
    Choices,
    /// In either notation, or in EBNF alone.
    Grammar {
        lark: bool,
    },
    /// One of these, by its own member.
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

/// Members of `structured_outputs`, of which there is one.
const ONE_OF: [(&str, Kind); 4] = [
    ("json", Kind::Schema),
    ("regex", Kind::Pattern),
    ("choice", Kind::Choices),
    ("grammar", Kind::Grammar { lark: true }),
];
/// Switches beside it.
const SWITCHES: [&str; 2] = ["disable_any_whitespace", "disable_additional_properties"];

/// What a member of this name holds, if it is one of these.
pub(crate) fn kind(name: &str) -> Option<Kind> {
    kind_in(&MEMBERS, name)
}

fn kind_in(members: &[(&str, Kind)], name: &str) -> Option<Kind> {
    let found = members.iter().find(|(known, _)| *known == name);
    found.map(|(_, kind)| *kind)
}

/// The patterns of a request, on their way.
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

    /// What a pattern comes to. `searched`: it need not match all of a text.
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
    /// Whether a member is one that the contract takes.
    pub(super) fn takes(&self, name: &str) -> bool {
        self.members.iter().any(|member| member == name)
    }

    /// Checks a member that is taken. Answers with the bytes of it, those of a schema apart.
    pub(super) fn check(
        &self,
        name: &str,
        value: &Value<'_>,
        document: &Members<'_>,
        faults: &mut Faults,
    ) -> Bytes {
        let held = match kind(name) {
            _ if *value == Value::Null => Ok(Bytes::default()),
            // Servers refuse the second, overlook it, or stop.
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
            // A server makes a grammar of them, in which a line's end is one.
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

    /// The most that a request can hold of them.
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

/// Bytes of constraints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bytes {
    /// Of a schema, which a server's template may write out.
    pub(super) schema: usize,
    /// Of everything else, which no template gets to see.
    pub(super) other: usize,
}

impl Bytes {
    pub(super) fn add(&mut self, more: Self) {
        let Self { schema, other } = more;
        self.schema = self.schema.saturating_add(schema);
        self.other = self.other.saturating_add(other);
    }
}

/// Whether a member of a request holds its answer to something too, or lets the server do so.
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
