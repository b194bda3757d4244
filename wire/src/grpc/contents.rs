//! `InferTensorContents`, the typed form of a tensor's elements, to the raw form. A single packed run of floats is borrowed;
//! everything else is converted once, into memory that its count bounds.

use std::borrow::Cow;

use tensorgate_policy::Datatype;
use tensorgate_policy::tensor::DataFault;

use super::protobuf::{Place, Value, read, take_varint};
use crate::fault::BodyFault;
use crate::raw::{Budget, push_item};

const MESSAGE: &str = "InferTensorContents";

/// Typed contents: well-formed, all in one field, not yet held against a datatype.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Contents<'a> {
    bytes: &'a [u8],
    /// The field that holds the elements; 0 if none does.
    field: u32,
    elements: usize,
    /// The elements of the one packed run, if there is exactly one and nothing else.
    run: Option<&'a [u8]>,
}

impl<'a> Contents<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, BodyFault> {
        let mut contents = Self {
            bytes,
            ..Self::default()
        };
        let mut pieces = 0_usize;
        read(MESSAGE, bytes, |place, value| {
            if contents.field != 0 && contents.field != place.field {
                return Err(place.wrong("comes beside elements of another kind"));
            }
            contents.field = place.field;
            let (elements, run) = count(place, value)?;
            contents.elements = contents.elements.saturating_add(elements);
            contents.run = run;
            pieces = pieces.saturating_add(1);
            Ok(())
        })?;
        if pieces > 1 {
            contents.run = None;
        }
        Ok(contents)
    }

    /// The elements in raw form. The outer error is the request's, the inner one the values'.
    pub(super) fn convert(
        self,
        datatype: Option<Datatype>,
        budget: &mut Budget,
    ) -> Result<Result<Cow<'a, [u8]>, DataFault>, BodyFault> {
        let Some((datatype, field)) =
            datatype.and_then(|datatype| Some((datatype, field_of(datatype)?)))
        else {
            return Ok(Err(DataFault::Kind { index: 0 }));
        };
        if self.field == 0 {
            return Ok(Ok(Cow::Borrowed(&[])));
        }
        if self.field != field {
            return Ok(Err(DataFault::Kind { index: 0 }));
        }
        budget.take(self.elements)?;
        match datatype {
            Datatype::Bool => self.varints(|value| u8::try_from(value).ok().map(u8::to_le_bytes)),
            Datatype::Int8 => {
                self.varints(|value| i8::try_from(value.cast_signed()).ok().map(i8::to_le_bytes))
            }
            Datatype::Int16 => self.varints(|value| {
                i16::try_from(value.cast_signed())
                    .ok()
                    .map(i16::to_le_bytes)
            }),
            Datatype::Int32 => self.varints(|value| {
                i32::try_from(value.cast_signed())
                    .ok()
                    .map(i32::to_le_bytes)
            }),
            Datatype::Int64 | Datatype::Uint64 => self.varints(|value| Some(value.to_le_bytes())),
            Datatype::Uint8 => self.varints(|value| u8::try_from(value).ok().map(u8::to_le_bytes)),
            Datatype::Uint16 => {
                self.varints(|value| u16::try_from(value).ok().map(u16::to_le_bytes))
            }
            Datatype::Uint32 => {
                self.varints(|value| u32::try_from(value).ok().map(u32::to_le_bytes))
            }
            Datatype::Fp32 => self.fixed(4),
            Datatype::Fp64 => self.fixed(8),
            Datatype::Bytes => self.items(),
            Datatype::Fp16 | Datatype::Bf16 => Ok(Err(DataFault::Kind { index: 0 })),
        }
    }

    fn varints<const N: usize>(
        self,
        element: impl Fn(u64) -> Option<[u8; N]>,
    ) -> Result<Result<Cow<'a, [u8]>, DataFault>, BodyFault> {
        let mut raw = Vec::with_capacity(self.elements.saturating_mul(N));
        let mut overflow = None;
        let mut index = 0_usize;
        let mut push = |value| {
            match element(value) {
                Some(bytes) => raw.extend_from_slice(&bytes),
                None => {
                    overflow.get_or_insert(DataFault::Overflow { index });
                }
            }
            index = index.wrapping_add(1);
        };
        read(MESSAGE, self.bytes, |place, value| {
            match value {
                Value::Varint(value) => push(value),
                Value::Bytes(mut run) => {
                    while !run.is_empty() {
                        push(take_varint(&mut run).map_err(|what| place.wrong(what))?);
                    }
                }
                Value::Fixed32(_) | Value::Fixed64(_) => {
                    return Err(place.wrong("has another wire type"));
                }
            }
            Ok(())
        })?;
        Ok(overflow.map_or(Ok(Cow::Owned(raw)), Err))
    }

    /// Protobuf's fixed numbers are little-endian already.
    fn fixed(self, size_bytes: usize) -> Result<Result<Cow<'a, [u8]>, DataFault>, BodyFault> {
        if let Some(run) = self.run {
            return Ok(Ok(Cow::Borrowed(run)));
        }
        let mut raw = Vec::with_capacity(self.elements.saturating_mul(size_bytes));
        read(MESSAGE, self.bytes, |place, value| {
            match value {
                Value::Fixed32(bytes) => raw.extend_from_slice(&bytes),
                Value::Fixed64(bytes) => raw.extend_from_slice(&bytes),
                Value::Bytes(run) => raw.extend_from_slice(run),
                Value::Varint(_) => return Err(place.wrong("has another wire type")),
            }
            Ok(())
        })?;
        Ok(Ok(Cow::Owned(raw)))
    }

    fn items(self) -> Result<Result<Cow<'a, [u8]>, DataFault>, BodyFault> {
        // An item takes two bytes or more here and four bytes of length there.
        let mut raw = Vec::with_capacity(
            self.bytes
                .len()
                .saturating_add(self.elements.saturating_mul(2)),
        );
        read(MESSAGE, self.bytes, |place, value| {
            push_item(&mut raw, place.bytes(value)?).ok_or_else(|| place.wrong("is too long"))
        })?;
        Ok(Ok(Cow::Owned(raw)))
    }
}

