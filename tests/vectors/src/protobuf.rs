//! The parts of protobuf and gRPC framing that the vectors need. Knows the field numbers of the
//! Open Inference Protocol. Shares no code with the decoder under test.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use crate::file::{Field, Frame, Grpc, Message, Special, Tensors, from_hex};
use crate::value;

/// How tensor data is encoded.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Typed contents, packed.
    Packed,
    /// Typed contents, one field per scalar.
    Unpacked,
    /// `raw_input_contents`.
    Raw,
}

pub(crate) const VARINT: u64 = 0;
pub(crate) const FIXED64: u64 = 1;
pub(crate) const LENGTH_DELIMITED: u64 = 2;
const GROUP_START: u64 = 3;
const GROUP_END: u64 = 4;
pub(crate) const FIXED32: u64 = 5;

/// A message with its frame header of five bytes.
pub(crate) fn frame(message: &[u8]) -> Result<Vec<u8>, String> {
    let length = u32::try_from(message.len()).map_err(|_| "message too long".to_owned())?;
    Ok(with_prefix(0, length, message))
}

/// The whole body of a request as the vector writes it.
pub(crate) fn grpc_body(grpc: &Grpc) -> Result<Vec<u8>, String> {
    match (&grpc.message, &grpc.frames, &grpc.body) {
        (Some(message), None, None) => frame(&encode(message)?),
        (None, Some(frames), None) => frames
            .iter()
            .map(one_frame)
            .collect::<Result<Vec<_>, _>>()
            .map(|frames| frames.concat()),
        (None, None, Some(body)) => body.bytes(),
        _ => Err("a gRPC request has exactly one of message, frames and body".into()),
    }
}

fn one_frame(frame: &Frame) -> Result<Vec<u8>, String> {
    let message = encode(&frame.message)?;
    let actual = u32::try_from(message.len()).map_err(|_| "message too long".to_owned())?;
    Ok(with_prefix(
        frame.flag,
        frame.length.unwrap_or(actual),
        &message,
    ))
}

fn with_prefix(flag: u8, length: u32, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &length.to_be_bytes(), message].concat()
}

/// A message as the vector writes it. Field 0 is no field: its bytes are copied as they are.
fn encode(message: &Message) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for (number, field) in message {
        match field {
            Field::Bytes(bytes) if *number == 0 => out.extend(bytes.bytes()?),
            Field::Bytes(bytes) => put_bytes(&mut out, *number, &bytes.bytes()?),
            Field::Varint(number_value) => {
                put_tag(&mut out, *number, VARINT);
                put_varint(&mut out, integer(number_value)?);
            }
            Field::Message(inner) => put_bytes(&mut out, *number, &encode(inner)?),
            Field::Special(Special::Fixed64(hex)) => {
                put_tag(&mut out, *number, FIXED64);
                out.extend(from_hex(hex)?);
            }
            Field::Special(Special::Fixed32(hex)) => {
                put_tag(&mut out, *number, FIXED32);
                out.extend(from_hex(hex)?);
            }
            Field::Special(Special::Group(inner)) => {
                put_tag(&mut out, *number, GROUP_START);
                out.extend(encode(inner)?);
                put_tag(&mut out, *number, GROUP_END);
            }
            Field::Special(Special::Packed(values)) => {
                let mut packed = Vec::new();
                for value in values {
                    put_varint(&mut packed, integer(value)?);
                }
                put_bytes(&mut out, *number, &packed);
            }
        }
    }
    Ok(out)
}

/// A `ModelInferRequest`.
pub(crate) fn infer_request(tensors: &Tensors, contents: Contents) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, tensors.model.as_bytes());
    if let Some(version) = &tensors.version {
        put_bytes(&mut out, 2, version.as_bytes());
    }
    if let Some(id) = &tensors.id {
        put_bytes(&mut out, 3, id.as_bytes());
    }
    put_parameters(&mut out, 4, &tensors.parameters)?;
    let mut raws = Vec::new();
    for input in &tensors.inputs {
        let mut tensor = Vec::new();
        put_bytes(&mut tensor, 1, input.name.as_bytes());
        put_bytes(&mut tensor, 2, input.datatype.as_bytes());
        let mut dims = Vec::new();
        input
            .shape
            .iter()
            .for_each(|dim| put_varint(&mut dims, dim.cast_unsigned()));
        put_bytes(&mut tensor, 3, &dims);
        put_parameters(&mut tensor, 4, &input.parameters)?;
        match (contents, &input.bytes) {
            (Contents::Raw, _) => raws.push(input.raw()?),
            (_, Some(_)) => {
                return Err("`bytes` can only travel as oip-grpc-raw: name the protocols".into());
            }
            (_, None) => put_bytes(
                &mut tensor,
                5,
                &typed(
                    &input.datatype,
                    &input.elements()?,
                    contents == Contents::Packed,
                )?,
            ),
        }
        put_bytes(&mut out, 5, &tensor);
    }
    for output in &tensors.outputs {
        let mut named = Vec::new();
        put_bytes(&mut named, 1, output.as_bytes());
        put_bytes(&mut out, 6, &named);
    }
    raws.iter().for_each(|raw| put_bytes(&mut out, 7, raw));
    Ok(out)
}

/// An `InferTensorContents`.
fn typed(datatype: &str, elements: &[Value], packed: bool) -> Result<Vec<u8>, String> {
    let (number, wire) = contents_field(datatype)?;
    lists(number, wire, datatype, elements, packed)
}

