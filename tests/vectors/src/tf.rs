//! An inference request as TF Serving's clients write it: JSON by row or by column, and
//! `PredictRequest`. Shares no code with the decoder under test. It is a mistake to ask for what
//! these cannot express: ids, parameters except a signature's name, and in JSON a datatype other
//! than the contract's.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::file::{Input, Tensors};
use crate::json;
use crate::lower::Model;
use crate::protobuf::{
    FIXED32, FIXED64, LENGTH_DELIMITED, VARINT, lists, put_bytes, put_tag, put_varint,
};
use crate::value::item;

/// The gRPC method.
pub(crate) const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";

fn is_number(version: &str) -> bool {
    version.bytes().all(|byte| byte.is_ascii_digit())
}

/// The path over REST.
pub(crate) fn path(tensors: &Tensors) -> Result<String, String> {
    let version = match tensors.version.as_deref() {
        None => String::new(),
        Some("") => return Err("a path has no empty version: name the protocols".into()),
        Some(number) if is_number(number) => format!("/versions/{number}"),
        Some(label) => format!("/labels/{label}"),
    };
    Ok(format!("/v1/models/{}{version}:predict", tensors.model))
}

/// Rejects what neither TF Serving nor TorchServe has.
pub(crate) fn no_ids(tensors: &Tensors) -> Result<(), String> {
    let parameters = |input: &Input| !input.parameters.is_empty();
    if tensors.id.is_some() || tensors.inputs.iter().any(parameters) {
        return Err("there are no ids and no parameters of tensors: name the protocols".into());
    }
    Ok(())
}

/// The one supported parameter.
fn signature(tensors: &Tensors) -> Result<Option<&str>, String> {
    no_ids(tensors)?;
    let mut parameters = tensors.parameters.iter();
    match (parameters.next(), parameters.next()) {
        (None, _) => Ok(None),
        (Some((name, Value::String(value))), None) if name == "signature_name" => Ok(Some(value)),
        _ => Err("TF Serving has no parameters: name the protocols".into()),
    }
}

/// The document.
pub(crate) fn json_request(
    tensors: &Tensors,
    model: Option<&Model>,
    by_row: bool,
) -> Result<Vec<u8>, String> {
    let mut members = Vec::new();
    if let Some(signature) = signature(tensors)? {
        members.push(format!("\"signature_name\":{}", Value::from(signature)));
    }
    let value = value(tensors, model, by_row)?;
    let key = if by_row { "instances" } else { "inputs" };
    members.push(format!("\"{key}\":{value}"));
    Ok(format!("{{{}}}", members.join(",")).into_bytes())
}

/// Rejects what JSON without datatypes cannot express for a model.
pub(crate) fn untyped(tensors: &Tensors, model: Option<&Model>) -> Result<(), String> {
    if !tensors.outputs.is_empty() {
        return Err("this JSON names no outputs: name the protocols".into());
    }
    let half = |datatype: &str| matches!(datatype, "FP16" | "BF16");
    let inputs = || model.into_iter().flat_map(|model| &model.inputs);
    let halves = inputs().any(|taken| half(&taken.datatype));
    if halves || tensors.inputs.iter().any(|input| half(&input.datatype)) {
        return Err("this JSON has no half floats: name the protocols".into());
    }
    for input in &tensors.inputs {
        let mut taken = inputs().filter(|taken| taken.name == input.name);
        if taken.any(|taken| taken.datatype != input.datatype) {
            return Err("this JSON names no datatype: name the protocols".into());
        }
    }
    Ok(())
}

/// Whether it is the model's only input.
pub(crate) fn is_only(tensors: &Tensors, model: Option<&Model>) -> bool {
    match (
        model.map(|model| model.inputs.as_slice()),
        tensors.inputs.as_slice(),
    ) {
        (Some([taken]), [input]) => taken.name == input.name,
        _ => false,
    }
}