/// The field that carries a datatype; `None` for those that only raw contents can carry.
const fn field_of(datatype: Datatype) -> Option<u32> {
    match datatype {
        Datatype::Bool => Some(1),
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => Some(2),
        Datatype::Int64 => Some(3),
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => Some(4),
        Datatype::Uint64 => Some(5),
        Datatype::Fp32 => Some(6),
        Datatype::Fp64 => Some(7),
        Datatype::Bytes => Some(8),
        Datatype::Fp16 | Datatype::Bf16 => None,
    }
}

/// Elements in one field, and its packed run if it is one. Checks all that does not depend on the datatype.
fn count(place: Place, value: Value<'_>) -> Result<(usize, Option<&[u8]>), BodyFault> {
    match (place.field, value) {
        (1, Value::Varint(flag)) if flag > 1 => Err(place.wrong("is neither 0 nor 1")),
        (1..=5, Value::Varint(_))
        | (6, Value::Fixed32(_))
        | (7, Value::Fixed64(_))
        | (8, Value::Bytes(_)) => Ok((1, None)),
        (1..=5, Value::Bytes(run)) => {
            let mut rest = run;
            let mut elements = 0_usize;
            while !rest.is_empty() {
                let value = take_varint(&mut rest).map_err(|what| place.wrong(what))?;
                if place.field == 1 && value > 1 {
                    return Err(place.wrong("is neither 0 nor 1"));
                }
                elements = elements.wrapping_add(1);
            }
            Ok((elements, Some(run)))
        }
        (6, Value::Bytes(run)) if run.len().is_multiple_of(4) => Ok((run.len() / 4, Some(run))),
        (7, Value::Bytes(run)) if run.len().is_multiple_of(8) => Ok((run.len() / 8, Some(run))),
        (6 | 7, Value::Bytes(_)) => Err(place.wrong("ends inside a number")),
        (1..=8, _) => Err(place.wrong("has another wire type")),
        _ => Err(place.unknown()),
    }
}
