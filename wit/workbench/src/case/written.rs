//! Tensors as text: as it stands in the JSON file of a case, and short for a person.

use serde_json::json;
use tensorgate_policy::{Datatype, Tensor};

use crate::compare::{Element, Summary, elements};

/// Elements that a person sees of each end of a tensor.
const SHOWN_ENDS: usize = 4;

/// Characters that a person sees of an element.
const SHOWN_CHARS: usize = 80;

/// A tensor for a person: of many elements the first and the last.
pub fn short(tensor: &Tensor<'_>) -> String {
    let data = tensor.data.as_deref().unwrap_or_default();
    let elements = Datatype::from_name(&tensor.datatype)
        .map(|datatype| ends(datatype, &elements(datatype, data)))
        .unwrap_or_default();
    let Tensor {
        name,
        datatype,
        shape,
        ..
    } = tensor;
    format!("{name} {datatype} {shape:?}: [{}]", elements.join(", "))
}

fn ends(datatype: Datatype, elements: &[Element<'_>]) -> Vec<String> {
    let short = |element: &Element<'_>| {
        let text = value(datatype, element).unwrap_or_else(|| element.to_string());
        match text.char_indices().nth(SHOWN_CHARS) {
            Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
            None => text,
        }
    };
    let end = (elements.len()).saturating_sub(SHOWN_ENDS).max(SHOWN_ENDS);
    let gap = (end > SHOWN_ENDS).then(|| "…".to_owned());
    let first = elements.iter().take(SHOWN_ENDS).map(short);
    let last = elements.iter().skip(end).map(short);
    first.chain(gap).chain(last).collect()
}

/// A tensor with its elements, in the JSON form of OIP. `None` if JSON cannot express an element: a
/// number that is not finite, or bytes that are no text.
pub fn inline(tensor: &Tensor<'_>) -> Option<String> {
    let datatype = Datatype::from_name(&tensor.datatype)?;
    let data = tensor.data.as_deref().ok()?;
    let values = elements(datatype, data)
        .iter()
        .map(|element| value(datatype, element))
        .collect::<Option<Vec<String>>>()?;
    Some(format!(
        "{{\"name\": {}, \"datatype\": \"{}\", \"shape\": {:?}, \"data\": [{}]}}",
        json!(tensor.name),
        datatype.name(),
        tensor.shape,
        values.join(", ")
    ))
}

/// An element with as many digits as its datatype needs.
fn value(datatype: Datatype, element: &Element<'_>) -> Option<String> {
    match element {
        Element::Integer(value) if datatype == Datatype::Bool => Some((*value != 0).to_string()),
        Element::Integer(value) => Some(value.to_string()),
        Element::Float(value) if !value.is_finite() => None,
        Element::Float(value) if datatype == Datatype::Fp64 => Some(format!("{value:?}")),
        Element::Float(value) => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the element has at most 32 bits"
            )]
            let narrow = *value as f32;
            Some(format!("{narrow:?}"))
        }
        Element::Bytes(bytes) => {
            let text = std::str::from_utf8(bytes).ok()?;
            Some(json!(text).to_string())
        }
        Element::Incomplete => None,
    }
}

/// A tensor with a summary.
pub fn summary(summary: &Summary) -> String {
    let Summary {
        name,
        datatype,
        shape,
        mean,
        hash,
    } = summary;
    let datatype = datatype.map(|datatype| format!(" \"datatype\": \"{}\",", datatype.name()));
    let mean = mean.map(|mean| format!(", \"mean\": {mean:?}"));
    let hash = (hash.as_ref()).map(|hash| format!(", \"hash\": \"{hash}\""));
    format!(
        "{{\"name\": {},{} \"summary\": {{\"shape\": {shape:?}{}{}}}}}",
        json!(name),
        datatype.unwrap_or_default(),
        mean.unwrap_or_default(),
        hash.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::borrow::Cow;

    use serde_json::Value;

    use super::*;

    fn tensor(datatype: &'static str, data: Vec<u8>) -> Tensor<'static> {
        Tensor {
            name: Cow::Borrowed("t"),
            datatype: Cow::Borrowed(datatype),
            shape: vec![1],
            parameters: Vec::new(),
            data: Ok(data.into()),
        }
    }

    #[test]
    fn elements_are_written_with_the_digits_that_they_need() {
        for (datatype, data, expected) in [
            ("FP32", 0.1_f32.to_le_bytes().to_vec(), Some("0.1")),
            ("FP64", 0.1_f64.to_le_bytes().to_vec(), Some("0.1")),
            ("FP16", 0x3c00_u16.to_le_bytes().to_vec(), Some("1.0")),
            ("UINT64", vec![255; 8], Some("18446744073709551615")),
            ("BOOL", vec![1], Some("true")),
            ("BYTES", b"\x01\0\0\0\"".to_vec(), Some("\"\\\"\"")),
            ("BYTES", b"\x01\0\0\0\xff".to_vec(), None),
            ("FP32", f32::INFINITY.to_le_bytes().to_vec(), None),
        ] {
            let expected = expected.map(|value| {
                format!(
                    "{{\"name\": \"t\", \"datatype\": \"{datatype}\", \"shape\": [1], \"data\": [{value}]}}"
                )
            });
            assert_eq!(inline(&tensor(datatype, data)), expected);
        }
    }

    #[test]
    fn a_person_sees_both_ends_of_a_tensor() {
        let floats = |values: &[f32]| -> Vec<u8> {
            let bytes = values.iter().map(|value| value.to_le_bytes());
            bytes.flatten().collect()
        };
        let long = format!("\u{50}\0\0\0{}", "a".repeat(80)).into_bytes();
        let cut = format!("[\"{}…]", "a".repeat(79));
        for (datatype, data, expected) in [
            ("UINT8", vec![], "[]"),
            ("UINT8", vec![7; 8], "[7, 7, 7, 7, 7, 7, 7, 7]"),
            ("UINT8", (1..10).collect(), "[1, 2, 3, 4, …, 6, 7, 8, 9]"),
            ("BOOL", vec![0, 1], "[false, true]"),
            (
                "FP32",
                floats(&[0.1, f32::NAN, f32::NEG_INFINITY, 1e-9]),
                "[0.1, NaN, -inf, 1e-9]",
            ),
            ("BYTES", b"\x02\0\0\0\"\n".to_vec(), r#"["\"\n"]"#),
            ("BYTES", b"\x01\0\0\0\xff".to_vec(), "[\"\u{fffd}\"]"),
            ("BYTES", long, cut.as_str()),
        ] {
            let expected = format!("t {datatype} [1]: {expected}");
            assert_eq!(short(&tensor(datatype, data)), expected);
        }
    }

    #[test]
    fn a_summary_is_written_with_the_parts_that_it_has() {
        let exact = Summary::of(&tensor("UINT8", vec![7]));
        let text: Value = serde_json::from_str(&summary(&exact)).unwrap();
        let parts = json!({"shape": [1], "mean": 7.0, "hash": exact.hash});
        let expected = json!({"name": "t", "datatype": "UINT8", "summary": parts});
        assert_eq!(text, expected);
        let rough = Summary {
            datatype: None,
            mean: None,
            hash: None,
            ..exact
        };
        let expected = r#"{"name": "t", "summary": {"shape": [1]}}"#;
        assert_eq!(summary(&rough), expected);
    }
}