/// Rows, or an object of whole tensors.
pub(crate) fn value(
    tensors: &Tensors,
    model: Option<&Model>,
    by_row: bool,
) -> Result<String, String> {
    untyped(tensors, model)?;
    let names: BTreeSet<_> = tensors.inputs.iter().map(|input| &input.name).collect();
    if names.len() < tensors.inputs.len() {
        return Err("an object has no name twice: name the protocols".into());
    }
    match tensors.inputs.as_slice() {
        // A model's only input needs no name.
        [input] if by_row && is_only(tensors, model) => {
            if input.shape.is_empty() {
                return Err("a row has a dim: name the protocols".into());
            }
            folded(input, &input.shape, &elements(input, by_row)?)
        }
        inputs if by_row => rows(inputs),
        inputs => {
            let values = inputs
                .iter()
                .map(|input| Ok((&input.name, whole(input)?)))
                .collect::<Result<Vec<_>, String>>()?;
            Ok(object(values))
        }
    }
}

/// A whole tensor, its bytes as text or as base64 strings.
pub(crate) fn with_texts(input: &Input, base64: bool) -> Result<String, String> {
    folded(input, &input.shape, &texts(input, base64)?)
}

/// The same, row by row.
pub(crate) fn rows_with_texts(input: &Input, base64: bool) -> Result<Vec<String>, String> {
    parts(input, &texts(input, base64)?)
}

fn texts(input: &Input, base64: bool) -> Result<Vec<String>, String> {
    if !base64 {
        return json::scalars(input, false);
    }
    let scalars = json::scalars(input, true)?;
    let elements = input.elements()?;
    let coded = scalars.into_iter().zip(&elements);
    Ok(coded
        .map(|(scalar, element)| match item(element) {
            Some(bytes) => format!("\"{}\"", STANDARD.encode(bytes)),
            None => scalar,
        })
        .collect())
}

/// An input's rows; there must be at least one.
fn parts(input: &Input, elements: &[String]) -> Result<Vec<String>, String> {
    let odd = || "an input has no whole rows: name the protocols".to_owned();
    let (count, inner) = input.shape.split_first().ok_or_else(odd)?;
    let count = usize::try_from(*count).map_err(|_| odd())?;
    let each = elements.len().checked_div(count).ok_or_else(odd)?;
    if each.checked_mul(count) != Some(elements.len()) {
        return Err(odd());
    }
    let mut rest = elements;
    let mut parts = Vec::new();
    for _ in 0..count {
        let (part, after) = rest.split_at_checked(each).ok_or_else(odd)?;
        rest = after;
        parts.push(folded(input, inner, part)?);
    }
    Ok(parts)
}

/// A whole tensor; bytes in base64.
pub(crate) fn whole(input: &Input) -> Result<String, String> {
    folded(input, &input.shape, &elements(input, false)?)
}

