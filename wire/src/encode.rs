//! Responses of the sandbox host in each protocol: inference, metadata, readiness and server-level
//! requests. They are built from the contract and validated tensors, and reveal nothing about the
//! backend.

mod answer_form;
mod elements;
mod model_config;
pub(crate) mod nested_lists;
mod output_document;
pub mod statistics;
mod stream;
pub(crate) mod template;
pub(crate) mod tf_serving;
mod torchserve;

use core::fmt::Debug;

use tensorgate_policy::contract::{DimRule, TensorRule};
use tensorgate_policy::request::{Protocol, ServerQuery};
use tensorgate_policy::tensor::{InferResponse, items};
use tensorgate_policy::{Datatype, Tensor};

use crate::grpc::writer::Message;
use crate::json_text::{list, member, string};
use crate::raw_contents::check_blob;
pub use answer_form::AnswerForm;
use elements::write;
pub use model_config::model_config;
pub use stream::{FINAL_RESPONSE, stream_answer, stream_end, stream_refusal};

/// Name of server and platform. There is no version, which would only help attackers.
const NAME: &str = "tensorgate";

/// An encoded inference response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The body.
    pub body: Vec<u8>,
    /// Bytes of JSON before binary data: `inference-header-content-length`.
    pub json_bytes: Option<usize>,
}

/// Why a response cannot be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unencodable {
    /// It was requested by row, but its outputs have different numbers of rows.
    Rows,
    /// JSON cannot represent an element: a non-finite or 16-bit float, or bytes that are not text.
    Value,
    /// A tensor's data disagrees with its datatype or shape.
    Tensor,
}

/// Encodes an inference response: OIP's JSON with binary outputs after it, or TF Serving's and
/// TorchServe's JSON, by row or as a whole; for gRPC one frame with raw contents, typed lists or
/// JSON.
///
/// # Errors
/// The protocol cannot represent it.
pub fn infer_response(
    protocol: Protocol,
    response: &InferResponse,
    form: &AnswerForm,
) -> Result<Encoded, Unencodable> {
    let body = match protocol {
        Protocol::OipRest => return infer_json(response, form),
        Protocol::OipGrpc => infer_message(response).and_then(Message::into_frame),
        Protocol::TfRest => Some(tf_serving::infer_json(response, form)?),
        Protocol::TfGrpc => tf_serving::infer_message(response, form).and_then(Message::into_frame),
        Protocol::TorchRest => Some(torchserve::infer_json(response, form)?),
        Protocol::TorchGrpc => torchserve::infer_message(response, form)?.into_frame(),
        Protocol::Json => Some(template::infer_json(response, form)?),
        Protocol::OpenAi => None,
    };
    Ok(Encoded {
        body: body.ok_or(Unencodable::Tensor)?,
        json_bytes: None,
    })
}

/// Maximum characters of JSON per byte of raw data: `false,` for a BOOL, `\u0001` in a string.
const JSON_GROWTH: usize = 6;
/// Size of names, dimensions and framing of all outputs.
const OVERHEAD_BYTES: usize = 16 << 10;

/// Maximum size of an encoded inference response, for reserving memory.
pub fn most_bytes(protocol: Protocol, response: &InferResponse, form: &AnswerForm) -> usize {
    response.outputs.iter().fold(OVERHEAD_BYTES, |sum, output| {
        let (growth, beside) = match protocol {
            Protocol::OipRest if !form.wants(&output.name) => (JSON_GROWTH, 0),
            Protocol::OipRest | Protocol::OipGrpc => (1, 0),
            Protocol::TfRest | Protocol::TorchRest | Protocol::TorchGrpc => {
                (JSON_GROWTH, nested_lists::json_overhead(output))
            }
            Protocol::Json => {
                let places = form
                    .template
                    .as_deref()
                    .map_or(&[][..], |template| template.outputs());
                (0, template::most_bytes(output, places))
            }
            Protocol::TfGrpc => (tf_serving::LIST_GROWTH, 0),
            // It has no tensors.
            Protocol::OpenAi => (1, 0),
        };
        let bytes = output.data.as_ref().map_or(0, |data| data.len());
        sum.saturating_add(bytes.saturating_mul(growth))
            .saturating_add(beside)
    })
}

