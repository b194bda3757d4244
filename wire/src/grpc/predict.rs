//! Decodes TF Serving's `PredictRequest`, `GetModelMetadataRequest` and `GetModelStatusRequest`.
//! Field numbers are the protocol's.

use std::borrow::Cow;

use tensorgate_policy::tensor::{Parameter, RequestedOutput};
use tensorgate_policy::{InferRequest, Tensor};

use super::protobuf::{FieldRef, Value, read};
use super::request::{named, push};
use super::tensor_proto;
use crate::fault::BodyFault;
use crate::limits::{MAX_INPUTS, MAX_NAME_BYTES, MAX_OUTPUTS};
use crate::raw_contents::Budget;
use crate::route::tf_serving::is_number;
use crate::signature;

/// The only supported metadata field.
const SIGNATURES: &str = "signature_def";

/// `ModelSpec`: the addressee of a request.
#[derive(Debug, Default)]
pub(super) struct Spec<'a> {
    pub(super) model: Option<&'a str>,
    pub(super) version: Option<Cow<'a, str>>,
    signature: Option<&'a str>,
}

impl<'a> Spec<'a> {
    pub(super) fn read(message: &'a [u8]) -> Result<Self, BodyFault> {
        let (mut model, mut version, mut label, mut signature) = (None, None, None, None);
        read("ModelSpec", message, |field, value| match field.number {
            1 => field.once(&mut model, field.text_of(value, MAX_NAME_BYTES)?),
            2 => field.once(&mut version, number(field.bytes(value)?)?),
            3 => field.once(&mut signature, field.text_of(value, MAX_NAME_BYTES)?),
            4 => field.once(&mut label, field.text_of(value, MAX_NAME_BYTES)?),
            _ => Err(field.unknown()),
        })?;
        let version = match (version, label) {
            (Some(_), Some(_)) => {
                return Err(BodyFault::field(
                    "version_label",
                    "cannot be combined with version",
                ));
            }
            (Some(number), None) => Some(Cow::Owned(number.to_string())),
            // A label that is a number would be a second spelling of a version.
            (None, Some(label)) if is_number(label) => {
                return Err(BodyFault::field("version_label", "is a number"));
            }
            (None, label) => named(label),
        };
        Ok(Self {
            model,
            version,
            signature,
        })
    }

    fn request(self) -> InferRequest<'a> {
        let parameters: Option<Parameter<'a>> =
            named(self.signature).and_then(signature::parameter);
        InferRequest {
            model: named(self.model),
            version: self.version,
            parameters: parameters.into_iter().collect(),
            ..InferRequest::default()
        }
    }
}

/// Reads an `Int64Value`.
fn number(message: &[u8]) -> Result<i64, BodyFault> {
    let mut number = None;
    read("Int64Value", message, |field, value| match field.number {
        1 => field.once(&mut number, field.varint(value)?.cast_signed()),
        _ => Err(field.unknown()),
    })?;
    Ok(number.unwrap_or_default())
}

/// Reads a `PredictRequest`.
pub(crate) fn predict(message: &[u8]) -> Result<InferRequest<'_>, BodyFault> {
    let mut spec = None;
    let mut entries = Vec::new();
    let mut outputs = Vec::new();
    read("PredictRequest", message, |field, value| {
        match field.number {
            1 => field.once(&mut spec, Spec::read(field.bytes(value)?)?),
            2 => push(&mut entries, entry(field, value)?, "inputs", MAX_INPUTS),
            3 => push(
                &mut outputs,
                RequestedOutput {
                    name: Cow::Borrowed(field.text_of(value, MAX_NAME_BYTES)?),
                    parameters: Vec::new(),
                    binary_data: None,
                },
                "outputs",
                MAX_OUTPUTS,
            ),
            _ => Err(field.unknown()),
        }
    })?;
    let mut budget = Budget::new();
    let inputs = entries
        .into_iter()
        .map(|(name, tensor)| tensor_proto::tensor(name, tensor, &mut budget))
        .collect::<Result<Vec<Tensor<'_>>, _>>()?;
    Ok(InferRequest {
        inputs,
        outputs,
        ..spec.unwrap_or_default().request()
    })
}

/// One entry of the inputs' map: a name and the tensor's message. The contract rejects repeated
/// names.
fn entry<'a>(field: FieldRef, value: Value<'a>) -> Result<(&'a str, Option<&'a [u8]>), BodyFault> {
    let (mut name, mut tensor) = (None, None);
    read(
        "an inputs map's entry",
        field.bytes(value)?,
        |field, value| match field.number {
            1 => field.once(&mut name, field.text_of(value, MAX_NAME_BYTES)?),
            2 => field.once(&mut tensor, field.bytes(value)?),
            _ => Err(field.unknown()),
        },
    )?;
    Ok((name.unwrap_or_default(), tensor))
}

/// Reads a request about a model: its spec and, for `metadata`, the single supported field.
pub(crate) fn question(message: &[u8], metadata: bool) -> Result<InferRequest<'_>, BodyFault> {
    let (mut spec, mut metadata_field) = (None, None);
    read("the model's request", message, |field, value| {
        match field.number {
            1 => field.once(&mut spec, Spec::read(field.bytes(value)?)?),
            2 if metadata => field.once(&mut metadata_field, field.text_of(value, MAX_NAME_BYTES)?),
            _ => Err(field.unknown()),
        }
    })?;
    if metadata && metadata_field != Some(SIGNATURES) {
        return Err(BodyFault::field("metadata_field", "is not signature_def"));
    }
    Ok(spec.unwrap_or_default().request())
}
