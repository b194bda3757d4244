//! Parameters of requests and inputs: each must be listed by the contract with a type and bounds,
//! or be ignored by it.
//!
//! An integer is one by its type, not by its value: `5.0` would be forwarded as a double, which
//! backends read differently. In JSON an integer has no fraction and no exponent. Where any number
//! is allowed, an integer is checked by its value.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tensorgate_values::tensor::{InferRequest, Parameter, ParameterValue};

use super::{Contract, ParameterBound, TextBound, kernels, quote};
use crate::denial::{Denial, Reason};

/// Rejects parameters without a rule, and values out of bounds.
///
/// A requested output has no rules: its parameters (shared memory, classification, binary sizes)
/// would bypass the contract. An input has only those that the policy lists for it.
pub(super) fn check(contract: &Contract, request: &InferRequest<'_>) -> Result<(), Denial> {
    let ignored = contract.ignored.as_slice();
    let of_request = Owner {
        field: &String::new,
        unlisted: "the contract has no such parameter",
    };
    of_request.check(&contract.parameters, ignored, &request.parameters)?;
    for input in &request.inputs {
        let owner = Owner {
            field: &|| format!("input {}: ", quote(&input.name)),
            unlisted: NOT_HERE,
        };
        let rules = contract.rules_of_input(&input.name);
        owner.check(rules, ignored, &input.parameters)?;
    }
    for output in &request.outputs {
        let owner = Owner {
            field: &|| format!("output {}: ", quote(&output.name)),
            unlisted: NOT_HERE,
        };
        owner.check(&[], ignored, &output.parameters)?;
    }
    Ok(())
}

const NOT_HERE: &str = "a parameter is not allowed here";

/// What has parameters: the request, an input or an output.
struct Owner<'o> {
    /// The beginning of a fault's field.
    field: &'o dyn Fn() -> String,
    /// Cause of a parameter without a rule.
    unlisted: &'o str,
}

impl Owner<'_> {
    fn check(
        &self,
        rules: &[(String, ParameterBound)],
        ignored: &[String],
        parameters: &[Parameter<'_>],
    ) -> Result<(), Denial> {
        for parameter in parameters {
            let name = parameter.name.as_ref();
            match rules.iter().find(|(listed, _)| listed == name) {
                Some((_, bound)) if allows(bound, &parameter.value) => {}
                Some((_, bound)) => {
                    let cause = "the value is not of the contract's type or out of its bounds";
                    let denial = self.refusal(name, cause);
                    return Err(denial.expecting(Some(expected(bound))));
                }
                None if is_ignored(ignored, name) => {}
                None => return Err(self.refusal(name, self.unlisted)),
            }
        }
        Ok(())
    }

    fn refusal(&self, name: &str, cause: &str) -> Denial {
        let owner = (self.field)();
        let field = format!("{owner}parameter {}", quote(name));
        Denial::with_field(
            Reason::Parameter,
            field.as_str(),
            format!("{field}: {cause}"),
        )
    }
}

fn is_ignored(ignored: &[String], name: &str) -> bool {
    ignored.iter().any(|listed| listed == name)
}

/// Whether a name is dropped: it is ignored, and no rule names it.
pub(super) fn is_dropped(
    rules: &[(String, ParameterBound)],
    ignored: &[String],
    name: &str,
) -> bool {
    is_ignored(ignored, name) && rules.iter().all(|(listed, _)| listed != name)
}

/// Removes ignored parameters of the request, its inputs and its outputs. Returns their names, each
/// once.
pub(super) fn drop_ignored(contract: &Contract, request: &mut InferRequest<'_>) -> Vec<String> {
    let ignored = contract.ignored.as_slice();
    let mut dropped = Vec::new();
    if ignored.is_empty() {
        return dropped;
    }
    let mut retain = |rules: &[(String, ParameterBound)], parameters: &mut Vec<Parameter<'_>>| {
        parameters.retain(|parameter| {
            let name = parameter.name.as_ref();
            let is_dropped = is_dropped(rules, ignored, name);
            if is_dropped && !is_ignored(&dropped, name) {
                dropped.push(name.into());
            }
            !is_dropped
        });
    };
    retain(&contract.parameters, &mut request.parameters);
    for input in &mut request.inputs {
        retain(contract.rules_of_input(&input.name), &mut input.parameters);
    }
    for output in &mut request.outputs {
        retain(&[], &mut output.parameters);
    }
    dropped
}

