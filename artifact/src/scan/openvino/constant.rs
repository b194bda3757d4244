//! A constant of a model of OpenVINO: where its bytes are, and how many its shape needs.

use std::ops::Range;

use super::{decimal, malformed, number, unknown};
use crate::scan::source::Stop;
use crate::scan::xml::Element;

/// Types of elements by their bits. Strings are not among them: their number is in their bytes, and
/// OpenVINO does not compare it with the shape.
const TYPES: [(u64, &[&str]); 7] = [
    (1, &["u1"]),
    (2, &["u2"]),
    (4, &["f4e2m1", "i4", "nf4", "u4"]),
    (8, &["boolean", "f8e4m3", "f8e5m2", "f8e8m0", "i8", "u8"]),
    (16, &["bf16", "f16", "i16", "u16"]),
    (32, &["f32", "i32", "u32"]),
    (64, &["f64", "i64", "u64"]),
];

/// The bytes of a constant in the `.bin` file, by the attributes of its layer.
pub(super) fn range(data: &Element) -> Result<Range<u64>, Stop> {
    let start = number(data, "offset")?;
    let size = number(data, "size")?;
    let shape = data.get("shape").unwrap_or_default();
    let element_type = data.get("element_type").unwrap_or_default();
    let mut types = TYPES.iter();
    let Some((bits, _)) = types.find(|(_, names)| names.contains(&element_type)) else {
        let detail =
            format!("a constant of {element_type:?}, a type that this scan does not follow");
        return Err(unknown(data, detail));
    };
    let bytes = elements(shape).and_then(|count| Some(count.checked_mul(*bits)?.div_ceil(8)));
    // A constant without elements has one byte. One in an attribute is read without a check.
    let is_right = bytes == Some(size) || (bytes == Some(0) && size == 1);
    let end = start.checked_add(size);
    if let Some(end) = end.filter(|_| is_right && data.get("value").is_none()) {
        return Ok(start..end);
    }
    let detail = format!("a constant of {size} bytes for {element_type} of the shape {shape:?}");
    Err(malformed(data, detail))
}

/// The number of elements of a shape, which is lengths with commas between them.
fn elements(shape: &str) -> Option<u64> {
    let mut lengths = shape.split(',').filter(|_| !shape.is_empty());
    lengths.try_fold(1_u64, |count, length| {
        count.checked_mul(decimal(length.trim_ascii())?)
    })
}
