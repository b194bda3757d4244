//! One scalar of a vector in OIP's raw form.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// A scalar's little-endian bytes in a datatype (a `BYTES` element with its length), or why it
/// cannot be one.
pub(crate) fn raw(datatype: &str, value: &Value) -> Result<Vec<u8>, String> {
    let wrong =
        || format!("{value} cannot be said as {datatype}: name the protocols or use `bytes`");
    let unsigned = || value.as_u64().ok_or_else(wrong);
    let signed = || value.as_i64().ok_or_else(wrong);
    Ok(match datatype {
        "BOOL" => vec![u8::from(value.as_bool().ok_or_else(wrong)?)],
        "UINT8" => vec![u8::try_from(unsigned()?).map_err(|_| wrong())?],
        "UINT16" => u16::try_from(unsigned()?)
            .map_err(|_| wrong())?
            .to_le_bytes()
            .to_vec(),
        "UINT32" => u32::try_from(unsigned()?)
            .map_err(|_| wrong())?
            .to_le_bytes()
            .to_vec(),
        "UINT64" => unsigned()?.to_le_bytes().to_vec(),
        "INT8" => i8::try_from(signed()?)
            .map_err(|_| wrong())?
            .to_le_bytes()
            .to_vec(),
        "INT16" => i16::try_from(signed()?)
            .map_err(|_| wrong())?
            .to_le_bytes()
            .to_vec(),
        "INT32" => i32::try_from(signed()?)
            .map_err(|_| wrong())?
            .to_le_bytes()
            .to_vec(),
        "INT64" => signed()?.to_le_bytes().to_vec(),
        "FP16" => half(float(value).ok_or_else(wrong)?).to_le_bytes().to_vec(),
        "BF16" => brain(float(value).ok_or_else(wrong)?)
            .to_le_bytes()
            .to_vec(),
        "FP32" => single(float(value).ok_or_else(wrong)?)
            .to_le_bytes()
            .to_vec(),
        "FP64" => float(value).ok_or_else(wrong)?.to_le_bytes().to_vec(),
        "BYTES" => {
            let item = item(value).ok_or_else(wrong)?;
            let mut element = u32::try_from(item.len())
                .map_err(|_| wrong())?
                .to_le_bytes()
                .to_vec();
            element.extend_from_slice(&item);
            element
        }
        _ => {
            return Err(format!(
                "{datatype} has no raw form here: use `bytes` or name the protocols"
            ));
        }
    })
}

/// An element of `BYTES`: text, or other bytes as `{"b64": "…"}`.
pub(crate) fn item(value: &Value) -> Option<Cow<'_, [u8]>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text.as_bytes())),
        Value::Object(members) if members.len() == 1 => {
            let coded = members.get("b64")?.as_str()?;
            STANDARD.decode(coded).ok().map(Cow::Owned)
        }
        _ => None,
    }
}

/// A number, or one of the three values that JSON has no number for.
pub(crate) fn float(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => value.as_f64(),
    }
}

/// The nearest single-precision value.
#[expect(
    clippy::cast_possible_truncation,
    reason = "rounding to the nearest single is what is wanted"
)]
pub(crate) fn single(value: f64) -> f32 {
    value as f32
}

/// The upper half of a single. Vectors use values that it represents exactly.
fn brain(value: f64) -> u16 {
    let [_, _, low, high] = single(value).to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// IEEE 754 half precision, rounded towards zero. Vectors use values that it represents exactly.
fn half(value: f64) -> u16 {
    let bits = single(value).to_bits();
    let sign = low16(bits >> 16) & 0x8000;
    let fraction = low16((bits & 0x007f_ffff) >> 13);
    // The exponent's bias is 127 in a single and 15 here.
    let exponent = (bits >> 23) & 0xff;
    match exponent {
        255 => sign | 0x7c00 | fraction | u16::from(bits & 0x007f_ffff != 0),
        143.. => sign | 0x7c00,
        113.. => sign | (low16(exponent.saturating_sub(112)) << 10) | fraction,
        _ => sign,
    }
}

/// The lower half of a word.
fn low16(word: u32) -> u16 {
    let [a, b, _, _] = word.to_le_bytes();
    u16::from_le_bytes([a, b])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn scalars_are_little_endian_in_their_datatype() {
        let check = |datatype: &str, value: Value, expected: &[u8]| {
            assert_eq!(
                raw(datatype, &value).unwrap(),
                expected,
                "{datatype} {value}"
            )
        };
        check("BOOL", true.into(), &[1]);
        check("INT8", (-1).into(), &[0xff]);
        check("UINT16", 258.into(), &[2, 1]);
        check("INT64", i64::MIN.into(), &[0, 0, 0, 0, 0, 0, 0, 0x80]);
        check("FP16", 1.0.into(), &[0x00, 0x3c]);
        check("FP16", (-2.5).into(), &[0x00, 0xc1]);
        check("FP16", 65504.0.into(), &[0xff, 0x7b]);
        check("FP16", "Infinity".into(), &[0x00, 0x7c]);
        check("FP16", "-Infinity".into(), &[0x00, 0xfc]);
        check("BF16", 1.0.into(), &[0x80, 0x3f]);
        check("BF16", "NaN".into(), &[0xc0, 0x7f]);
        check("FP32", 0.5.into(), &[0, 0, 0, 0x3f]);
        check("BYTES", "ab".into(), &[2, 0, 0, 0, b'a', b'b']);
        check(
            "BYTES",
            serde_json::json!({"b64": "iVA="}),
            &[2, 0, 0, 0, 0x89, b'P'],
        );
    }

    #[test]
    fn a_value_beyond_its_datatype_is_a_mistake_in_the_vector() {
        for (datatype, value) in [
            ("UINT8", Value::from(256)),
            ("INT8", (-129).into()),
            ("BOOL", 1.into()),
            ("FP32", "x".into()),
            ("NONE", 1.into()),
        ] {
            assert!(raw(datatype, &value).is_err(), "{datatype} {value}");
        }
    }
}
