//! An inference request as OIP JSON, with numbers as the vector writes them. Shares no code with
//! the decoder under test.

use serde_json::Value;

use crate::file::{Input, Tensors};

/// The document; `nested` folds `data` as `shape` says.
pub(crate) fn infer_request(tensors: &Tensors, nested: bool) -> Result<Vec<u8>, String> {
    document(tensors, |input| {
        Ok(format!("\"data\":{}", data(input, nested)?))
    })
}

/// The document, followed by every input in raw form; and the document's length.
pub(crate) fn binary_request(tensors: &Tensors) -> Result<(usize, Vec<u8>), String> {
    let blobs = tensors
        .inputs
        .iter()
        .map(Input::raw)
        .collect::<Result<Vec<_>, _>>()?;
    let mut sizes = blobs.iter().map(Vec::len);
    let mut body = document(tensors, |input| {
        let mut parameters = input.parameters.clone();
        let size = sizes.next().unwrap_or_default();
        match parameters.insert("binary_data_size".into(), size.into()) {
            None => Ok(format!("\"parameters\":{}", object(&parameters))),
            Some(_) => Err("a size of its own: name the protocols".into()),
        }
    })?;
    let json_bytes = body.len();
    body.extend(blobs.concat());
    Ok((json_bytes, body))
}

/// The document. `elements` writes the member of an input that says where its elements are.
fn document(
    tensors: &Tensors,
    mut elements: impl FnMut(&Input) -> Result<String, String>,
) -> Result<Vec<u8>, String> {
    let mut members = Vec::new();
    if let Some(id) = &tensors.id {
        members.push(format!("\"id\":{}", Value::from(id.as_str())));
    }
    if !tensors.parameters.is_empty() {
        members.push(format!("\"parameters\":{}", object(&tensors.parameters)));
    }
    let inputs = tensors
        .inputs
        .iter()
        .map(|input| tensor(input, elements(input)?))
        .collect::<Result<Vec<_>, _>>()?;
    members.push(format!("\"inputs\":[{}]", inputs.join(",")));
    if !tensors.outputs.is_empty() {
        let outputs: Vec<_> = tensors
            .outputs
            .iter()
            .map(|name| format!("{{\"name\":{}}}", Value::from(name.as_str())))
            .collect();
        members.push(format!("\"outputs\":[{}]", outputs.join(",")));
    }
    Ok(format!("{{{}}}", members.join(",")).into_bytes())
}

/// The elements as JSON.
pub(crate) fn data(input: &Input, nested: bool) -> Result<String, String> {
    let elements = scalars(input, false)?;
    if nested {
        fold(&input.shape, &elements)
    } else {
        Ok(format!("[{}]", elements.join(",")))
    }
}

/// Each element as JSON. With `any_bytes`, bytes that are not text are allowed too, as the vector
/// writes them.
pub(crate) fn scalars(input: &Input, any_bytes: bool) -> Result<Vec<String>, String> {
    if input.bytes.is_some() {
        return Err("`bytes` can only travel as oip-grpc-raw: name the protocols".into());
    }
    let is_float = matches!(input.datatype.as_str(), "FP16" | "BF16" | "FP32" | "FP64");
    input
        .elements()?
        .iter()
        .map(|scalar| match scalar {
            Value::Object(_) if !any_bytes => {
                Err("this JSON has no bytes but text: name the protocols".into())
            }
            Value::String(text)
                if is_float && matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") =>
            {
                Err(format!("JSON has no number {text}: name the protocols"))
            }
            scalar => Ok(scalar.to_string()),
        })
        .collect()
}

fn tensor(input: &Input, elements: String) -> Result<String, String> {
    let mut members = vec![
        format!("\"name\":{}", Value::from(input.name.as_str())),
        format!("\"shape\":{:?}", input.shape),
    ];
    members.push(format!(
        "\"datatype\":{}",
        Value::from(input.datatype.as_str())
    ));
    if !input.parameters.is_empty() && !elements.starts_with("\"parameters\":") {
        members.push(format!("\"parameters\":{}", object(&input.parameters)));
    }
    members.push(elements);
    Ok(format!("{{{}}}", members.join(",")))
}

fn object(members: &std::collections::BTreeMap<String, Value>) -> String {
    let members: Vec<_> = members
        .iter()
        .map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// Row-major elements as nested lists, if their number fits the shape.
pub(crate) fn fold(shape: &[i64], elements: &[String]) -> Result<String, String> {
    let odd = || {
        format!(
            "{} elements cannot be nested as {shape:?}: name the protocols",
            elements.len()
        )
    };
    let Some((outer, inner)) = shape.split_first() else {
        let [one] = elements else { return Err(odd()) };
        return Ok(one.clone());
    };
    let outer = usize::try_from(*outer).map_err(|_| odd())?;
    if outer == 0 || elements.is_empty() {
        return if outer == 0 && elements.is_empty() {
            Ok("[]".into())
        } else {
            Err(odd())
        };
    }
    let each = elements
        .len()
        .checked_div(outer)
        .filter(|each| each.checked_mul(outer) == Some(elements.len()) && *each > 0)
        .ok_or_else(odd)?;
    let parts = elements
        .chunks(each)
        .map(|part| fold(inner, part))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(format!("[{}]", parts.join(",")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn data_is_nested_according_to_its_shape() {
        let check = |shape: &[i64], count: usize, expected: Option<&str>| {
            let elements: Vec<_> = (1..=count).map(|n| n.to_string()).collect();
            assert_eq!(
                fold(shape, &elements).ok().as_deref(),
                expected,
                "{shape:?} of {count}"
            );
        };
        check(&[3], 3, Some("[1,2,3]"));
        check(&[2, 2], 4, Some("[[1,2],[3,4]]"));
        check(&[2, 1, 1], 2, Some("[[[1]],[[2]]]"));
        check(&[2, 2], 3, None);
        check(&[-1], 1, None);
        check(&[0], 0, Some("[]"));
    }

    #[test]
    fn numbers_are_written_as_the_vector_has_them() {
        let tensors: Tensors =
            serde_json::from_str(r#"{"model": "m", "inputs": [{"name": "x", "datatype": "INT64", "shape": [2], "data": [-9223372036854775808, 1.5]}]}"#)
                .unwrap();
        let text = String::from_utf8(infer_request(&tensors, false).unwrap()).unwrap();
        assert_eq!(
            text,
            r#"{"inputs":[{"name":"x","shape":[2],"datatype":"INT64","data":[-9223372036854775808,1.5]}]}"#
        );
    }
}
