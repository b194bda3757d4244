//! Converts borrowed values to ones that outlive their body: long elements share its memory, and
//! the rest is copied once.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use tensorgate_values::Tensor;
use tensorgate_values::tensor::{DataFault, Parameter, ParameterValue};
use tensorgate_values::tensor_data::{SharedPart, TensorData};

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

/// Tensors that outlive `body`, which they were read from.
///
/// One part keeps all of a body in memory. So its memory is shared only if little else is in it,
/// such as the head of a message; otherwise the data is copied.
pub fn tensors(tensors: Vec<Tensor<'_>>, body: &Bytes) -> Vec<Tensor<'static>> {
    let part_bytes = |tensor: &Tensor<'_>| match &tensor.data {
        Ok(TensorData::Borrowed(part)) if range_of(body, part).is_some() => part.len(),
        _ => 0,
    };
    // No two tensors have bytes in common. If they had, the bytes would be counted twice.
    let parts = tensors.iter().map(part_bytes);
    let parts = parts.fold(0_usize, usize::saturating_add);
    let mut beside_bytes = body.len().saturating_sub(parts);
    let shares = beside_bytes <= parts / MIN_SHARED_RATIO;
    let own = |one: Tensor<'_>| {
        let is_part = part_bytes(&one) > 0;
        let beside_bytes = if is_part {
            core::mem::take(&mut beside_bytes)
        } else {
            0
        };
        tensor(one, |part| match range_of(body, part) {
            Some(range) if shares && is_part => TensorData::Shared(SharedPart {
                part: Arc::new(body.slice(range)),
                beside_bytes,
            }),
            _ => TensorData::Owned(part.to_vec()),
        })
    };
    tensors.into_iter().map(own).collect()
}

/// How much larger than the rest of a body the data must be, for the body to stay in memory.
const MIN_SHARED_RATIO: usize = 8;

/// A tensor that owns its parameters, and its data or a share of it.
fn tensor(tensor: Tensor<'_>, keep: impl FnOnce(&[u8]) -> TensorData<'static>) -> Tensor<'static> {
    let Tensor {
        name,
        datatype,
        shape,
        parameters,
        data,
    } = tensor;
    let data = data.and_then(|data| match data {
        TensorData::Owned(bytes) => Ok(TensorData::Owned(bytes)),
        TensorData::Shared(shared) => Ok(TensorData::Shared(shared)),
        TensorData::Borrowed(part) => Ok(keep(part)),
        // Only a filter has such elements, which it sends nowhere.
        TensorData::Checked(_) => Err(DataFault::Missing),
    });
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
    match range_of(body, part) {
        Some(range) => body.slice(range),
        None => Bytes::copy_from_slice(part),
    }
}

/// Where bytes are in a body's memory. `None` if they are not a part of it.
fn range_of(body: &Bytes, part: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(body.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= body.len()).then_some(start..end)
}

/// Elements as bytes. Only borrowed ones are copied.
pub fn bytes(data: TensorData<'_>) -> Bytes {
    struct Owner(SharedPart);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            (*self.0.part).as_ref()
        }
    }
    match data {
        TensorData::Owned(bytes) => Bytes::from(bytes),
        TensorData::Shared(shared) => Bytes::from_owner(Owner(shared)),
        TensorData::Borrowed(part) => Bytes::copy_from_slice(part),
        // No tensor that is kept has such elements.
        TensorData::Checked(_) => Bytes::new(),
    }
}

/// The bytes of tensors' data and parameters, without names and dimensions.
pub fn data_bytes(tensors: &[Tensor<'_>]) -> usize {
    bytes_of(tensors, |data| data.len())
}

/// How many bytes stay in memory because of tensors' data and parameters.
pub fn memory_bytes(tensors: &[Tensor<'_>]) -> usize {
    bytes_of(tensors, |data| data.memory_bytes())
}

/// How many of [`memory_bytes`] are shared with the body that the tensors were read from.
pub fn shared_bytes(tensors: &[Tensor<'_>]) -> usize {
    let bytes = tensors.iter().map(|tensor| match &tensor.data {
        Ok(data @ TensorData::Shared(_)) => data.memory_bytes(),
        _ => 0,
    });
    bytes.fold(0, usize::saturating_add)
}

fn bytes_of(tensors: &[Tensor<'_>], data_bytes: impl Fn(&TensorData<'_>) -> usize) -> usize {
    let bytes = tensors.iter().map(|tensor| {
        let data = tensor.data.as_ref().map_or(0, &data_bytes);
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
    #![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]
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

    fn input(data: TensorData<'_>) -> Tensor<'_> {
        Tensor {
            name: "x".into(),
            datatype: "UINT8".into(),
            shape: vec![1],
            parameters: vec![],
            data: Ok(data),
        }
    }

    #[test]
    fn elements_share_a_body_with_little_else_and_are_copied_out_of_others() {
        let body = Bytes::from(vec![7; 1_000]);
        for (places, memory_bytes) in [
            (&[(100, 1_000)][..], Some(1_000)),
            (&[(100, 500), (500, 1_000)], Some(1_000)),
            (&[(200, 1_000)], None),
            (&[(100, 500), (500, 900)], None),
            (&[(0, 0)], None),
        ] {
            let parts = places.iter().map(|(start, end)| &body[*start..*end]);
            let inputs = parts.clone().map(|part| input(part.into()));
            let owned = tensors(inputs.collect(), &body);
            let data_bytes: usize = parts.clone().map(<[u8]>::len).sum();
            assert_eq!(super::data_bytes(&owned), data_bytes, "{places:?}");
            let expected = memory_bytes.unwrap_or(data_bytes);
            assert_eq!(super::memory_bytes(&owned), expected, "{places:?}");
            assert_eq!(
                shared_bytes(&owned),
                memory_bytes.unwrap_or(0),
                "{places:?}"
            );
            for (tensor, part) in owned.into_iter().zip(parts) {
                let data = tensor.data.unwrap();
                assert_eq!(*data, *part);
                assert_eq!(data.as_ptr() == part.as_ptr(), memory_bytes.is_some());
                let is_shared = bytes(data).as_ptr() == part.as_ptr();
                assert_eq!(is_shared, memory_bytes.is_some());
            }
        }
    }

    #[test]
    fn elements_that_are_no_part_of_a_body_are_moved_or_copied() {
        let body = Bytes::from(vec![7; 1_000]);
        let converted = vec![1; 900];
        let address = converted.as_ptr();
        let owned = tensors(vec![input(converted.into())], &body);
        assert_eq!(owned[0].data.as_ref().unwrap().as_ptr(), address);
        let elsewhere = [7; 990];
        let owned = tensors(vec![input(elsewhere[..].into())], &body);
        assert_eq!(shared_bytes(&owned), 0);
    }
}
