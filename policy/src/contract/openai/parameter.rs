//! Values of members that only the policy's `parameters` allow: scalars, lists of scalars, and
//! objects.

use alloc::format;
use alloc::string::String;

use tensorgate_values::json::Value;
use tensorgate_values::tensor::ParameterValue;

use super::Faults;
use super::special_tokens::{SpecialTokens, TextForm};
use super::text_length::longest;
use crate::contract::{ParameterBound, parameters, quote};
use crate::denial::Reason;

/// The check of one member.
pub(super) struct ParameterCheck<'r, 'f> {
    tokens: &'r SpecialTokens,
    faults: &'f mut Faults,
    is_in_object: bool,
    /// Bytes of the caller's texts in objects. The server's template may write them.
    pub(super) text_bytes: usize,
}

impl<'r, 'f> ParameterCheck<'r, 'f> {
    pub(super) fn new(tokens: &'r SpecialTokens, faults: &'f mut Faults) -> Self {
        Self {
            tokens,
            faults,
            is_in_object: false,
            text_bytes: 0,
        }
    }

    /// Checks a value that `field` names. The recursion is limited by the depth of the rule.
    pub(super) fn value(
        &mut self,
        bound: &ParameterBound,
        value: &Value<'_>,
        field: &dyn Fn() -> String,
    ) {
        match (bound, value) {
            (ParameterBound::Object(rules), Value::Object(members)) => {
                self.is_in_object = true;
                // The backend does not get null.
                let present = members.iter().filter(|(_, value)| *value != Value::Null);
                for (name, value) in present {
                    let field = || format!("{}[{}]", field(), quote(name));
                    match rules.iter().find(|(known, _)| **known == **name) {
                        Some((_, bound)) => self.value(bound, value, &field),
                        None => self.faults.add_expecting(
                            Reason::Parameter,
                            field,
                            "the contract's object has no such member",
                            || parameters::expected(bound),
                        ),
                    }
                }
            }
            (ParameterBound::List(most, each), Value::Array(elements)) => {
                let count = elements.len();
                if count > *most {
                    let cause = format!("{count} elements, {most} are allowed");
                    let expected = || parameters::expected(bound);
                    self.faults
                        .add_expecting(Reason::Parameter, field, &cause, expected);
                    return;
                }
                for (index, element) in elements.iter().enumerate() {
                    self.value(each, element, &|| format!("{}[{index}]", field()));
                }
            }
            (bound, value) => self.scalar(bound, value, field),
        }
    }

    fn scalar(&mut self, bound: &ParameterBound, value: &Value<'_>, field: &dyn Fn() -> String) {
        let scalar = match value {
            Value::Bool(value) => Some(ParameterValue::Bool(*value)),
            Value::Int(value) => Some(ParameterValue::Int64(*value)),
            Value::Float(value) => Some(ParameterValue::Double(*value)),
            Value::String(text) => Some(ParameterValue::String(text.as_ref().into())),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        if !scalar.is_some_and(|scalar| parameters::allows(bound, &scalar)) {
            let cause = "the value is not of the contract's type or out of its bounds";
            let expected = || parameters::expected(bound);
            self.faults
                .add_expecting(Reason::Parameter, field, cause, expected);
            return;
        }
        let is_free = matches!(
            bound,
            ParameterBound::Text(_) | ParameterBound::IntOrText(..)
        );
        if let Value::String(text) = value
            && is_free
            && self.is_in_object
        {
            self.text_bytes = self.text_bytes.saturating_add(longest(text));
            // The text stays as it is: it may be a word that the template compares.
            if self.tokens.added_bytes(text, TextForm::Plain) != Ok(0) {
                let cause = "has a special token of the model";
                self.faults.add(Reason::Parameter, field, cause);
            }
        }
    }
}

#[cfg(test)]
mod tests;
