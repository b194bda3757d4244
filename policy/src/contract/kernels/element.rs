//! Element types for the scans: conversion from bytes to comparable keys, and storage of bounds.

use tensorgate_values::datatype::Datatype;

use super::{
    BF16, FP16, Half, SIGN, float_bounds, half_bounds, integer_bounds, nearest_f32, nearest_f64,
    rank,
};

/// An element type.
pub(super) trait Element {
    /// An element as it is sent.
    type Bytes: Copy;
    /// A key that compares like the value; NaN is in no range.
    type Key: Copy + PartialOrd;

    /// Whole elements and the remaining bytes.
    fn split(data: &[u8]) -> (&[Self::Bytes], &[u8]);

    /// Key of an element.
    fn key(bytes: Self::Bytes) -> Self::Key;

    /// Key from the bits that [`bounds`] returned.
    fn kept(bits: u64) -> Self::Key;
}

macro_rules! number {
    ($name:ident, $type:ty) => {
        pub(super) struct $name;

        impl Element for $name {
            type Bytes = [u8; size_of::<$type>()];
            type Key = $type;

            fn split(data: &[u8]) -> (&[Self::Bytes], &[u8]) {
                data.as_chunks()
            }

            fn key(bytes: Self::Bytes) -> $type {
                <$type>::from_le_bytes(bytes)
            }

            fn kept(bits: u64) -> $type {
                let bytes = bits.to_le_bytes();
                bytes
                    .first_chunk()
                    .map_or_else(Default::default, |bytes| <$type>::from_le_bytes(*bytes))
            }
        }
    };
}

number!(U8, u8);
number!(U16, u16);
number!(U32, u32);
number!(U64, u64);
number!(I8, i8);
number!(I16, i16);
number!(I32, i32);
number!(I64, i64);
number!(F32, f32);
number!(F64, f64);

/// A 16-bit float of either format, by its rank in the order of all values.
pub(super) struct F16;

impl Element for F16 {
    type Bytes = [u8; 2];
    type Key = i16;

    fn split(data: &[u8]) -> (&[Self::Bytes], &[u8]) {
        data.as_chunks()
    }

    fn key(bytes: Self::Bytes) -> i16 {
        rank(u16::from_le_bytes(bytes))
    }

    fn kept(bits: u64) -> i16 {
        I16::kept(bits)
    }
}

/// Evaluates an expression with the element type of a datatype, or the alternative for `BYTES`.
macro_rules! by_element {
    ($datatype:expr, $element:ident => $body:expr, $bytes:expr) => {{
        use $crate::contract::kernels::element::*;
        match $datatype {
            Datatype::Bool | Datatype::Uint8 => {
                type $element = U8;
                $body
            }
            Datatype::Uint16 => {
                type $element = U16;
                $body
            }
            Datatype::Uint32 => {
                type $element = U32;
                $body
            }
            Datatype::Uint64 => {
                type $element = U64;
                $body
            }
            Datatype::Int8 => {
                type $element = I8;
                $body
            }
            Datatype::Int16 => {
                type $element = I16;
                $body
            }
            Datatype::Int32 => {
                type $element = I32;
                $body
            }
            Datatype::Int64 => {
                type $element = I64;
                $body
            }
            Datatype::Fp16 | Datatype::Bf16 => {
                type $element = F16;
                $body
            }
            Datatype::Fp32 => {
                type $element = F32;
                $body
            }
            Datatype::Fp64 => {
                type $element = F64;
                $body
            }
            Datatype::Bytes => $bytes,
        }
    }};
}
pub(super) use by_element;

