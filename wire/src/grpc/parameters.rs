//! Decodes `map<string, InferParameter>` to named scalars, which the contract validates.

use std::borrow::Cow;

use tensorgate_policy::tensor::{Parameter, ParameterValue};

use super::protobuf::{FieldRef, Value, read};
use crate::fault::{BodyFault, quote};
use crate::limits::{MAX_NAME_BYTES, MAX_PARAMETER_BYTES};
use crate::parameters::add;

/// Adds one entry of a parameter map.
pub(super) fn push_parameter<'a>(
    parameters: &mut Vec<Parameter<'a>>,
    field: FieldRef,
    entry: Value<'a>,
) -> Result<(), BodyFault> {
    let mut name = None;
    let mut value = None;
    read(
        "a parameter map's entry",
        field.bytes(entry)?,
        |field, content| match field.number {
            1 => field.once(&mut name, field.text_of(content, MAX_NAME_BYTES)?),
            2 => field.once(&mut value, scalar(field.bytes(content)?)?),
            _ => Err(field.unknown()),
        },
    )?;
    let name = name.unwrap_or_default();
    let value = value
        .flatten()
        .ok_or_else(|| BodyFault::field(format!("parameter {}", quote(name)), "has no value"))?;
    add(
        parameters,
        Parameter {
            name: Cow::Borrowed(name),
            value,
        },
    )
}

/// The value of an `InferParameter`, or `None` without one.
fn scalar(message: &[u8]) -> Result<Option<ParameterValue<'_>>, BodyFault> {
    let mut choice = None;
    read("InferParameter", message, |field, value| {
        let value = match field.number {
            1 => match field.varint(value)? {
                0 => ParameterValue::Bool(false),
                1 => ParameterValue::Bool(true),
                _ => return Err(field.wrong("is neither 0 nor 1")),
            },
            2 => ParameterValue::Int64(field.varint(value)?.cast_signed()),
            3 => ParameterValue::String(Cow::Borrowed(field.text_of(value, MAX_PARAMETER_BYTES)?)),
            4 => match value {
                Value::Fixed64(bytes) if f64::from_le_bytes(bytes).is_finite() => {
                    ParameterValue::Double(f64::from_le_bytes(bytes))
                }
                Value::Fixed64(_) => return Err(field.wrong("is not finite")),
                Value::Varint(_) | Value::Bytes(_) | Value::Fixed32(_) => {
                    return Err(field.wrong("has another wire type"));
                }
            },
            5 => ParameterValue::Uint64(field.varint(value)?),
            _ => return Err(field.unknown()),
        };
        field.once(&mut choice, value)
    })?;
    Ok(choice)
}