/// The field of typed contents that carries a datatype, and its wire type.
fn contents_field(datatype: &str) -> Result<(u32, u64), String> {
    Ok(match datatype {
        "BOOL" => (1, VARINT),
        "INT8" | "INT16" | "INT32" => (2, VARINT),
        "INT64" => (3, VARINT),
        "UINT8" | "UINT16" | "UINT32" => (4, VARINT),
        "UINT64" => (5, VARINT),
        "FP32" => (6, FIXED32),
        "FP64" => (7, FIXED64),
        "BYTES" => (8, LENGTH_DELIMITED),
        _ => {
            return Err(format!(
                "{datatype} has no typed contents: name the protocols"
            ));
        }
    })
}

/// Elements of a datatype in one field.
pub(crate) fn lists(
    number: u32,
    wire: u64,
    datatype: &str,
    elements: &[Value],
    packed: bool,
) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut together = Vec::new();
    for element in elements {
        let wrong = || {
            format!("{element} cannot be said in the contents of {datatype}: name the protocols")
        };
        let mut scalar = Vec::new();
        match (wire, datatype) {
            (VARINT, "BOOL") => {
                put_varint(&mut scalar, element.as_bool().ok_or_else(wrong)?.into())
            }
            (VARINT, "FP16" | "BF16") => {
                let bits = value::raw(datatype, element)?;
                let bits = <[u8; 2]>::try_from(bits).map_err(|_| wrong())?;
                put_varint(&mut scalar, u16::from_le_bytes(bits).into());
            }
            (VARINT, _) => put_varint(
                &mut scalar,
                element.as_number().map(integer).ok_or_else(wrong)??,
            ),
            (FIXED32, _) => {
                scalar.extend(value::single(value::float(element).ok_or_else(wrong)?).to_le_bytes())
            }
            (FIXED64, _) => scalar.extend(value::float(element).ok_or_else(wrong)?.to_le_bytes()),
            _ => scalar.extend(&*value::item(element).ok_or_else(wrong)?),
        }
        if wire == LENGTH_DELIMITED {
            put_bytes(&mut out, number, &scalar);
        } else if packed {
            together.extend(scalar);
        } else {
            put_tag(&mut out, number, wire);
            out.extend(scalar);
        }
    }
    if !together.is_empty() {
        put_bytes(&mut out, number, &together);
    }
    Ok(out)
}

/// A map of `InferParameter`: integers as `int64_param`, larger ones as `uint64_param`, others as
/// `double_param`.
fn put_parameters(
    out: &mut Vec<u8>,
    number: u32,
    parameters: &BTreeMap<String, Value>,
) -> Result<(), String> {
    for (name, scalar) in parameters {
        let mut parameter = Vec::new();
        match scalar {
            Value::Bool(flag) => {
                put_tag(&mut parameter, 1, VARINT);
                put_varint(&mut parameter, (*flag).into());
            }
            Value::String(text) => put_bytes(&mut parameter, 3, text.as_bytes()),
            Value::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
                (Some(_), ..) => {
                    put_tag(&mut parameter, 2, VARINT);
                    put_varint(&mut parameter, integer(n)?);
                }
                (None, Some(unsigned), _) => {
                    put_tag(&mut parameter, 5, VARINT);
                    put_varint(&mut parameter, unsigned);
                }
                (None, None, Some(double)) => {
                    put_tag(&mut parameter, 4, FIXED64);
                    parameter.extend(double.to_le_bytes());
                }
                _ => return Err(format!("parameter {name} is no number")),
            },
            _ => return Err(format!("parameter {name} is no scalar: use `http`")),
        }
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, name.as_bytes());
        put_bytes(&mut entry, 2, &parameter);
        put_bytes(out, number, &entry);
    }
    Ok(())
}

/// An integer as the 64 bits that a varint carries.
fn integer(number: &Number) -> Result<u64, String> {
    number
        .as_u64()
        .or_else(|| number.as_i64().map(i64::cast_unsigned))
        .ok_or_else(|| format!("{number} is no 64-bit integer"))
}

pub(crate) fn put_tag(out: &mut Vec<u8>, number: u32, wire: u64) {
    put_varint(out, (u64::from(number) << 3) | wire);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, LENGTH_DELIMITED);
    put_varint(out, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    out.extend_from_slice(bytes);
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        let [low, ..] = value.to_le_bytes();
        out.push(low | 0x80);
        value >>= 7;
    }
    let [low, ..] = value.to_le_bytes();
    out.push(low);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn varints_are_seven_bits_a_byte_least_first() {
        for (value, expected) in [
            (0, vec![0]),
            (127, vec![127]),
            (150, vec![0x96, 0x01]),
            (u64::MAX, [vec![0xff; 9], vec![1]].concat()),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, expected, "{value}");
        }
    }

    #[test]
    fn a_message_is_encoded_to_its_bytes() {
        let check = |written: &str, expected: &[u8]| {
            assert_eq!(
                encode(&serde_json::from_str(written).unwrap()).unwrap(),
                expected,
                "{written}"
            );
        };
        check(
            r#"[[1, "ab"], [3, 150]]"#,
            &[0x0a, 2, b'a', b'b', 0x18, 0x96, 0x01],
        );
        check(r#"[[5, [[1, "x"]]]]"#, &[0x2a, 3, 0x0a, 1, b'x']);
        check(
            r#"[[2, {"hex": "ff 00"}], [0, {"hex": "07"}]]"#,
            &[0x12, 2, 0xff, 0x00, 0x07],
        );
        check(
            r#"[[1, {"fixed32": "0000803f"}], [1, {"packed": [1, 300]}]]"#,
            &[0x0d, 0, 0, 0x80, 0x3f, 0x0a, 3, 1, 0xac, 0x02],
        );
        check(r#"[[1, {"group": [[2, 1]]}]]"#, &[0x0b, 0x10, 1, 0x0c]);
    }
}
