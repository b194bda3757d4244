//! Decodes TorchServe's `PredictionsRequest` to names and bytes. Field numbers are the protocol's.

use tensorgate_policy::InferRequest;
use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::request::ContentType;

use super::protobuf::{FieldRef, Value, read};
use super::request::{named, push};
use crate::fault::BodyFault;
use crate::limits::{MAX_INPUTS, MAX_NAME_BYTES};
use crate::torch::{self, Named};

/// Reads a `PredictionsRequest`. A `sequence_id` is for streams, which are not supported.
pub(crate) fn predictions<'a>(
    message: &'a [u8],
    rules: &[TensorRule],
) -> Result<InferRequest<'a>, BodyFault> {
    let (mut model, mut version) = (None, None);
    let mut values = Vec::new();
    read("PredictionsRequest", message, |field, value| {
        match field.number {
            1 => field.once(&mut model, field.text_of(value, MAX_NAME_BYTES)?),
            2 => field.once(&mut version, field.text_of(value, MAX_NAME_BYTES)?),
            3 => push(&mut values, map_entry(field, value)?, "inputs", MAX_INPUTS),
            _ => Err(field.unknown()),
        }
    })?;
    let (model, version) = (named(model), named(version));
    // Without a model there are no rules for its values.
    let read = match model {
        Some(_) => torch::request(values, rules)?,
        None => InferRequest::default(),
    };
    Ok(InferRequest {
        model,
        version,
        ..read
    })
}

/// One entry of the input map. The contract rejects repeated names.
fn map_entry<'a>(field: FieldRef, value: Value<'a>) -> Result<Named<'a>, BodyFault> {
    let (mut name, mut bytes) = (None, None);
    read(
        "an entry of the input map",
        field.bytes(value)?,
        |field, value| match field.number {
            1 => field.once(&mut name, field.text_of(value, MAX_NAME_BYTES)?),
            2 => field.once(&mut bytes, field.bytes(value)?),
            _ => Err(field.unknown()),
        },
    )?;
    Ok(Named {
        name: name.unwrap_or_default(),
        content_type: ContentType::Absent,
        bytes: bytes.unwrap_or_default(),
    })
}
