//! Outputs as one JSON document, by row or as a whole. TF Serving and TorchServe share this form.

use tensorgate_policy::Tensor;
use tensorgate_policy::contract::MAX_RANK;
use tensorgate_policy::tensor::InferResponse;

use super::Unencodable;
use super::answer_form::AnswerForm;
use super::nested_lists::{Elements, Texts};
use crate::json_text::{list, string};

/// String outputs with this suffix are bytes, written in base64.
const BYTES_SUFFIX: &str = "_bytes";

/// `{"predictions": …}` for a response by row. Otherwise the outputs as a whole, in a member with
/// this name or without one.
pub(super) fn infer_json(
    response: &InferResponse,
    form: &AnswerForm,
    member: Option<&str>,
) -> Result<Vec<u8>, Unencodable> {
    let outputs = &response.outputs;
    let rows = match form.by_column {
        true => None,
        false => Some(rows_in_common(outputs).ok_or(Unencodable::Rows)?),
    };
    document(outputs, rows, member)
}

/// Common number of rows; `None` if tensors differ.
fn rows_in_common(outputs: &[Tensor<'_>]) -> Option<i64> {
    let mut rows = outputs.iter().map(|output| output.shape.first().copied());
    let first = rows.next()??;
    rows.all(|rows| rows == Some(first)).then_some(first)
}

fn document(
    outputs: &[Tensor<'_>],
    rows: Option<i64>,
    member: Option<&str>,
) -> Result<Vec<u8>, Unencodable> {
    if outputs.is_empty() || outputs.iter().any(|output| output.shape.len() > MAX_RANK) {
        return Err(Unencodable::Tensor);
    }
    let mut elements = outputs
        .iter()
        .map(|output| {
            let tagged = output.name.ends_with(BYTES_SUFFIX);
            let texts = if tagged { Texts::Tagged } else { Texts::Plain };
            Elements::of(output, texts)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let mut json = String::new();
    let Some(rows) = rows else {
        let Some(member) = member else {
            named(&mut json, outputs, &mut elements, |shape| Some(shape))?;
            return Ok(json.into_bytes());
        };
        json.push('{');
        string(&mut json, member);
        json.push(':');
        named(&mut json, outputs, &mut elements, |shape| Some(shape))?;
        json.push('}');
        return Ok(json.into_bytes());
    };
    json.push_str("{\"predictions\":");
    let mut written = Ok(());
    list(&mut json, 0..rows, |json, _| {
        if written.is_ok() {
            written = named(json, outputs, &mut elements, |shape| shape.get(1..));
        }
    });
    written?;
    json.push('}');
    Ok(json.into_bytes())
}

/// Writes the next value of each output, with names if there are several.
fn named(
    json: &mut String,
    outputs: &[Tensor<'_>],
    elements: &mut [Elements<'_>],
    part: impl Fn(&[i64]) -> Option<&[i64]>,
) -> Result<(), Unencodable> {
    if let ([output], [elements]) = (outputs, &mut *elements) {
        return elements.value(json, part(&output.shape).ok_or(Unencodable::Tensor)?);
    }
    for (index, (output, elements)) in outputs.iter().zip(elements).enumerate() {
        json.push(if index == 0 { '{' } else { ',' });
        string(json, &output.name);
        json.push(':');
        elements.value(json, part(&output.shape).ok_or(Unencodable::Tensor)?)?;
    }
    json.push('}');
    Ok(())
}

#[cfg(test)]
mod tests;