/// Smallest and largest value of a datatype in a range, as bits for `Element::kept`; `None` if
/// empty. Integers are exact; floats round the bound as the datatype does.
pub fn bounds(datatype: Datatype, range: (f64, f64)) -> Option<(u64, u64)> {
    macro_rules! integers {
        ($type:ty) => {{
            let (least, greatest) = integer_bounds(range);
            let least = least.max(<$type>::MIN.into());
            let greatest = greatest.min(<$type>::MAX.into());
            (least <= greatest)
                .then_some(())
                .and_then(|()| Some((integer_bits(least)?, integer_bits(greatest)?)))
        }};
    }
    let half = |format: &Half| {
        let (least, greatest) = half_bounds(format, range)?;
        Some((integer_bits(least.into())?, integer_bits(greatest.into())?))
    };
    match datatype {
        Datatype::Uint8 => integers!(u8),
        Datatype::Uint16 => integers!(u16),
        Datatype::Uint32 => integers!(u32),
        Datatype::Uint64 => integers!(u64),
        Datatype::Int8 => integers!(i8),
        Datatype::Int16 => integers!(i16),
        Datatype::Int32 => integers!(i32),
        Datatype::Int64 => integers!(i64),
        Datatype::Fp16 => half(&FP16),
        Datatype::Bf16 => half(&BF16),
        Datatype::Fp32 => {
            let (least, greatest) = float_bounds(range, f32::MAX.into())?;
            let bits = |number| u64::from(nearest_f32(number).to_bits());
            Some((bits(least), bits(greatest)))
        }
        Datatype::Fp64 => {
            let (least, greatest) = float_bounds(range, f64::MAX)?;
            Some((least.to_bits(), greatest.to_bits()))
        }
        Datatype::Bool | Datatype::Bytes => None,
    }
}

/// Low 64 bits of an integer within 64 bits, signed or unsigned.
fn integer_bits(number: i128) -> Option<u64> {
    match u64::try_from(number) {
        Ok(bits) => Some(bits),
        Err(_) => i64::try_from(number).ok().map(i64::cast_unsigned),
    }
}

/// A number in a policy's list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Listed {
    Integer(i128),
    Float(f64),
}

/// Bits of every element equal to this number (both zeros of a float). `None` if the datatype
/// cannot represent it, such as a fraction for an integer. Floats are rounded as the datatype does.
pub fn listed_bits(datatype: Datatype, number: Listed) -> Option<(u64, Option<u64>)> {
    let integer = || match number {
        Listed::Integer(number) => Some(number),
        Listed::Float(number) => super::exact_integer(number),
    };
    macro_rules! integers {
        ($type:ty) => {{
            let number = <$type>::try_from(integer()?).ok()?;
            let mut wide = [0; 8];
            for (slot, byte) in wide.iter_mut().zip(number.to_le_bytes()) {
                *slot = byte;
            }
            Some((u64::from_le_bytes(wide), None))
        }};
    }
    let float = match number {
        Listed::Float(number) => number,
        Listed::Integer(number) => nearest_f64(number),
    };
    let floats = |magnitude: f64, max: f64, bits: u64, sign: u64| {
        if !magnitude.is_finite() || magnitude.abs() > max {
            return None;
        }
        let zero = bits & !sign == 0;
        Some((bits, zero.then_some(bits ^ sign)))
    };
    match datatype {
        Datatype::Uint8 => integers!(u8),
        Datatype::Uint16 => integers!(u16),
        Datatype::Uint32 => integers!(u32),
        Datatype::Uint64 => integers!(u64),
        Datatype::Int8 => integers!(i8),
        Datatype::Int16 => integers!(i16),
        Datatype::Int32 => integers!(i32),
        Datatype::Int64 => integers!(i64),
        Datatype::Fp16 => floats(
            float,
            FP16.value(FP16.max()),
            FP16.nearest(float).into(),
            SIGN.into(),
        ),
        Datatype::Bf16 => floats(
            float,
            BF16.value(BF16.max()),
            BF16.nearest(float).into(),
            SIGN.into(),
        ),
        Datatype::Fp32 => floats(
            float,
            f32::MAX.into(),
            nearest_f32(float).to_bits().into(),
            (-0.0_f32).to_bits().into(),
        ),
        Datatype::Fp64 => floats(float, f64::MAX, float.to_bits(), (-0.0_f64).to_bits()),
        Datatype::Bool | Datatype::Bytes => None,
    }
}
