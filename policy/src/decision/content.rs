//! Validates a decoded body against its model. The format and the model determine the contract.

use alloc::format;
use alloc::vec::Vec;

use tensorgate_values::datatype::FloatFormat;
use tensorgate_values::tensor::{ASK_FOR_BINARY, InferRequest};

use super::BodyFormat;
use super::step::foreign_policy;
use crate::contract::{OnValueFault, OutputScope, RequestCost, TensorRule, have_rows, quote};
use crate::denial::{Denial, Reason};
use crate::policy::{Accepts, Media, Model, Shadow, note};
use crate::request::OCTET_STREAM;

/// A decoded body as it was received.
pub(super) struct Received<'r> {
    pub(super) format: BodyFormat,
    /// Its length.
    pub(super) bytes: u64,
    pub(super) request: &'r InferRequest<'r>,
}

/// Validates a decoded body. `None`: it has no content to charge.
pub(super) fn check(
    model: &Model,
    scope: &OutputScope<'_>,
    received: &Received<'_>,
    on_fault: &mut OnValueFault<'_>,
) -> Result<Option<RequestCost>, Denial> {
    let Received {
        format,
        bytes,
        request,
    } = *received;
    match (format, model.accepts()) {
        (
            BodyFormat::OipJson
            | BodyFormat::OipBinary { .. }
            | BodyFormat::OipGrpcInfer
            | BodyFormat::TfJson
            | BodyFormat::TfGrpcPredict
            | BodyFormat::TorchJson
            | BodyFormat::TorchForm(_)
            | BodyFormat::TorchGrpc
            | BodyFormat::Template,
            Accepts::Tensors(contract),
        ) => {
            if by_row(format, request) {
                answered_in_rows(scope, model)?;
            }
            answered_in_json(format, scope, model, request)?;
            contract.check(scope, request, on_fault)?;
            Ok(Some(contract.cost(request)))
        }
        (BodyFormat::OpenAi(api), Accepts::OpenAi(rules)) => {
            rules.check(api, &request.document, on_fault).map(Some)
        }
        (BodyFormat::Raw, Accepts::Raw { media, .. }) => {
            raw_body(media.as_ref(), request).or_else(on_fault)?;
            Ok(Some(RequestCost::raw(bytes)))
        }
        (
            BodyFormat::TorchForm(_) | BodyFormat::TorchGrpc,
            Accepts::Raw {
                content_types,
                max_bytes,
                media,
            },
        ) => {
            let bytes = file_in_body(request, content_types, *max_bytes)?;
            raw_body(media.as_ref(), request).or_else(on_fault)?;
            Ok(Some(RequestCost::raw(bytes)))
        }
        (BodyFormat::OipGrpcModel | BodyFormat::TfGrpcModel { .. } | BodyFormat::Empty, _) => {
            no_content(request).map(|()| None)
        }
        _ => Err(foreign_policy()),
    }
}

/// Whether a request is answered row by row.
const fn by_row(format: BodyFormat, request: &InferRequest<'_>) -> bool {
    match format {
        BodyFormat::TfJson
        | BodyFormat::TorchJson
        | BodyFormat::TorchForm(_)
        | BodyFormat::TorchGrpc => !request.by_column,
        BodyFormat::OipJson
        | BodyFormat::OipBinary { .. }
        | BodyFormat::OipGrpcInfer
        | BodyFormat::OipGrpcModel
        | BodyFormat::TfGrpcPredict
        | BodyFormat::TfGrpcModel { .. }
        | BodyFormat::OpenAi(_)
        | BodyFormat::Template
        | BodyFormat::Raw
        | BodyFormat::Empty => false,
    }
}

/// Whether the caller's outputs can be sent row by row. Otherwise the request is rejected before
/// the model runs.
fn answered_in_rows(scope: &OutputScope<'_>, model: &Model) -> Result<(), Denial> {
    if have_rows(scope.published(model.returns())) {
        return Ok(());
    }
    Err(Denial::with_field(
        Reason::Malformed,
        "instances",
        format!(
            "the outputs of model {} have no rows in common",
            quote(model.name())
        ),
    ))
}

/// Whether the caller's outputs can be sent in the requested JSON: 16-bit floats need binary data.
/// Otherwise the request is rejected before the model runs. Formats without binary data have no
/// such outputs (see `validate`).
pub(super) fn answered_in_json(
    format: BodyFormat,
    scope: &OutputScope<'_>,
    model: &Model,
    request: &InferRequest<'_>,
) -> Result<(), Denial> {
    if !matches!(format, BodyFormat::OipJson | BodyFormat::OipBinary { .. }) {
        return Ok(());
    }
    let mut returned =
        (scope.published(model.returns())).filter(|rule| request.asks_for(rule.name()));
    let unsayable = |rule: &&TensorRule| match rule.datatype().float_format() {
        Some(FloatFormat::Fp16 | FloatFormat::Bf16) => !request.wants_binary(rule.name()),
        Some(FloatFormat::Fp32 | FloatFormat::Fp64) | None => false,
    };
    match returned.find(unsayable) {
        None => Ok(()),
        Some(rule) => {
            let (name, datatype) = (quote(rule.name()), rule.datatype());
            let cause = format!("output {name} is {datatype}, which JSON cannot represent");
            let expected = format!("true, because {cause}: {ASK_FOR_BINARY}");
            Err(
                Denial::with_field(Reason::Malformed, "binary_data_output", cause)
                    .expecting(Some(expected)),
            )
        }
    }
}

/// A message without a contract must be empty, because its contents would not be validated.
fn no_content(request: &InferRequest<'_>) -> Result<(), Denial> {
    let tensors = !request.inputs.is_empty() || !request.outputs.is_empty();
    if !tensors && request.parameters.is_empty() && request.document.is_empty() {
        return Ok(());
    }
    Err(Denial::new(
        Reason::Malformed,
        "tensors or parameters were sent where none are accepted",
    ))
}

/// The size of a file inside a body, if its model accepts it.
fn file_in_body(
    request: &InferRequest<'_>,
    content_types: &[alloc::string::String],
    max_bytes: usize,
) -> Result<u64, Denial> {
    let declared = request.body_type.as_deref().unwrap_or(OCTET_STREAM);
    if !content_types.iter().any(|accepted| accepted == declared) {
        let cause = format!("the model takes no file of type {}", quote(declared));
        return Err(Denial::new(Reason::UnsupportedMediaType, cause));
    }
    let bytes = request.body.map_or(0, <[u8]>::len);
    if bytes > max_bytes {
        let cause = format!("the file has {bytes} bytes, {max_bytes} are allowed");
        return Err(Denial::new(Reason::BodyTooLarge, cause));
    }
    Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
}

/// A raw body for a handler: no tensors, and a file of an allowed type and size.
fn raw_body(media: Option<&Media>, request: &InferRequest<'_>) -> Result<(), Denial> {
    no_content(request)?;
    let Some(Media(rule)) = media else {
        return Ok(());
    };
    let file = request
        .body
        .ok_or_else(|| Denial::new(Reason::Overloaded, "internal: a raw body was not checked"))?;
    rule.check(file).map_err(|cause| {
        Denial::with_field(Reason::OutOfRange, "body", cause).expecting(Some(rule.expected()))
    })
}

/// Denies, unless the reason is in shadow. Then the first denial of each reason is recorded.
pub(super) fn deny_or_note(
    shadow: Shadow,
    noted: &mut Vec<Denial>,
    denial: Denial,
) -> Result<(), Denial> {
    if !shadow.lets_pass(denial.reason) {
        return Err(denial);
    }
    note(noted, denial);
    Ok(())
}