/// Metadata of a model from its contract; `-1` for a variable dimension. Inputs are empty for a raw
/// body.
pub fn model_metadata(
    protocol: Protocol,
    model: &str,
    versions: &[String],
    inputs: &[TensorRule],
    outputs: &[TensorRule],
) -> Vec<u8> {
    let version = versions.first().map_or("", String::as_str);
    match protocol {
        Protocol::TfRest => tf_serving::metadata_json(model, version, inputs, outputs).into_bytes(),
        Protocol::TfGrpc => small_frame(tf_serving::metadata_message(
            model, version, inputs, outputs,
        )),
        Protocol::OpenAi => crate::openai::model(model),
        // TorchServe's protocols and JSON templates have no such request.
        Protocol::OipRest | Protocol::TorchRest | Protocol::Json => {
            let mut json = String::from("{");
            member(&mut json, "name", model);
            json.push_str(",\"versions\":");
            list(&mut json, versions, |json, version| string(json, version));
            json.push(',');
            member(&mut json, "platform", NAME);
            for (key, rules) in [("inputs", inputs), ("outputs", outputs)] {
                json.push(',');
                string(&mut json, key);
                json.push(':');
                list(&mut json, rules, |json, rule| {
                    json.push('{');
                    member(json, "name", rule.name());
                    json.push(',');
                    member(json, "datatype", rule.datatype().name());
                    json.push_str(",\"shape\":");
                    list(json, dims(rule), |json, dim| {
                        json.push_str(&dim.to_string())
                    });
                    json.push('}');
                });
            }
            json.push('}');
            json.into_bytes()
        }
        Protocol::OipGrpc | Protocol::TorchGrpc => {
            let mut message = Message::default().bytes(1, model);
            for version in versions {
                message = message.element(2, version);
            }
            message = message.bytes(3, NAME);
            for (field, rules) in [(4, inputs), (5, outputs)] {
                for rule in rules {
                    let tensor = Message::default()
                        .bytes(1, rule.name())
                        .bytes(2, rule.datatype().name());
                    message = message
                        .message(field, tensor.packed(3, dims(rule).map(i64::cast_unsigned)));
                }
            }
            small_frame(message)
        }
    }
}

/// Readiness of a version of a model.
pub fn model_ready(protocol: Protocol, model: &str, version: &str, ready: bool) -> Vec<u8> {
    match protocol {
        Protocol::TfRest => tf_serving::status_json(version, ready).into_bytes(),
        Protocol::TfGrpc => small_frame(tf_serving::status_message(version, ready)),
        Protocol::OipRest | Protocol::OpenAi | Protocol::TorchRest | Protocol::Json => {
            let mut json = String::from("{");
            member(&mut json, "name", model);
            json.push_str(if ready {
                ",\"ready\":true}"
            } else {
                ",\"ready\":false}"
            });
            json.into_bytes()
        }
        Protocol::OipGrpc | Protocol::TorchGrpc => {
            small_frame(Message::default().varint(1, u64::from(ready)))
        }
    }
}

/// grpc.health.v1's `SERVING`.
const SERVING: u64 = 1;
/// grpc.health.v1's `NOT_SERVING`.
const NOT_SERVING: u64 = 2;

/// The response to a server-level request; `yes` is liveness or readiness. REST has no route to
/// [`ServerQuery::Health`]. TF Serving's protocols have none of these routes, OpenAI's only
/// [`ServerQuery::Models`], TorchServe's only [`ServerQuery::Ready`].
pub fn server_answer(protocol: Protocol, question: ServerQuery, yes: bool) -> Vec<u8> {
    match (protocol, question) {
        (Protocol::TorchRest, _) => return torchserve::health(yes).into_bytes(),
        (Protocol::TorchGrpc, _) => {
            return small_frame(Message::default().bytes(1, torchserve::health(yes)));
        }
        _ => {}
    }
    match (protocol.is_grpc(), question) {
        (false, ServerQuery::Live) => format!("{{\"live\":{yes}}}").into_bytes(),
        (false, ServerQuery::Ready | ServerQuery::Health) => {
            format!("{{\"ready\":{yes}}}").into_bytes()
        }
        (false, ServerQuery::Metadata) => {
            let mut json = String::from("{");
            member(&mut json, "name", NAME);
            // The protocol requires all three.
            json.push_str(",\"version\":\"\",\"extensions\":[]}");
            json.into_bytes()
        }
        (true, ServerQuery::Live | ServerQuery::Ready) => {
            small_frame(Message::default().varint(1, u64::from(yes)))
        }
        (true, ServerQuery::Health) => {
            small_frame(Message::default().varint(1, if yes { SERVING } else { NOT_SERVING }))
        }
        // Answered elsewhere, because the caller must be known.
        (_, ServerQuery::Models) => crate::openai::models([]),
        (true, ServerQuery::Metadata) => small_frame(Message::default().bytes(1, NAME)),
    }
}