/// Maximum size of the texts that a bound lists in words, apart from the first one.
const MAX_LISTED_BYTES: usize = 256;

/// A bound in words. Patterns are not given.
pub(super) fn expected(bound: &ParameterBound) -> String {
    match bound {
        ParameterBound::Int(least, greatest) => {
            format!("a whole number from {least} to {greatest}")
        }
        ParameterBound::Float(least, greatest) => format!("a number from {least} to {greatest}"),
        ParameterBound::Bool => "true or false".into(),
        ParameterBound::False => "false".into(),
        ParameterBound::OneOf(texts) => one_of(texts),
        ParameterBound::Text(text) => text.expected(),
        ParameterBound::IntOrText((least, greatest), text) => {
            let text = text.expected();
            format!("a whole number from {least} to {greatest}, or {text}")
        }
        ParameterBound::List(most, each) => {
            format!("a list of at most {most}, each {}", expected(each))
        }
        ParameterBound::Object(rules) => {
            let names: Vec<String> = rules.iter().map(|(name, _)| name.clone()).collect();
            format!("an object whose every member is {}", one_of(&names))
        }
    }
}

/// The allowed texts, as many as [`MAX_LISTED_BYTES`] hold.
fn one_of(texts: &[String]) -> String {
    let mut listed = String::new();
    for (index, text) in texts.iter().enumerate() {
        let text = quote(text);
        let bytes = listed.len().saturating_add(text.len());
        if !listed.is_empty() && bytes > MAX_LISTED_BYTES {
            let more = texts.len().saturating_sub(index);
            return format!("one of {listed}and {more} more");
        }
        listed.push_str(&text);
        listed.push_str(", ");
    }
    format!("one of {}", listed.trim_end_matches(", "))
}

/// Whether a value has a bound's type and lies within it.
pub(super) fn allows(bound: &ParameterBound, value: &ParameterValue<'_>) -> bool {
    match (bound, value) {
        (ParameterBound::Bool, ParameterValue::Bool(_))
        | (ParameterBound::False, ParameterValue::Bool(false)) => true,
        (ParameterBound::OneOf(allowed), ParameterValue::String(value)) => {
            allowed.iter().any(|text| text == value.as_ref())
        }
        (
            ParameterBound::Text(text) | ParameterBound::IntOrText(_, text),
            ParameterValue::String(value),
        ) => text.allows(value),
        (
            ParameterBound::Int(least, greatest) | ParameterBound::IntOrText((least, greatest), _),
            value,
        ) => {
            let integer = match value {
                ParameterValue::Int64(value) => Some(i128::from(*value)),
                ParameterValue::Uint64(value) => Some(i128::from(*value)),
                ParameterValue::Double(_) | ParameterValue::Bool(_) | ParameterValue::String(_) => {
                    None
                }
            };
            integer
                .is_some_and(|value| (i128::from(*least)..=i128::from(*greatest)).contains(&value))
        }
        (ParameterBound::Float(least, greatest), value) => match value {
            ParameterValue::Double(value) => {
                value.is_finite() && *least <= *value && *value <= *greatest
            }
            ParameterValue::Int64(value) => {
                kernels::integer_in_range(i128::from(*value), *least, *greatest)
            }
            ParameterValue::Uint64(value) => {
                kernels::integer_in_range(i128::from(*value), *least, *greatest)
            }
            ParameterValue::Bool(_) | ParameterValue::String(_) => false,
        },
        (
            ParameterBound::Bool
            | ParameterBound::False
            | ParameterBound::OneOf(_)
            | ParameterBound::Text(_)
            | ParameterBound::List(..)
            | ParameterBound::Object(_),
            _,
        ) => false,
    }
}

impl TextBound {
    /// Whether a text has the size and form. Control characters could forge lines of a server's
    /// log.
    pub(super) fn allows(&self, text: &str) -> bool {
        text.len() <= self.max_bytes
            && !text.contains(char::is_control)
            && (self.pattern.as_ref()).is_none_or(|pattern| pattern.matches(text))
    }

    pub(super) fn expected(&self) -> String {
        let bytes = self.max_bytes;
        let form = if self.pattern.is_some() {
            ", of the contract's pattern"
        } else {
            ""
        };
        format!("a text of at most {bytes} bytes without control characters{form}")
    }
}

#[cfg(test)]
mod tests;
