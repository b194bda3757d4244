//! The element types of the Open Inference Protocol (plus Triton's `BF16`), by their protocol
//! names.

use core::fmt;
use serde::{Deserialize, Serialize};

use crate::values::named;

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

    /// Whether elements can be NaN or infinite.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::Fp16 | Self::Bf16 | Self::Fp32 | Self::Fp64)
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
