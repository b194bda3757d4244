//! Element types, their sizes, and type promotion.

/// Element types. Arrays are never `Fp16` or `Bf16`: those become `Fp32` on input, and can be
/// requested on output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datatype {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, 1 byte.
    Uint8,
    /// Unsigned, 2 bytes.
    Uint16,
    /// Unsigned, 4 bytes.
    Uint32,
    /// Unsigned, 8 bytes.
    Uint64,
    /// Two's complement, 1 byte.
    Int8,
    /// Two's complement, 2 bytes.
    Int16,
    /// Two's complement, 4 bytes.
    Int32,
    /// Two's complement, 8 bytes.
    Int64,
    /// IEEE 754 half precision, 2 bytes.
    Fp16,
    /// The upper half of an IEEE 754 single, 2 bytes.
    Bf16,
    /// IEEE 754 single precision, 4 bytes.
    Fp32,
    /// IEEE 754 double precision, 8 bytes.
    Fp64,
}

use Datatype::{
    Bf16, Bool, Fp16, Fp32, Fp64, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64,
};

impl Datatype {
    /// The number of bytes of an element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Bool | Uint8 | Int8 => 1,
            Uint16 | Int16 | Fp16 | Bf16 => 2,
            Uint32 | Int32 | Fp32 => 4,
            Uint64 | Int64 | Fp64 => 8,
        }
    }

    /// Whether it is a float, including halves.
    #[must_use]
    pub const fn is_float(self) -> bool {
        matches!(self, Fp16 | Bf16 | Fp32 | Fp64)
    }

    const fn is_signed(self) -> bool {
        matches!(self, Int8 | Int16 | Int32 | Int64)
    }

    /// The type of an array with such elements: a half becomes a single.
    pub(crate) const fn array_type(self) -> Self {
        match self {
            Fp16 | Bf16 => Fp32,
            other => other,
        }
    }

    /// The promoted type of two arrays, by numpy's rules.
    pub(crate) fn with(self, other: Self) -> Self {
        let (one, other) = (self.array_type(), other.array_type());
        match (one, other) {
            _ if one == other => one,
            (Bool, other) => other,
            (one, Bool) => one,
            (Fp64, _) | (_, Fp64) => Fp64,
            (Fp32, integer) | (integer, Fp32) if integer.size() <= 2 => Fp32,
            (Fp32, _) | (_, Fp32) => Fp64,
            _ => integers(one, other),
        }
    }
}

/// The promoted type of two different whole types.
fn integers(one: Datatype, other: Datatype) -> Datatype {
    let wide = one.size().max(other.size());
    let (signed, unsigned) = match (one.is_signed(), other.is_signed()) {
        (true, false) => (one, other),
        (false, true) => (other, one),
        (is_signed, _) => return integer(is_signed, wide),
    };
    if signed.size() > unsigned.size() {
        signed
    } else {
        integer(true, unsigned.size().saturating_mul(2))
    }
}

/// The whole type of a width in bytes; a float beyond the widest.
const fn integer(is_signed: bool, bytes: usize) -> Datatype {
    match (is_signed, bytes) {
        (true, 1) => Int8,
        (true, 2) => Int16,
        (true, 4) => Int32,
        (true, 8) => Int64,
        (false, 1) => Uint8,
        (false, 2) => Uint16,
        (false, 4) => Uint32,
        (false, 8) => Uint64,
        _ => Fp64,
    }
}

/// Evaluates an expression with the element type of a datatype. `Bool` is a byte.
macro_rules! with_type {
    ($datatype:expr, $T:ident => $body:expr) => {
        match $datatype {
            $crate::Datatype::Bool | $crate::Datatype::Uint8 => {
                type $T = u8;
                $body
            }
            $crate::Datatype::Uint16 => {
                type $T = u16;
                $body
            }
            $crate::Datatype::Uint32 => {
                type $T = u32;
                $body
            }
            $crate::Datatype::Uint64 => {
                type $T = u64;
                $body
            }
            $crate::Datatype::Int8 => {
                type $T = i8;
                $body
            }
            $crate::Datatype::Int16 => {
                type $T = i16;
                $body
            }
            $crate::Datatype::Int32 => {
                type $T = i32;
                $body
            }
            $crate::Datatype::Int64 => {
                type $T = i64;
                $body
            }
            $crate::Datatype::Fp64 => {
                type $T = f64;
                $body
            }
            $crate::Datatype::Fp32 | $crate::Datatype::Fp16 | $crate::Datatype::Bf16 => {
                type $T = f32;
                $body
            }
        }
    };
}

/// Evaluates an expression with the element type of a whole datatype. Floats get that of `Int64`,
/// but callers do not pass them.
macro_rules! with_integer {
    ($datatype:expr, $T:ident => $body:expr) => {
        match $datatype {
            $crate::Datatype::Bool | $crate::Datatype::Uint8 => {
                type $T = u8;
                $body
            }
            $crate::Datatype::Uint16 => {
                type $T = u16;
                $body
            }
            $crate::Datatype::Uint32 => {
                type $T = u32;
                $body
            }
            $crate::Datatype::Uint64 => {
                type $T = u64;
                $body
            }
            $crate::Datatype::Int8 => {
                type $T = i8;
                $body
            }
            $crate::Datatype::Int16 => {
                type $T = i16;
                $body
            }
            $crate::Datatype::Int32 => {
                type $T = i32;
                $body
            }
            _ => {
                type $T = i64;
                $body
            }
        }
    };
}

/// Evaluates an expression with an unsigned type of an element's size, for code that only moves
/// elements.
macro_rules! with_size {
    ($datatype:expr, $T:ident => $body:expr) => {
        match $datatype.array_type().size() {
            1 => {
                type $T = u8;
                $body
            }
            2 => {
                type $T = u16;
                $body
            }
            4 => {
                type $T = u32;
                $body
            }
            _ => {
                type $T = u64;
                $body
            }
        }
    };
}

pub(crate) use {with_integer, with_size, with_type};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_types_make_what_numpy_makes_of_them() {
        for (one, other, expected) in [
            (Uint8, Uint8, Uint8),
            (Bool, Int8, Int8),
            (Uint8, Int8, Int16),
            (Uint32, Int8, Int64),
            (Uint64, Int8, Fp64),
            (Uint8, Uint32, Uint32),
            (Int16, Uint8, Int16),
            (Fp32, Int16, Fp32),
            (Fp32, Int32, Fp64),
            (Fp32, Fp64, Fp64),
            (Fp16, Uint8, Fp32),
        ] {
            assert_eq!(one.with(other), expected, "{one:?} {other:?}");
            assert_eq!(other.with(one), expected, "{other:?} {one:?}");
        }
    }
}
