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
    place: FieldRef,
    entry: Value<'a>,
) -> Result<(), BodyFault> {
    let mut name = None;
    let mut value = None;
    read(
        "a parameter map's entry",
        place.bytes(entry)?,
        |place, field| match place.field {
            1 => place.once(&mut name, place.text_of(field, MAX_NAME_BYTES)?),
            2 => place.once(&mut value, scalar(place.bytes(field)?)?),
            _ => Err(place.unknown()),
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
    read("InferParameter", message, |place, value| {
        let value = match place.field {
            1 => match place.varint(value)? {
                0 => ParameterValue::Bool(false),
                1 => ParameterValue::Bool(true),
                _ => return Err(place.wrong("is neither 0 nor 1")),
            },
            2 => ParameterValue::Int64(place.varint(value)?.cast_signed()),
            3 => ParameterValue::String(Cow::Borrowed(place.text_of(value, MAX_PARAMETER_BYTES)?)),
            4 => match value {
                Value::Fixed64(bytes) if f64::from_le_bytes(bytes).is_finite() => {
                    ParameterValue::Double(f64::from_le_bytes(bytes))
                }
                Value::Fixed64(_) => return Err(place.wrong("is not finite")),
                Value::Varint(_) | Value::Bytes(_) | Value::Fixed32(_) => {
                    return Err(place.wrong("has another wire type"));
                }
            },
            5 => ParameterValue::Uint64(place.varint(value)?),
            _ => return Err(place.unknown()),
        };
        place.once(&mut choice, value)
    })?;
    Ok(choice)
}
