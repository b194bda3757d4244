//! Converts elements in raw form to a flat JSON list. Floats are written as the shortest text with
//! the same value. Values without a JSON form (NaN, infinities, non-text bytes, 16-bit floats) are
//! an error, distinct from an inconsistent tensor.

use core::fmt::{Debug, Write as _};

use tensorgate_policy::Datatype;
use tensorgate_policy::tensor::items;

use super::{Unencodable, string};

/// Appends the list. After an error the output is incomplete and must be discarded.
pub(super) fn write(json: &mut String, datatype: Datatype, data: &[u8]) -> Result<(), Unencodable> {
    json.push('[');
    let mut first = true;
    let mut next = |json: &mut String| {
        if !first {
            json.push(',');
        }
        first = false;
    };
    match datatype {
        Datatype::Bool => {
            for byte in data {
                next(json);
                json.push_str(if *byte == 0 { "false" } else { "true" });
            }
        }
        Datatype::Uint8 => numbers(json, data, next, |bytes| Some(u8::from_le_bytes(bytes)))?,
        Datatype::Uint16 => numbers(json, data, next, |bytes| Some(u16::from_le_bytes(bytes)))?,
        Datatype::Uint32 => numbers(json, data, next, |bytes| Some(u32::from_le_bytes(bytes)))?,
        Datatype::Uint64 => numbers(json, data, next, |bytes| Some(u64::from_le_bytes(bytes)))?,
        Datatype::Int8 => numbers(json, data, next, |bytes| Some(i8::from_le_bytes(bytes)))?,
        Datatype::Int16 => numbers(json, data, next, |bytes| Some(i16::from_le_bytes(bytes)))?,
        Datatype::Int32 => numbers(json, data, next, |bytes| Some(i32::from_le_bytes(bytes)))?,
        Datatype::Int64 => numbers(json, data, next, |bytes| Some(i64::from_le_bytes(bytes)))?,
        Datatype::Fp32 => numbers(json, data, next, |bytes| {
            Some(f32::from_le_bytes(bytes)).filter(|value| value.is_finite())
        })?,
        Datatype::Fp64 => numbers(json, data, next, |bytes| {
            Some(f64::from_le_bytes(bytes)).filter(|value| value.is_finite())
        })?,
        Datatype::Bytes => {
            for item in items(data) {
                next(json);
                let item = item.map_err(|_| Unencodable::Tensor)?;
                string(json, str::from_utf8(item).map_err(|_| Unencodable::Value)?);
            }
        }
        Datatype::Fp16 | Datatype::Bf16 => return Err(Unencodable::Value),
    }
    json.push(']');
    Ok(())
}

/// Appends one element without a list. Errors as for [`write`].
pub(super) fn scalar(
    json: &mut String,
    datatype: Datatype,
    element: &[u8],
) -> Result<(), Unencodable> {
    let start = json.len();
    write(json, datatype, element)?;
    // A list of one without its brackets.
    json.pop();
    json.remove(start);
    Ok(())
}

fn numbers<T: Debug, const N: usize>(
    json: &mut String,
    data: &[u8],
    mut next: impl FnMut(&mut String),
    value: impl Fn([u8; N]) -> Option<T>,
) -> Result<(), Unencodable> {
    let (elements, rest) = data.as_chunks::<N>();
    for element in elements {
        next(json);
        // `Debug` writes large and small floats with an exponent, `Display` with up to 300 digits.
        let value = value(*element).ok_or(Unencodable::Value)?;
        write!(json, "{value:?}").map_err(|_| Unencodable::Tensor)?;
    }
    rest.is_empty().then_some(()).ok_or(Unencodable::Tensor)
}
