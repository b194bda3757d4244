//! Decodes bodies by format. Names, parameters, datatypes and sizes are validated by the contract.

use tensorgate_policy::decision::{Addressee, BodyFormat, ReadBy};
use tensorgate_policy::request::ServerQuery;
use tensorgate_policy::{Denial, InferRequest};

use crate::fault::BodyFault;
use crate::raw_contents::Budget;
use crate::{grpc, json, multipart, torch};

/// The addressee that a body names, by a quick scan; `None` leaves it to [`decode`]. A document of
/// OpenAI's API is scanned completely, and `None` means that it names no model.
///
/// # Errors
/// A document that [`decode`] would reject too: `malformed`, `duplicate-key`, `too-deep`.
pub fn addressee(format: BodyFormat, body: &[u8]) -> Result<Option<Addressee<'_>>, Denial> {
    Ok(match format {
        BodyFormat::OipGrpcInfer | BodyFormat::OipGrpcModel | BodyFormat::TorchGrpc => {
            grpc::open(body).ok().and_then(grpc::addressee)
        }
        BodyFormat::TfGrpcPredict | BodyFormat::TfGrpcModel { .. } => {
            grpc::open(body).ok().and_then(grpc::addressee_in_spec)
        }
        BodyFormat::OpenAi(_) => json::named(body)?,
        BodyFormat::OipJson
        | BodyFormat::OipBinary { .. }
        | BodyFormat::TfJson
        | BodyFormat::TorchJson
        | BodyFormat::TorchForm(_)
        | BodyFormat::Template
        | BodyFormat::Raw
        | BodyFormat::Empty => None,
    })
}

/// Decodes a whole body. Denials are `malformed`, `duplicate-key`, `too-deep` or
/// `unsupported-encoding` (gRPC's compressed flag), with the caller's field if there is one.
/// [`BodyFormat::Raw`] gives a request with only the body.
///
/// `by` comes from the model ([`tensorgate_policy::Decision::read_by`]): TF Serving's JSON,
/// TorchServe's formats and JSON templates contain no datatypes and use the contract's.
///
/// # Errors
/// The body does not have its format: the reason, with the caller's field.
pub fn decode<'a, 'p>(
    format: BodyFormat,
    body: &'a [u8],
    by: impl Into<ReadBy<'p>>,
) -> Result<InferRequest<'a>, Denial> {
    Ok(read(format, body, by.into())?)
}

/// Checks the body of a gRPC request about the server: one message without fields, or with the name
/// of a service for a health check. A request that ends with its headers has no body. Nothing reads
/// the message, so a compressed one is not expanded.
///
/// # Errors
/// `malformed` or `duplicate-key`.
pub fn check_server_query(question: ServerQuery, body: &[u8]) -> Result<(), Denial> {
    if body.is_empty() {
        return Ok(());
    }
    if grpc::compressed(body)?.is_some() {
        return Ok(());
    }
    let message = grpc::open(body)?;
    Ok(grpc::server_query(question, message)?)
}

fn read<'a>(
    format: BodyFormat,
    body: &'a [u8],
    by: ReadBy<'_>,
) -> Result<InferRequest<'a>, BodyFault> {
    let rules = by.inputs;
    match format {
        BodyFormat::OipJson => json::infer(body, if by.only_checks { rules } else { &[] }),
        BodyFormat::OipBinary { json_bytes } => json::infer_binary(body, json_bytes),
        BodyFormat::OipGrpcInfer => grpc::open(body).and_then(grpc::infer),
        BodyFormat::OipGrpcModel => grpc::open(body).and_then(grpc::model),
        BodyFormat::TfJson => json::predict(body, rules),
        BodyFormat::OpenAi(_) => json::document(body),
        BodyFormat::TfGrpcPredict => grpc::open(body).and_then(grpc::predict),
        BodyFormat::TfGrpcModel { metadata } => {
            grpc::open(body).and_then(|message| grpc::question(message, metadata))
        }
        BodyFormat::TorchJson => {
            json::predictions(body, rules, &mut Budget::new()).map(|(inputs, by_column)| {
                InferRequest {
                    inputs,
                    by_column,
                    ..InferRequest::default()
                }
            })
        }
        BodyFormat::TorchForm(boundary) => {
            multipart::parts(body, &boundary).and_then(|parts| torch::request(parts, rules))
        }
        BodyFormat::TorchGrpc => {
            grpc::open(body).and_then(|message| grpc::predictions(message, rules))
        }
        BodyFormat::Template => match by.template {
            Some(template) => json::template(body, template, rules),
            None => Err(BodyFault::Form {
                what: "the model has no template",
                at: 0,
            }),
        },
        BodyFormat::Raw => Ok(InferRequest {
            body: Some(body),
            by_column: true,
            ..InferRequest::default()
        }),
        BodyFormat::Empty if body.is_empty() => Ok(InferRequest::default()),
        BodyFormat::Empty => Err(BodyFault::Form {
            what: "a body was sent where none is allowed",
            at: 0,
        }),
    }
}