fn dims(rule: &TensorRule) -> impl Iterator<Item = i64> {
    dims_of(rule.shape())
}

/// Dimensions as metadata has them: `-1` for a variable one.
fn dims_of(shape: &[DimRule]) -> impl Iterator<Item = i64> {
    shape.iter().map(|dim| {
        dim.fixed()
            .and_then(|size| i64::try_from(size).ok())
            .unwrap_or(-1)
    })
}

/// One gRPC frame; `None` beyond 4 GiB.
fn frame(message: Message) -> Option<Vec<u8>> {
    let message = message.into_bytes();
    let length = u32::try_from(message.len()).ok()?;
    let mut frame = Vec::with_capacity(message.len().saturating_add(5));
    frame.push(0);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&message);
    Some(frame)
}

/// One gRPC frame of a small message. An empty body would not be a frame, which clients treat as a
/// failure.
fn small_frame(message: Message) -> Vec<u8> {
    frame(message).unwrap_or_default()
}

/// Datatype and data of a tensor, if they agree with its shape.
pub(crate) fn consistent_data<'a>(tensor: &'a Tensor<'_>) -> Option<(Datatype, &'a [u8])> {
    let datatype = Datatype::from_name(&tensor.datatype)?;
    let data: &[u8] = tensor.data.as_deref().ok()?;
    let elements = tensor.shape.iter().try_fold(1_usize, |product, dim| {
        product.checked_mul(usize::try_from(*dim).ok()?)
    })?;
    check_blob(Some(datatype), data).ok()?;
    let agrees = match datatype.size_bytes() {
        Some(size_bytes) => elements.checked_mul(size_bytes) == Some(data.len()),
        None => items(data).count() == elements,
    };
    agrees.then_some((datatype, data))
}

fn infer_message(response: &InferResponse) -> Option<Message> {
    let mut message = Message::in_frame()
        .bytes(1, &response.model)
        .bytes(2, &response.version)
        .bytes(3, response.id.as_deref().unwrap_or_default());
    for tensor in &response.outputs {
        let (datatype, _) = consistent_data(tensor)?;
        let output = Message::default()
            .bytes(1, &*tensor.name)
            .bytes(2, datatype.name());
        message = message.message(
            5,
            output.packed(3, tensor.shape.iter().map(|dim| dim.cast_unsigned())),
        );
    }
    for tensor in &response.outputs {
        message = message.element(6, tensor.data.as_deref().ok()?);
    }
    Some(message)
}

fn infer_json(response: &InferResponse, form: &AnswerForm) -> Result<Encoded, Unencodable> {
    let mut json = String::from("{");
    member(&mut json, "model_name", &response.model);
    json.push(',');
    member(&mut json, "model_version", &response.version);
    if let Some(id) = &response.id {
        json.push(',');
        member(&mut json, "id", id);
    }
    json.push_str(",\"outputs\":");
    let mut carried = Ok(());
    let mut blobs: Vec<&[u8]> = Vec::new();
    list(&mut json, &response.outputs, |json, tensor| {
        if carried.is_ok() {
            carried = output(json, tensor, form, &mut blobs);
        }
    });
    json.push('}');
    carried?;
    let mut body = json.into_bytes();
    let json_bytes = (!blobs.is_empty()).then_some(body.len());
    body.reserve_exact(blobs.iter().map(|blob| blob.len()).sum());
    for blob in blobs {
        body.extend_from_slice(blob);
    }
    Ok(Encoded { body, json_bytes })
}

fn output<'a>(
    json: &mut String,
    tensor: &'a Tensor<'_>,
    form: &AnswerForm,
    blobs: &mut Vec<&'a [u8]>,
) -> Result<(), Unencodable> {
    let (datatype, data) = consistent_data(tensor).ok_or(Unencodable::Tensor)?;
    json.push('{');
    member(json, "name", &tensor.name);
    json.push(',');
    member(json, "datatype", datatype.name());
    json.push_str(",\"shape\":");
    list(json, &tensor.shape, |json, dim| {
        json.push_str(&dim.to_string())
    });
    if form.wants(&tensor.name) {
        json.push_str(",\"parameters\":{\"binary_data_size\":");
        json.push_str(&data.len().to_string());
        json.push_str("}}");
        blobs.push(data);
        return Ok(());
    }
    json.push_str(",\"data\":");
    write(json, datatype, data)?;
    json.push('}');
    Ok(())
}

#[cfg(test)]
mod tests;
