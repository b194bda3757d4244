//! Converts borrowed values to ones that outlive their body, with one copy each.

use std::borrow::Cow;

use bytes::Bytes;
use tensorgate_policy::Tensor;
use tensorgate_policy::tensor::{Parameter, ParameterValue};

fn text(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

/// A parameter that owns its text.
pub fn parameter(parameter: Parameter<'_>) -> Parameter<'static> {
    let Parameter { name, value } = parameter;
    let value = match value {
        ParameterValue::Bool(value) => ParameterValue::Bool(value),
        ParameterValue::Int64(value) => ParameterValue::Int64(value),
        ParameterValue::Uint64(value) => ParameterValue::Uint64(value),
        ParameterValue::Double(value) => ParameterValue::Double(value),
        ParameterValue::String(value) => ParameterValue::String(text(value)),
    };
    Parameter {
        name: text(name),
        value,
    }
}

/// A tensor that owns its data and its parameters.
pub fn tensor(tensor: Tensor<'_>) -> Tensor<'static> {
    let Tensor {
        name,
        datatype,
        shape,
        parameters,
        data,
    } = tensor;
    let data = data.map(|data| Cow::Owned(data.into_owned()));
    Tensor {
        name: text(name),
        datatype: text(datatype),
        shape,
        parameters: parameters.into_iter().map(parameter).collect(),
        data,
    }
}

/// A slice of a body that shares its memory. Anything else is copied.
pub fn slice_of(body: &Bytes, part: &[u8]) -> Bytes {
    let start = part.as_ptr().addr().checked_sub(body.as_ptr().addr());
    let range = start.and_then(|start| Some((start, start.checked_add(part.len())?)));
    match range {
        Some((start, end)) if end <= body.len() => body.slice(start..end),
        _ => Bytes::copy_from_slice(part),
    }
}

/// The bytes of tensors' data and parameters, without names and dimensions.
pub fn data_bytes(tensors: &[Tensor<'_>]) -> usize {
    let bytes = tensors.iter().map(|tensor| {
        let data = tensor.data.as_ref().map_or(0, |data| data.len());
        data.saturating_add(parameter_bytes(&tensor.parameters))
    });
    bytes.fold(0, usize::saturating_add)
}

fn parameter_bytes(parameters: &[Parameter<'_>]) -> usize {
    let bytes = parameters.iter().map(|parameter| match &parameter.value {
        ParameterValue::String(text) => parameter.name.len().saturating_add(text.len()),
        _ => parameter.name.len(),
    });
    bytes.fold(0, usize::saturating_add)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]
    use super::*;

    #[test]
    fn a_part_is_the_same_memory_and_anything_else_a_copy() {
        let body = Bytes::from(b"abcdef".to_vec());
        for range in [0..6, 2..4, 6..6, 0..0] {
            let one = slice_of(&body, &body[range.clone()]);
            assert_eq!(one, body[range.clone()]);
            assert_eq!(one.as_ptr(), body[range].as_ptr());
        }
        assert_eq!(slice_of(&body.slice(2..4), b"xyz"), "xyz");
    }
}
