//! The Rust type of each datatype. FP16 and BF16 have no type in the standard library: read their
//! bits from [`Tensor::data`](crate::Tensor).

use crate::bindings::preprocess::tensorgate::handler::types::Datatype;

mod sealed {
    pub trait Sealed {}
}

/// A Rust type whose values have the byte layout of a tensor's elements.
pub trait Element:
    sealed::Sealed + bytemuck::CheckedBitPattern + bytemuck::NoUninit + Default
{
    /// The datatype of these elements.
    const DATATYPE: Datatype;
}

macro_rules! element {
    ($($rust:ty => $datatype:ident),+ $(,)?) => {$(
        impl sealed::Sealed for $rust {}
        impl Element for $rust {
            const DATATYPE: Datatype = Datatype::$datatype;
        }
    )+};
}

element! {
    bool => Bool,
    u8 => Uint8,
    u16 => Uint16,
    u32 => Uint32,
    u64 => Uint64,
    i8 => Int8,
    i16 => Int16,
    i32 => Int32,
    i64 => Int64,
    f32 => Fp32,
    f64 => Fp64,
}
