//! Decodes TensorFlow's `TensorProto`. Elements are in `tensor_content` or in one typed list.
//! TensorFlow fills a short list with its last element; here that is rejected as a wrong size.

use std::borrow::Cow;

use tensorgate_policy::contract::MAX_RANK;
use tensorgate_policy::tensor::DataFault;
use tensorgate_policy::{Datatype, Tensor};

use super::contents::{Contents, Kind, Layout};
use super::protobuf::{FieldRef, Value, read};
use super::request::push;
use crate::fault::BodyFault;
use crate::raw_contents::{Budget, check_blob};

/// Its typed lists. Complex numbers, resources, variants and 8-bit floats are unknown fields,
/// because no contract has such a datatype.
static TENSOR_PROTO: Layout = Layout {
    message: "TensorProto",
    kind: |field| match field {
        5 => Some(Kind::Fixed32),
        6 => Some(Kind::Fixed64),
        7 | 10 | 13 | 16 | 17 => Some(Kind::Varints),
        8 => Some(Kind::Items),
        11 => Some(Kind::Flags),
        _ => None,
    },
    field: |datatype| {
        Some(match datatype {
            Datatype::Fp32 => 5,
            Datatype::Fp64 => 6,
            Datatype::Int8
            | Datatype::Int16
            | Datatype::Int32
            | Datatype::Uint8
            | Datatype::Uint16 => 7,
            Datatype::Bytes => 8,
            Datatype::Int64 => 10,
            Datatype::Bool => 11,
            Datatype::Fp16 | Datatype::Bf16 => 13,
            Datatype::Uint32 => 16,
            Datatype::Uint64 => 17,
        })
    },
};

/// The typed list of a datatype in responses.
pub(crate) fn list_of(datatype: Datatype) -> u32 {
    (TENSOR_PROTO.field)(datatype).unwrap_or_default()
}

/// `tensorflow.DataType` of a datatype.
pub(crate) const fn number_of(datatype: Datatype) -> u64 {
    match datatype {
        Datatype::Fp32 => 1,
        Datatype::Fp64 => 2,
        Datatype::Int32 => 3,
        Datatype::Uint8 => 4,
        Datatype::Int16 => 5,
        Datatype::Int8 => 6,
        Datatype::Bytes => 7,
        Datatype::Int64 => 9,
        Datatype::Bool => 10,
        Datatype::Bf16 => 14,
        Datatype::Uint16 => 17,
        Datatype::Fp16 => 19,
        Datatype::Uint32 => 22,
        Datatype::Uint64 => 23,
    }
}

/// Fields of a tensor's message.
struct Proto<'a> {
    /// Its `tensorflow.DataType` number.
    datatype: u64,
    shape: Vec<i64>,
    content: Option<&'a [u8]>,
    lists: Contents<'a>,
}

/// Reads the tensor with a name; `None` if the map entry has no value.
pub(super) fn tensor<'a>(
    name: &'a str,
    message: Option<&'a [u8]>,
    budget: &mut Budget,
) -> Result<Tensor<'a>, BodyFault> {
    let Some(message) = message else {
        return Ok(Tensor {
            name: Cow::Borrowed(name),
            datatype: Cow::Borrowed(""),
            shape: Vec::new(),
            parameters: Vec::new(),
            data: Err(DataFault::Missing),
        });
    };
    let Proto {
        datatype,
        shape,
        content,
        lists,
    } = proto(message)?;
    let known = Datatype::ALL
        .into_iter()
        .find(|known| number_of(*known) == datatype);
    let data = match content {
        Some(_) if !lists.is_empty() => {
            return Err(BodyFault::field(
                "tensor_content",
                "comes beside a typed list",
            ));
        }
        // TensorFlow's own framing of strings, which no client uses.
        Some(_) if known == Some(Datatype::Bytes) => Err(DataFault::Kind { index: 0 }),
        Some(content) => check_blob(known, content).map(|()| content.into()),
        None => lists.convert(known, budget)?,
    };
    let datatype = match known {
        Some(known) => Cow::Borrowed(known.name()),
        None => Cow::Owned(format!("DataType {datatype}")),
    };
    Ok(Tensor {
        name: Cow::Borrowed(name),
        datatype,
        shape,
        parameters: Vec::new(),
        data,
    })
}

fn proto(message: &[u8]) -> Result<Proto<'_>, BodyFault> {
    let (mut datatype, mut shape, mut version, mut content) = (None, None, None, None);
    let mut lists = Contents::none(&TENSOR_PROTO, message);
    read(TENSOR_PROTO.message, message, |field, value| {
        match field.number {
            1 => field.once(&mut datatype, field.varint(value)?),
            2 => field.once(&mut shape, self::shape(field.bytes(value)?)?),
            3 if field.varint(value)? == 0 => field.once(&mut version, ()),
            3 => Err(field.wrong("is an unknown version")),
            4 => field.once(&mut content, field.bytes(value)?),
            _ => lists.add(field, value),
        }
    })?;
    Ok(Proto {
        datatype: datatype.unwrap_or_default(),
        shape: shape.unwrap_or_default(),
        // proto3 does not distinguish empty and absent bytes.
        content: content.filter(|content| !content.is_empty()),
        lists,
    })
}

/// Reads a `TensorShapeProto` without dimension names and with a known rank.
fn shape(message: &[u8]) -> Result<Vec<i64>, BodyFault> {
    let mut dims = Vec::new();
    let mut unknown_rank = None;
    read("TensorShapeProto", message, |field, value| {
        match field.number {
            2 => push(&mut dims, dim(field.bytes(value)?)?, "dims", MAX_RANK),
            3 if field.varint(value)? == 0 => field.once(&mut unknown_rank, ()),
            3 => Err(field.wrong("says that the rank is unknown")),
            _ => Err(field.unknown()),
        }
    })?;
    Ok(dims)
}

fn dim(message: &[u8]) -> Result<i64, BodyFault> {
    let (mut size, mut name) = (None, None);
    read(
        "TensorShapeProto.Dim",
        message,
        |field, value| match field.number {
            1 => field.once(&mut size, field.varint(value)?.cast_signed()),
            2 => field.once(&mut name, empty(field, value)?),
            _ => Err(field.unknown()),
        },
    )?;
    Ok(size.unwrap_or_default())
}

fn empty(field: FieldRef, value: Value<'_>) -> Result<(), BodyFault> {
    if field.bytes(value)?.is_empty() {
        Ok(())
    } else {
        Err(field.wrong("names a dim"))
    }
}