fn object<'t>(members: impl IntoIterator<Item = (&'t String, String)>) -> String {
    let members: Vec<_> = members
        .into_iter()
        .map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn rows(inputs: &[Input]) -> Result<String, String> {
    let mut rows: Vec<Vec<(&String, String)>> = Vec::new();
    for (index, input) in inputs.iter().enumerate() {
        let parts = parts(input, &elements(input, true)?)?;
        if index == 0 {
            rows = vec![Vec::new(); parts.len()];
        }
        if parts.len() != rows.len() {
            return Err("not every input has as many rows: name the protocols".into());
        }
        for (row, part) in rows.iter_mut().zip(parts) {
            row.push((&input.name, part));
        }
    }
    if rows.is_empty() {
        return Err("no inputs have no rows: name the protocols".into());
    }
    let rows: Vec<_> = rows.into_iter().map(object).collect();
    Ok(format!("[{}]", rows.join(",")))
}

/// Nested as a shape says. Dims after one that is 0 cannot be expressed.
fn folded(input: &Input, shape: &[i64], elements: &[String]) -> Result<String, String> {
    let last = shape.len().saturating_sub(1);
    if shape.iter().take(last).any(|dim| *dim < 1) {
        return Err(format!(
            "no lists say the shape of {:?}: name the protocols",
            input.name
        ));
    }
    if shape.last() == Some(&0) {
        let lists = shape.iter().take(last).product::<i64>();
        let lists = usize::try_from(lists).map_err(|_| "too many lists".to_owned())?;
        if !elements.is_empty() {
            return Err("elements of none".into());
        }
        return json::fold(
            shape.get(..last).unwrap_or_default(),
            &vec!["[]".to_owned(); lists],
        );
    }
    json::fold(shape, elements)
}

/// Elements as JSON. Bytes are text where `text` is set and they are UTF-8, else base64.
fn elements(input: &Input, text: bool) -> Result<Vec<String>, String> {
    let scalars = json::scalars(input, true)?;
    let elements = input.elements()?;
    let coded = scalars.into_iter().zip(&elements);
    Ok(coded
        .map(|(scalar, element)| match item(element) {
            Some(bytes) if input.datatype == "BYTES" && !(text && element.is_string()) => {
                format!("{{\"b64\":\"{}\"}}", STANDARD.encode(bytes))
            }
            _ => scalar,
        })
        .collect())
}

/// A `PredictRequest`; elements in typed lists or in their memory layout.
pub(crate) fn predict_request(tensors: &Tensors, typed: bool) -> Result<Vec<u8>, String> {
    let mut spec = Vec::new();
    put_bytes(&mut spec, 1, tensors.model.as_bytes());
    match tensors.version.as_deref() {
        Some(number) if is_number(number) && !number.is_empty() => {
            let number: i64 = number
                .parse()
                .map_err(|_| "no version: name the protocols")?;
            let mut wrapped = Vec::new();
            put_tag(&mut wrapped, 1, VARINT);
            put_varint(&mut wrapped, number.cast_unsigned());
            put_bytes(&mut spec, 2, &wrapped);
        }
        Some(label) => put_bytes(&mut spec, 4, label.as_bytes()),
        None => {}
    }
    if let Some(signature) = signature(tensors)? {
        put_bytes(&mut spec, 3, signature.as_bytes());
    }
    let mut out = Vec::new();
    put_bytes(&mut out, 1, &spec);
    for input in &tensors.inputs {
        let mut entry = Vec::new();
        put_bytes(&mut entry, 1, input.name.as_bytes());
        put_bytes(&mut entry, 2, &tensor(input, typed)?);
        put_bytes(&mut out, 2, &entry);
    }
    for output in &tensors.outputs {
        put_bytes(&mut out, 3, output.as_bytes());
    }
    Ok(out)
}

fn tensor(input: &Input, typed: bool) -> Result<Vec<u8>, String> {
    let (number, list, wire) = match input.datatype.as_str() {
        "FP32" => (1, 5, FIXED32),
        "FP64" => (2, 6, FIXED64),
        "INT32" => (3, 7, VARINT),
        "UINT8" => (4, 7, VARINT),
        "INT16" => (5, 7, VARINT),
        "INT8" => (6, 7, VARINT),
        "BYTES" => (7, 8, LENGTH_DELIMITED),
        "INT64" => (9, 10, VARINT),
        "BOOL" => (10, 11, VARINT),
        "BF16" => (14, 13, VARINT),
        "UINT16" => (17, 7, VARINT),
        "FP16" => (19, 13, VARINT),
        "UINT32" => (22, 16, VARINT),
        "UINT64" => (23, 17, VARINT),
        other => {
            return Err(format!(
                "TensorFlow has no {other} here: name the protocols"
            ));
        }
    };
    let mut out = Vec::new();
    put_tag(&mut out, 1, VARINT);
    put_varint(&mut out, number);
    let mut shape = Vec::new();
    for dim in &input.shape {
        let mut size = Vec::new();
        if *dim != 0 {
            put_tag(&mut size, 1, VARINT);
            put_varint(&mut size, dim.cast_unsigned());
        }
        put_bytes(&mut shape, 2, &size);
    }
    put_bytes(&mut out, 2, &shape);
    if typed {
        if input.bytes.is_some() {
            return Err("`bytes` are no list: name the protocols".into());
        }
        out.extend(lists(
            list,
            wire,
            &input.datatype,
            &input.elements()?,
            true,
        )?);
    } else if input.datatype == "BYTES" {
        return Err("strings have no content of their own: name the protocols".into());
    } else {
        put_bytes(&mut out, 4, &input.raw()?);
    }
    Ok(out)
}
