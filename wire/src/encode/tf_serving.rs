//! Responses of TF Serving: JSON by row or by column, `PredictResponse`, signature and status.

use core::fmt::Write as _;

use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::tensor::{InferResponse, items};
use tensorgate_policy::{Datatype, Tensor};

use super::answer_form::AnswerForm;
use super::{Unencodable, consistent_data, dims, output_document};
use crate::grpc::writer::Message;
use crate::grpc::{list_of, number_of};
use crate::json_text::{list, member, string};
use crate::route::tf_serving::is_number;
use crate::signature;

/// Method of a signature with named tensors.
const PREDICT: &str = "tensorflow/serving/predict";
/// Member of a response by column.
const OUTPUTS: &str = "outputs";

/// `{"predictions": …}` for a response by row, `{"outputs": …}` for one by column.
pub(super) fn infer_json(
    response: &InferResponse,
    form: &AnswerForm,
) -> Result<Vec<u8>, Unencodable> {
    output_document::infer_json(response, form, Some(OUTPUTS))
}

/// A `PredictResponse` with typed lists, TF Serving's default.
pub(super) fn infer_message(response: &InferResponse, form: &AnswerForm) -> Option<Message> {
    let mut message = Message::in_frame();
    for output in &response.outputs {
        let entry = Message::default()
            .bytes(1, &*output.name)
            .message(2, tensor_proto(output)?);
        message = message.message(1, entry);
    }
    let signature = match form.signature.as_str() {
        "" => signature::DEFAULT,
        signature => signature,
    };
    Some(message.message(2, spec(&response.model, &response.version, signature)))
}

/// A `ModelSpec`.
pub(crate) fn spec(model: &str, version: &str, signature: &str) -> Message {
    let spec = Message::default().bytes(1, model);
    let spec = match number(version) {
        Some(number) => spec.message(2, Message::default().varint(1, number)),
        None => spec.bytes(4, version),
    };
    spec.bytes(3, signature)
}

/// A version as TF Serving's number.
fn number(version: &str) -> Option<u64> {
    let number: i64 = Some(version).filter(|text| is_number(text))?.parse().ok()?;
    u64::try_from(number).ok()
}

fn tensor_proto(output: &Tensor<'_>) -> Option<Message> {
    let (datatype, data) = consistent_data(output)?;
    let proto = Message::default()
        .varint(1, number_of(datatype))
        .message(2, shape_proto(output.shape.iter().copied()));
    let field = list_of(datatype);
    Some(match datatype {
        // The packed form equals the raw form.
        Datatype::Fp32 | Datatype::Fp64 | Datatype::Bool => proto.bytes(field, data),
        Datatype::Bytes => {
            let mut proto = proto;
            for item in items(data) {
                proto = proto.element(field, item.ok()?);
            }
            proto
        }
        Datatype::Uint8 => proto.packed(field, data.iter().map(|byte| u64::from(*byte))),
        Datatype::Int8 => packed(proto, field, data, |[byte]: [u8; 1]| {
            i64::from(i8::from_le_bytes([byte])).cast_unsigned()
        }),
        Datatype::Uint16 | Datatype::Fp16 | Datatype::Bf16 => packed(proto, field, data, |bytes| {
            u64::from(u16::from_le_bytes(bytes))
        }),
        Datatype::Int16 => packed(proto, field, data, |bytes| {
            i64::from(i16::from_le_bytes(bytes)).cast_unsigned()
        }),
        Datatype::Uint32 => packed(proto, field, data, |bytes| {
            u64::from(u32::from_le_bytes(bytes))
        }),
        Datatype::Int32 => packed(proto, field, data, |bytes| {
            i64::from(i32::from_le_bytes(bytes)).cast_unsigned()
        }),
        Datatype::Uint64 | Datatype::Int64 => packed(proto, field, data, u64::from_le_bytes),
    })
}

fn packed<const N: usize>(
    message: Message,
    field: u32,
    data: &[u8],
    value: impl Fn([u8; N]) -> u64,
) -> Message {
    let (elements, _) = data.as_chunks::<N>();
    message.packed(field, elements.iter().map(|element| value(*element)))
}

/// Maximum growth in typed lists: a negative INT8 is a varint of ten bytes.
pub(super) const LIST_GROWTH: usize = 10;

/// A `TensorShapeProto`.
pub(crate) fn shape_proto(dims: impl Iterator<Item = i64>) -> Message {
    dims.fold(Message::default(), |shape, dim| {
        shape.message(2, Message::default().varint(1, dim.cast_unsigned()))
    })
}

