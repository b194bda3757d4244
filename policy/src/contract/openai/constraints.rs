//! Output constraints beside `response_format`: schemas, expressions, choices and grammars that the
//! server compiles.
//!
//! Such a member is rejected unless the policy names it. A named member is bounded by its size and
//! depth only. Its content is not analysed, because each server reads it differently.
//!
//! | server | members |
//! |---|---|
//! | vLLM | `structured_outputs` |
//! | vLLM before 0.12 | `guided_json`, `guided_regex`, `guided_choice`, `guided_grammar` |
//! | vLLM before 0.12 | `structural_tag` |
//! | SGLang | `regex`, `ebnf` |
//! | llama.cpp | `grammar`, `json_schema` |

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::json::{Members, Value};

use super::Faults;
use crate::denial::Reason;

/// Constraints that a caller may use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Constraints {
    /// Allowed members, of [`MEMBERS`] and [`KEYWORDS`].
    pub members: Vec<String>,
    /// Maximum size of each as JSON text.
    pub max_bytes: usize,
    /// Maximum depth of each.
    pub max_depth: usize,
}

/// Members of a request that servers know.
pub const MEMBERS: [&str; 10] = [
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structural_tag",
    "regex",
    "ebnf",
    "grammar",
    "json_schema",
];

/// Keywords with patterns in the schemas of tools and of `response_format`.
pub const KEYWORDS: [&str; 2] = ["pattern", "patternProperties"];

/// Whether a request's member of this name constrains the response.
pub fn is_member(name: &str) -> bool {
    MEMBERS.contains(&name)
}

impl Constraints {
    /// Whether the policy names this member or keyword.
    pub(super) fn names(&self, name: &str) -> bool {
        self.members.iter().any(|member| member == name)
    }

    /// Checks a named member of a request. Returns its size.
    pub(super) fn check(
        &self,
        name: &str,
        value: &Value<'_>,
        document: &Members<'_>,
        faults: &mut Faults,
    ) -> usize {
        if *value == Value::Null {
            return 0;
        }
        let bytes = value.text_bytes();
        let cause = if document.iter().any(|other| is_another(name, other)) {
            // Servers reject a second constraint, ignore it, or fail.
            "comes beside another constraint, or beside tools"
        } else if bytes > self.max_bytes {
            "is larger than the contract allows"
        } else if value.depth() > self.max_depth {
            "is nested more deeply than the contract allows"
        } else {
            return bytes;
        };
        let field = || alloc::format!("parameter \"{name}\"");
        faults.add(Reason::Parameter, field, cause);
        0
    }

    /// Maximum size of constraints in a request, which has at most one.
    pub(super) fn most(&self) -> usize {
        if self.members.iter().any(|name| is_member(name)) {
            self.max_bytes
        } else {
            0
        }
    }
}

/// Whether another member of the request also constrains the response.
fn is_another(name: &str, (other, value): &(Cow<'_, str>, Value<'_>)) -> bool {
    let text = || value.get("type").and_then(Value::as_str) == Some("text");
    match other.as_ref() {
        _ if *value == Value::Null => false,
        "tools" => true,
        "response_format" => !text(),
        other => other != name && is_member(other),
    }
}

#[cfg(test)]
mod tests;
