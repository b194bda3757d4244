//! Converts protobuf's typed lists to raw form. A single packed run of floats is borrowed;
//! everything else is converted once, into memory that its count limits.

use tensorgate_policy::Datatype;
use tensorgate_policy::tensor::DataFault;
use tensorgate_policy::tensor_data::TensorData;

use super::protobuf::{FieldRef, Value, read, take_varint};
use crate::fault::BodyFault;
use crate::raw_contents::{Budget, push_item};

/// Which fields of a message contain elements.
#[derive(Debug)]
pub(super) struct Layout {
    /// Name of the message.
    pub(super) message: &'static str,
    /// Encoding of a field's elements; `None` for other fields.
    pub(super) kind: fn(u32) -> Option<Kind>,
    /// Field of a datatype; `None` for those that need raw form.
    pub(super) field: fn(Datatype) -> Option<u32>,
}

/// Encoding of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Varints that are 0 or 1.
    Flags,
    /// Varints.
    Varints,
    /// Four bytes each.
    Fixed32,
    /// Eight bytes each.
    Fixed64,
    /// Length-delimited, never packed.
    Items,
}

/// Typed contents in a single field, well-formed but not matched with a datatype yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contents<'a> {
    layout: &'static Layout,
    bytes: &'a [u8],
    /// The field with the elements; 0 if there is none.
    field: u32,
    elements: usize,
    /// The single packed run, if there is nothing else.
    run: Option<&'a [u8]>,
}

impl<'a> Contents<'a> {
    /// Empty contents of a message with these bytes.
    pub(super) const fn none(layout: &'static Layout, bytes: &'a [u8]) -> Self {
        Self {
            layout,
            bytes,
            field: 0,
            elements: 0,
            run: None,
        }
    }

    /// Contents of a message without other fields.
    pub(super) fn read(layout: &'static Layout, bytes: &'a [u8]) -> Result<Self, BodyFault> {
        let mut contents = Self::none(layout, bytes);
        read(layout.message, bytes, |field, value| {
            contents.add(field, value)
        })?;
        Ok(contents)
    }

    /// Adds a field of the message.
    pub(super) fn add(&mut self, field: FieldRef, value: Value<'a>) -> Result<(), BodyFault> {
        let kind = (self.layout.kind)(field.number).ok_or_else(|| field.unknown())?;
        let first = self.field == 0;
        if !first && self.field != field.number {
            return Err(field.wrong("cannot be combined with elements of another kind"));
        }
        self.field = field.number;
        let (elements, run) = count(field, kind, value)?;
        self.elements = self.elements.saturating_add(elements);
        self.run = run.filter(|_| first);
        Ok(())
    }

    /// Whether there is no field with elements.
    pub(super) const fn is_empty(&self) -> bool {
        self.field == 0
    }

