//! Responses in TF Serving's form: JSON by row or by column, `PredictResponse`, signature and
//! status. TorchServe's JSON is the same, by row or as a whole.

use core::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tensorgate_policy::contract::{MAX_RANK, TensorRule};
use tensorgate_policy::tensor::{InferResponse, items};
use tensorgate_policy::{Datatype, Tensor};

use super::{AnswerForm, Unencodable, dims, list, member, scalar, string, whole};
use crate::grpc::protobuf::Message;
use crate::grpc::{list_of, number_of};
use crate::route::is_number;
use crate::signature;

/// String outputs with this suffix are bytes, written in base64.
const BYTES_SUFFIX: &str = "_bytes";
/// Method of a signature with named tensors.
const PREDICT: &str = "tensorflow/serving/predict";

/// How `BYTES` are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Texts {
    /// As text.
    Plain,
    /// In base64.
    Base64,
    /// In base64, in an object with a key.
    Tagged,
}

/// Elements of one output, row-major, during encoding.
pub(super) struct Elements<'a> {
    datatype: Datatype,
    rest: &'a [u8],
    texts: Texts,
}

impl<'a> Elements<'a> {
    /// Elements of a consistent output.
    pub(super) fn of(output: &'a Tensor<'_>, texts: Texts) -> Result<Self, Unencodable> {
        let (datatype, rest) = whole(output).ok_or(Unencodable::Tensor)?;
        Ok(Self {
            datatype,
            rest,
            texts,
        })
    }

    /// Takes the next element.
    fn take(&mut self) -> Option<&'a [u8]> {
        let size = match self.datatype.size_bytes() {
            Some(size) => size,
            None => items(self.rest).next()?.ok()?.len().checked_add(4)?,
        };
        let (element, rest) = self.rest.split_at_checked(size)?;
        self.rest = rest;
        Some(element)
    }

    /// Writes the next element.
    fn next(&mut self, json: &mut String) -> Result<(), Unencodable> {
        let element = self.take().ok_or(Unencodable::Tensor)?;
        if self.datatype == Datatype::Bytes && self.texts != Texts::Plain {
            let (before, after) = match self.texts {
                Texts::Tagged => ("{\"b64\":\"", "\"}"),
                Texts::Base64 | Texts::Plain => ("\"", "\""),
            };
            json.push_str(before);
            STANDARD.encode_string(element.get(4..).ok_or(Unencodable::Tensor)?, json);
            json.push_str(after);
            return Ok(());
        }
        scalar(json, self.datatype, element)
    }

    /// Writes a value with these dimensions, at most [`MAX_RANK`].
    pub(super) fn value(&mut self, json: &mut String, shape: &[i64]) -> Result<(), Unencodable> {
        let Some((dim, inner)) = shape.split_first() else {
            return self.next(json);
        };
        let mut written = Ok(());
        list(json, 0..*dim, |json, _| {
            if written.is_ok() {
                written = self.value(json, inner);
            }
        });
        written
    }
}

/// Elements of a tensor in nested lists. `None` if JSON cannot represent one, or if the tensor is
/// inconsistent.
pub(crate) fn lists(tensor: &Tensor<'_>) -> Option<String> {
    if tensor.shape.len() > MAX_RANK {
        return None;
    }
    let mut json = String::new();
    let mut elements = Elements::of(tensor, Texts::Plain).ok()?;
    elements.value(&mut json, &tensor.shape).ok()?;
    Some(json)
}

/// Member of a response by column.
pub(super) const OUTPUTS: &str = "outputs";

/// `{"predictions": …}` for a response by row. Otherwise the outputs as a whole, in a member with
/// this name or without one.
pub(super) fn infer_json(
    response: &InferResponse,
    form: &AnswerForm,
    member: Option<&str>,
) -> Result<Vec<u8>, Unencodable> {
    let outputs = &response.outputs;
    let rows = match form.by_column {
        true => None,
        false => Some(rows_in_common(outputs).ok_or(Unencodable::Rows)?),
    };
    document(outputs, rows, member)
}

/// Common number of rows; `None` if tensors differ.
fn rows_in_common(outputs: &[Tensor<'_>]) -> Option<i64> {
    let mut rows = outputs.iter().map(|output| output.shape.first().copied());
    let first = rows.next()??;
    rows.all(|rows| rows == Some(first)).then_some(first)
}

fn document(
    outputs: &[Tensor<'_>],
    rows: Option<i64>,
    member: Option<&str>,
) -> Result<Vec<u8>, Unencodable> {
    if outputs.is_empty() || outputs.iter().any(|output| output.shape.len() > MAX_RANK) {
        return Err(Unencodable::Tensor);
    }
    let mut elements = outputs
        .iter()
        .map(|output| {
            let tagged = output.name.ends_with(BYTES_SUFFIX);
            let texts = if tagged { Texts::Tagged } else { Texts::Plain };
            Elements::of(output, texts)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut json = String::new();
    let Some(rows) = rows else {
        let Some(member) = member else {
            named(&mut json, outputs, &mut elements, |shape| Some(shape))?;
            return Ok(json.into_bytes());
        };
        json.push('{');
        string(&mut json, member);
        json.push(':');
        named(&mut json, outputs, &mut elements, |shape| Some(shape))?;
        json.push('}');
        return Ok(json.into_bytes());
    };
    json.push_str("{\"predictions\":");
    let mut written = Ok(());
    list(&mut json, 0..rows, |json, _| {
        if written.is_ok() {
            written = named(json, outputs, &mut elements, |shape| shape.get(1..));
        }
    });
    written?;
    json.push('}');
    Ok(json.into_bytes())
}

/// Writes the next value of each output, with names if there are several.
fn named(
    json: &mut String,
    outputs: &[Tensor<'_>],
    elements: &mut [Elements<'_>],
    part: impl Fn(&[i64]) -> Option<&[i64]>,
) -> Result<(), Unencodable> {
    if let ([output], [elements]) = (outputs, &mut *elements) {
        return elements.value(json, part(&output.shape).ok_or(Unencodable::Tensor)?);
    }
    for (index, (output, elements)) in outputs.iter().zip(elements).enumerate() {
        json.push(if index == 0 { '{' } else { ',' });
        string(json, &output.name);
        json.push(':');
        elements.value(json, part(&output.shape).ok_or(Unencodable::Tensor)?)?;
    }
    json.push('}');
    Ok(())
}

/// Maximum JSON overhead of an output: every opened list, and its name in every row.
pub(super) fn json_overhead(output: &Tensor<'_>) -> usize {
    /// Brackets and a comma.
    const LIST_BYTES: usize = 3;
    /// Quotes, a colon, a comma, a brace; a character of a name may take six in JSON.
    const NAME_BYTES: usize = 5;
    let mut lists = 1_usize;
    let mut total = 0_usize;
    for dim in &output.shape {
        total = total.saturating_add(lists);
        lists = lists.saturating_mul(usize::try_from(*dim).unwrap_or(usize::MAX));
    }
    let rows = output.shape.first().copied().unwrap_or(1);
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    let name = output
        .name
        .len()
        .saturating_mul(6)
        .saturating_add(NAME_BYTES);
    total
        .saturating_mul(LIST_BYTES)
        .saturating_add(rows.saturating_mul(name))
}

/// A `PredictResponse` with typed lists, TF Serving's default.
pub(super) fn infer_message(response: &InferResponse, form: &AnswerForm) -> Option<Message> {
    let mut message = Message::default();
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
    let (datatype, data) = whole(output)?;
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
mod tests;
