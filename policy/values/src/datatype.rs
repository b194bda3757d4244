//! The element types of the Open Inference Protocol (plus Triton's `BF16`), by their protocol
//! names.

use core::fmt;
use serde::{Deserialize, Serialize};

use crate::named;

named! {
    /// An element type.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    #[expect(missing_docs, reason = "the variants are the protocol's own names")]
    pub enum Datatype {
        Bool = "BOOL",
        Uint8 = "UINT8",
        Uint16 = "UINT16",
        Uint32 = "UINT32",
        Uint64 = "UINT64",
        Int8 = "INT8",
        Int16 = "INT16",
        Int32 = "INT32",
        Int64 = "INT64",
        Fp16 = "FP16",
        Bf16 = "BF16",
        Fp32 = "FP32",
        Fp64 = "FP64",
        Bytes = "BYTES",
    }
}

/// The format of a floating-point datatype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the names of the datatypes")]
pub enum FloatFormat {
    Fp16,
    Bf16,
    Fp32,
    Fp64,
}

impl Datatype {
    /// Size of an element in raw form; `None` for `BYTES`, whose elements have their own length.
    pub const fn size_bytes(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    /// Smallest and greatest value, if all values are integers; 0 and 1 for BOOL.
    pub const fn integer_range(self) -> Option<(i128, i128)> {
        Some(match self {
            Self::Bool => (0, 1),
            Self::Uint8 => (0, u8::MAX as i128),
            Self::Uint16 => (0, u16::MAX as i128),
            Self::Uint32 => (0, u32::MAX as i128),
            Self::Uint64 => (0, u64::MAX as i128),
            Self::Int8 => (i8::MIN as i128, i8::MAX as i128),
            Self::Int16 => (i16::MIN as i128, i16::MAX as i128),
            Self::Int32 => (i32::MIN as i128, i32::MAX as i128),
            Self::Int64 => (i64::MIN as i128, i64::MAX as i128),
            Self::Fp16 | Self::Bf16 | Self::Fp32 | Self::Fp64 | Self::Bytes => return None,
        })
    }

    /// The floating-point format; `None` if no element can be NaN, infinite or a second zero.
    pub const fn float_format(self) -> Option<FloatFormat> {
        match self {
            Self::Fp16 => Some(FloatFormat::Fp16),
            Self::Bf16 => Some(FloatFormat::Bf16),
            Self::Fp32 => Some(FloatFormat::Fp32),
            Self::Fp64 => Some(FloatFormat::Fp64),
            Self::Bool | Self::Bytes => None,
            Self::Uint8 | Self::Uint16 | Self::Uint32 | Self::Uint64 => None,
            Self::Int8 | Self::Int16 | Self::Int32 | Self::Int64 => None,
        }
    }

    /// Whether elements can be NaN or infinite.
    pub const fn is_float(self) -> bool {
        self.float_format().is_some()
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
