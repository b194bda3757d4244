//! OIP's binary data extension: a JSON document, followed by the raw elements of inputs that
//! declare a size, in order. A body whose parts do not add up is rejected.

use tensorgate_policy::tensor::ParameterValue;
use tensorgate_policy::{Datatype, InferRequest};

use super::request::{Document, Input, document};
use crate::fault::{BodyFault, quote};
use crate::headers::JSON_LENGTH;
use crate::raw_contents::{Budget, check_blob};

/// Parameter with the size of an input's elements.
const SIZE: &str = "binary_data_size";

/// Field in the fault of a request without JSON.
const NO_JSON: &str = "inference-header-content-length is 0, and the name, datatype and shape of the input must be said in JSON";

/// Reads a request with `json_bytes` of JSON and the blobs after it. Raw elements are borrowed.
pub(crate) fn infer_binary(body: &[u8], json_bytes: usize) -> Result<InferRequest<'_>, BodyFault> {
    let (json, mut blobs) = body
        .split_at_checked(json_bytes)
        .ok_or_else(|| BodyFault::field(JSON_LENGTH, "is past the end of the body"))?;
    let mut budget = Budget::new();
    let (Document { inputs, rest }, sizes) = head(json, &mut budget)?;
    // Before blobs are read: their boundaries must not depend on their contents.
    add_up(&sizes, blobs.len())?;
    let mut tensors = Vec::with_capacity(inputs.len());
    for (input, size) in inputs.into_iter().zip(sizes) {
        tensors.push(match size {
            Some(bytes) => {
                let (blob, rest) = blobs.split_at_checked(bytes).ok_or_else(short)?;
                blobs = rest;
                let datatype = Datatype::from_name(&input.datatype);
                input.with(check_blob(datatype, blob).map(|()| blob.into()))
            }
            None => input.convert(&mut budget)?,
        });
    }
    Ok(rest.with(tensors))
}

/// Reads the JSON part and the sizes of the inputs' blobs; `None` for elements in the JSON.
pub(super) fn head<'a>(
    json: &'a [u8],
    budget: &mut Budget,
) -> Result<(Document<'a>, Vec<Option<usize>>), BodyFault> {
    if json.is_empty() {
        return Err(no_json());
    }
    let mut document = document(json, &[], budget)?;
    let sizes = document
        .inputs
        .iter_mut()
        .map(take_size)
        .collect::<Result<_, _>>()?;
    Ok((document, sizes))
}

/// Triton's raw-only form, without name, datatype and shape. The fault says what is missing,
/// because such a request is valid for Triton.
pub(super) fn no_json() -> BodyFault {
    BodyFault::field(NO_JSON, "rather than follow from the body's size")
}

/// Checks that blobs of these sizes are all that follows the JSON.
pub(super) fn add_up(sizes: &[Option<usize>], blob_bytes: usize) -> Result<(), BodyFault> {
    let total = sizes
        .iter()
        .flatten()
        .try_fold(0_usize, |total, size| total.checked_add(*size));
    match total {
        Some(total) if total == blob_bytes => Ok(()),
        Some(total) if total < blob_bytes => Err(left_over()),
        _ => Err(short()),
    }
}

/// Bytes after the last tensor.
pub(super) fn left_over() -> BodyFault {
    BodyFault::field(SIZE, "leaves bytes of the body over")
}

/// The body ends before the last tensor.
pub(super) fn short() -> BodyFault {
    BodyFault::field(SIZE, "runs past the end of the body")
}

/// Removes the size of an input's blob from its parameters. Elements must be in one place only.
fn take_size(input: &mut Input<'_>) -> Result<Option<usize>, BodyFault> {
    let Some(index) = input
        .parameters
        .iter()
        .position(|parameter| parameter.name == SIZE)
    else {
        return Ok(None);
    };
    let field = |name: &str| format!("input {}: parameter {}", quote(name), quote(SIZE));
    let size = match input.parameters.remove(index).value {
        ParameterValue::Int64(size) => usize::try_from(size).ok(),
        ParameterValue::Uint64(size) => usize::try_from(size).ok(),
        ParameterValue::Bool(_) | ParameterValue::Double(_) | ParameterValue::String(_) => None,
    };
    let size = size.ok_or_else(|| BodyFault::field(field(&input.name), "is no number of bytes"))?;
    if input.data.is_some() {
        return Err(BodyFault::field(
            field(&input.name),
            "cannot be combined with data",
        ));
    }
    Ok(Some(size))
}