/// A `GetModelMetadataResponse` with the contract as the only signature.
pub(super) fn metadata_message(
    model: &str,
    version: &str,
    inputs: &[TensorRule],
    outputs: &[TensorRule],
) -> Message {
    let mut signature = Message::default();
    for (field, rules) in [(1, inputs), (2, outputs)] {
        for rule in rules {
            let info = Message::default()
                .bytes(1, rule.name())
                .varint(2, number_of(rule.datatype()))
                .message(3, shape_proto(dims(rule)));
            signature = signature.message(
                field,
                Message::default().bytes(1, rule.name()).message(2, info),
            );
        }
    }
    let signature = signature.bytes(3, PREDICT);
    let signatures = Message::default().message(
        1,
        Message::default()
            .bytes(1, signature::DEFAULT)
            .message(2, signature),
    );
    let any = Message::default()
        .bytes(1, "type.googleapis.com/tensorflow.serving.SignatureDefMap")
        .bytes(2, signatures.into_bytes());
    Message::default()
        .message(1, spec(model, version, ""))
        .message(
            2,
            Message::default().bytes(1, "signature_def").message(2, any),
        )
}

/// The same in JSON, with 64-bit integers as strings, as protobuf's JSON mapping requires.
pub(super) fn metadata_json(
    model: &str,
    version: &str,
    inputs: &[TensorRule],
    outputs: &[TensorRule],
) -> String {
    let mut json = String::from("{\"model_spec\":{");
    member(&mut json, "name", model);
    json.push_str(",\"signature_name\":\"\",");
    member(&mut json, "version", version);
    json.push_str("},\"metadata\":{\"signature_def\":{\"signature_def\":{");
    string(&mut json, signature::DEFAULT);
    json.push_str(":{");
    for (key, rules) in [("inputs", inputs), ("outputs", outputs)] {
        string(&mut json, key);
        json.push_str(":{");
        for (index, rule) in rules.iter().enumerate() {
            if index > 0 {
                json.push(',');
            }
            string(&mut json, rule.name());
            json.push_str(":{");
            member(&mut json, "dtype", name_of(rule.datatype()));
            json.push_str(",\"tensor_shape\":{\"dim\":");
            list(&mut json, dims(rule), |json, dim| {
                // Writing to a String does not fail.
                let _ = write!(json, "{{\"size\":\"{dim}\",\"name\":\"\"}}");
            });
            json.push_str(",\"unknown_rank\":false},");
            member(&mut json, "name", rule.name());
            json.push('}');
        }
        json.push_str("},");
    }
    member(&mut json, "method_name", PREDICT);
    json.push_str("}}}}}");
    json
}

/// TensorFlow's name of a datatype.
const fn name_of(datatype: Datatype) -> &'static str {
    match datatype {
        Datatype::Bool => "DT_BOOL",
        Datatype::Uint8 => "DT_UINT8",
        Datatype::Uint16 => "DT_UINT16",
        Datatype::Uint32 => "DT_UINT32",
        Datatype::Uint64 => "DT_UINT64",
        Datatype::Int8 => "DT_INT8",
        Datatype::Int16 => "DT_INT16",
        Datatype::Int32 => "DT_INT32",
        Datatype::Int64 => "DT_INT64",
        Datatype::Fp16 => "DT_HALF",
        Datatype::Bf16 => "DT_BFLOAT16",
        Datatype::Fp32 => "DT_FLOAT",
        Datatype::Fp64 => "DT_DOUBLE",
        Datatype::Bytes => "DT_STRING",
    }
}

/// A `GetModelStatusResponse` about one version.
pub(super) fn status_message(version: &str, ready: bool) -> Message {
    /// `ModelVersionStatus.State`.
    const LOADING: u64 = 20;
    const AVAILABLE: u64 = 30;
    Message::default().message(
        1,
        Message::default()
            .varint(1, number(version).unwrap_or_default())
            .varint(2, if ready { AVAILABLE } else { LOADING })
            .message(3, Message::default()),
    )
}

/// The same in JSON.
pub(super) fn status_json(version: &str, ready: bool) -> String {
    let mut json = String::from("{\"model_version_status\":[{");
    member(&mut json, "version", version);
    json.push(',');
    member(
        &mut json,
        "state",
        if ready { "AVAILABLE" } else { "LOADING" },
    );
    json.push_str(",\"status\":{\"error_code\":\"OK\",\"error_message\":\"\"}}]}");
    json
}

#[cfg(test)]
mod tests {
    //! `wire/tests/it/tf_prost.rs` reads the messages with prost.

    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::{Value, json};
    use tensorgate_policy::request::Protocol;

    use super::super::model_ready;

    #[test]
    fn a_version_has_a_status() {
        for (ready, state) in [(true, "AVAILABLE"), (false, "LOADING")] {
            let body = model_ready(Protocol::TfRest, "m", "7", ready);
            assert_eq!(
                serde_json::from_slice::<Value>(&body).unwrap(),
                json!({"model_version_status": [
                    {"version": "7", "state": state, "status": {"error_code": "OK", "error_message": ""}}
                ]})
            );
        }
    }
}
