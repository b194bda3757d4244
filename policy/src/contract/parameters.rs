//! Request parameters: each must be listed by the contract with a type and bounds.
//!
//! An integer is one by its type, not by its value: `5.0` would be forwarded as a double, which
//! backends read differently. In JSON an integer has no fraction and no exponent. Where any number
//! is allowed, an integer is checked by its value.

use alloc::format;
use alloc::string::String;

use super::{ParameterBound, kernels, quote};
use crate::denial::{Denial, Reason};
use crate::values::tensor::{InferRequest, Parameter, ParameterValue};

/// Rejects unlisted parameters, values out of bounds, and all parameters of tensors and outputs.
pub(super) fn check(
    bounds: &[(String, ParameterBound)],
    request: &InferRequest<'_>,
) -> Result<(), Denial> {
    for parameter in &request.parameters {
        let name = parameter.name.as_ref();
        let Some((_, bound)) = bounds.iter().find(|(listed, _)| listed == name) else {
            return refuse("", name, "the contract has no such parameter");
        };
        if !allows(bound, &parameter.value) {
            let cause = "the value is not of the contract's type or out of its bounds";
            return refuse("", name, cause)
                .map_err(|denial| denial.expecting(Some(expected(bound))));
        }
    }
    for input in &request.inputs {
        none(&input.parameters, "input", &input.name)?;
    }
    for output in &request.outputs {
        none(&output.parameters, "output", &output.name)?;
    }
    Ok(())
}

/// Parameters of tensors and outputs (shared memory, classification, binary sizes) are never
/// allowed, because they bypass the contract.
fn none(parameters: &[Parameter<'_>], kind: &str, owner: &str) -> Result<(), Denial> {
    match parameters.first() {
        Some(parameter) => refuse(
            &format!("{kind} {}: ", quote(owner)),
            &parameter.name,
            "a parameter is not allowed here",
        ),
        None => Ok(()),
    }
}

fn refuse(owner: &str, name: &str, cause: &str) -> Result<(), Denial> {
    let field = format!("{owner}parameter {}", quote(name));
    Err(Denial::with_field(
        Reason::Parameter,
        field.as_str(),
        format!("{field}: {cause}"),
    ))
}

/// A bound in words. Listed texts are not given.
pub(super) fn expected(bound: &ParameterBound) -> String {
    match bound {
        ParameterBound::Int(least, greatest) => {
            format!("a whole number from {least} to {greatest}")
        }
        ParameterBound::Float(least, greatest) => format!("a number from {least} to {greatest}"),
        ParameterBound::Bool => "true or false".into(),
        ParameterBound::OneOf(_) => "one of the contract's texts".into(),
    }
}

/// Whether a value has a bound's type and lies within it.
pub(super) fn allows(bound: &ParameterBound, value: &ParameterValue<'_>) -> bool {
    match (bound, value) {
        (ParameterBound::Bool, ParameterValue::Bool(_)) => true,
        (ParameterBound::OneOf(allowed), ParameterValue::String(value)) => {
            allowed.iter().any(|text| text == value.as_ref())
        }
        (ParameterBound::Int(least, greatest), value) => {
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
        (ParameterBound::Bool | ParameterBound::OneOf(_), _) => false,
    }
}