    /// Elements in raw form. The outer error concerns the request, the inner one the values.
    pub(super) fn convert(
        self,
        datatype: Option<Datatype>,
        budget: &mut Budget,
    ) -> Result<Result<TensorData<'a>, DataFault>, BodyFault> {
        let Some((datatype, field)) =
            datatype.and_then(|datatype| Some((datatype, (self.layout.field)(datatype)?)))
        else {
            return Ok(Err(DataFault::Kind { index: 0 }));
        };
        if self.field == 0 {
            return Ok(Ok(TensorData::default()));
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
            // Half floats are sent as the integer of their bits.
            Datatype::Uint16 | Datatype::Fp16 | Datatype::Bf16 => {
                self.varints(|value| u16::try_from(value).ok().map(u16::to_le_bytes))
            }
            Datatype::Uint32 => {
                self.varints(|value| u32::try_from(value).ok().map(u32::to_le_bytes))
            }
            Datatype::Fp32 => self.fixed(4),
            Datatype::Fp64 => self.fixed(8),
            Datatype::Bytes => self.items(),
        }
    }

    /// Passes every field with elements to a callback.
    fn each(
        self,
        mut element: impl FnMut(FieldRef, Value<'a>) -> Result<(), BodyFault>,
    ) -> Result<(), BodyFault> {
        read(self.layout.message, self.bytes, |field, value| {
            if field.number == self.field {
                element(field, value)
            } else {
                Ok(())
            }
        })
    }

    fn varints<const N: usize>(
        self,
        element: impl Fn(u64) -> Option<[u8; N]>,
    ) -> Result<Result<TensorData<'a>, DataFault>, BodyFault> {
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
        self.each(|field, value| {
            match value {
                Value::Varint(value) => push(value),
                Value::Bytes(mut run) => {
                    while !run.is_empty() {
                        push(take_varint(&mut run).map_err(|what| field.wrong(what))?);
                    }
                }
                Value::Fixed32(_) | Value::Fixed64(_) => {
                    return Err(field.wrong("has another wire type"));
                }
            }
            Ok(())
        })?;
        Ok(overflow.map_or(Ok(raw.into()), Err))
    }

    /// Protobuf's fixed numbers are little-endian already.
    fn fixed(self, size_bytes: usize) -> Result<Result<TensorData<'a>, DataFault>, BodyFault> {
        if let Some(run) = self.run {
            return Ok(Ok(run.into()));
        }
        let mut raw = Vec::with_capacity(self.elements.saturating_mul(size_bytes));
        self.each(|field, value| {
            match value {
                Value::Fixed32(bytes) => raw.extend_from_slice(&bytes),
                Value::Fixed64(bytes) => raw.extend_from_slice(&bytes),
                Value::Bytes(run) => raw.extend_from_slice(run),
                Value::Varint(_) => return Err(field.wrong("has another wire type")),
            }
            Ok(())
        })?;
        Ok(Ok(raw.into()))
    }

    fn items(self) -> Result<Result<TensorData<'a>, DataFault>, BodyFault> {
        // An item takes at least two bytes here, and four bytes of length in raw form.
        let mut raw = Vec::with_capacity(
            self.bytes
                .len()
                .saturating_add(self.elements.saturating_mul(2)),
        );
        self.each(|field, value| {
            push_item(&mut raw, field.bytes(value)?).ok_or_else(|| field.wrong("is too long"))
        })?;
        Ok(Ok(raw.into()))
    }
}

/// `InferTensorContents`.
pub(super) static INFER_CONTENTS: Layout = Layout {
    message: "InferTensorContents",
    kind: |field| match field {
        1 => Some(Kind::Flags),
        2..=5 => Some(Kind::Varints),
        6 => Some(Kind::Fixed32),
        7 => Some(Kind::Fixed64),
        8 => Some(Kind::Items),
        _ => None,
    },
    field: |datatype| match datatype {
        Datatype::Bool => Some(1),
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => Some(2),
        Datatype::Int64 => Some(3),
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => Some(4),
        Datatype::Uint64 => Some(5),
        Datatype::Fp32 => Some(6),
        Datatype::Fp64 => Some(7),
        Datatype::Bytes => Some(8),
        Datatype::Fp16 | Datatype::Bf16 => None,
    },
};

/// Counts elements in one field and finds its packed run. Checks everything that is independent of
/// the datatype.
fn count(
    field: FieldRef,
    kind: Kind,
    value: Value<'_>,
) -> Result<(usize, Option<&[u8]>), BodyFault> {
    match (kind, value) {
        (Kind::Flags, Value::Varint(flag)) if flag > 1 => Err(field.wrong("is neither 0 nor 1")),
        (Kind::Flags | Kind::Varints, Value::Varint(_))
        | (Kind::Fixed32, Value::Fixed32(_))
        | (Kind::Fixed64, Value::Fixed64(_))
        | (Kind::Items, Value::Bytes(_)) => Ok((1, None)),
        (Kind::Flags | Kind::Varints, Value::Bytes(run)) => {
            let mut rest = run;
            let mut elements = 0_usize;
            while !rest.is_empty() {
                let value = take_varint(&mut rest).map_err(|what| field.wrong(what))?;
                if kind == Kind::Flags && value > 1 {
                    return Err(field.wrong("is neither 0 nor 1"));
                }
                elements = elements.wrapping_add(1);
            }
            Ok((elements, Some(run)))
        }
        (Kind::Fixed32, Value::Bytes(run)) if run.len().is_multiple_of(4) => {
            Ok((run.len() / 4, Some(run)))
        }
        (Kind::Fixed64, Value::Bytes(run)) if run.len().is_multiple_of(8) => {
            Ok((run.len() / 8, Some(run)))
        }
        (Kind::Fixed32 | Kind::Fixed64, Value::Bytes(_)) => {
            Err(field.wrong("ends inside a number"))
        }
        _ => Err(field.wrong("has another wire type")),
    }
}
