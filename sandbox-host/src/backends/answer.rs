//! A backend's response to tensors, read as untrusted input. It must match the request (ID, model,
//! version), and each output must have exactly one form. The pipeline checks whether the tensors
//! fit the contract. Response parameters are dropped, because no rule can name one.

use std::borrow::Cow;

use bytes::Bytes;
use tensorgate_policy::{Datatype, Tensor};
use tensorgate_wire::proto::model_infer_response::InferOutputTensor;
use tensorgate_wire::proto::{InferTensorContents, ModelInferResponse};

use super::BackendError;

/// The tensors of a response to the request `id` for `model` at `version`.
pub fn tensors(
    answer: ModelInferResponse,
    id: &str,
    model: &str,
    version: &str,
) -> Result<Vec<Tensor<'static>>, BackendError> {
    let ModelInferResponse {
        model_name,
        model_version,
        id: echoed,
        parameters: _,
        outputs,
        raw_output_contents,
    } = answer;
    if echoed != id {
        return Err(fault(format!("answers request {echoed:?}, not {id:?}")));
    }
    if model_name != model {
        return Err(fault(format!(
            "answers for model {model_name:?}, not {model:?}"
        )));
    }
    // Servers without versions leave the version empty. A different version means a response to
    // another request.
    if !model_version.is_empty() && model_version != version {
        return Err(fault(format!(
            "answers for version {model_version:?}, not {version:?}"
        )));
    }
    if raw_output_contents.is_empty() {
        return outputs.into_iter().map(typed).collect();
    }
    if raw_output_contents.len() != outputs.len() {
        return Err(fault(format!(
            "{} raw contents for {} outputs",
            raw_output_contents.len(),
            outputs.len()
        )));
    }
    outputs
        .into_iter()
        .zip(raw_output_contents)
        .map(|(output, data)| raw(output, data))
        .collect()
}

fn fault(cause: String) -> BackendError {
    BackendError::Fault(cause)
}

fn raw(output: InferOutputTensor, data: Bytes) -> Result<Tensor<'static>, BackendError> {
    // MLServer also sets an empty message of typed contents beside raw ones.
    if output
        .contents
        .as_ref()
        .is_some_and(|contents| count(contents) > 0)
    {
        return Err(fault(format!(
            "output {:?} has both raw and typed contents",
            output.name
        )));
    }
    Ok(tensor(output, Vec::from(data)))
}

/// Converts typed contents to raw form. Only the field of the output's datatype may have elements.
fn typed(mut output: InferOutputTensor) -> Result<Tensor<'static>, BackendError> {
    let contents = output.contents.take().unwrap_or_default();
    let total = count(&contents);
    let InferTensorContents {
        bool_contents,
        int_contents,
        int64_contents,
        uint_contents,
        uint64_contents,
        fp32_contents,
        fp64_contents,
        bytes_contents,
    } = contents;
    let datatype = Datatype::from_name(&output.datatype);
    let (used, data) = match datatype {
        Some(Datatype::Bool) => (
            bool_contents.len(),
            Some(bool_contents.into_iter().map(u8::from).collect()),
        ),
        Some(Datatype::Int8) => (
            int_contents.len(),
            to_le_bytes(int_contents, |value| {
                i8::try_from(value).ok().map(i8::to_le_bytes)
            }),
        ),
        Some(Datatype::Int16) => (
            int_contents.len(),
            to_le_bytes(int_contents, |value| {
                i16::try_from(value).ok().map(i16::to_le_bytes)
            }),
        ),
        Some(Datatype::Int32) => (
            int_contents.len(),
            to_le_bytes(int_contents, |value| Some(value.to_le_bytes())),
        ),
        Some(Datatype::Int64) => (
            int64_contents.len(),
            to_le_bytes(int64_contents, |value| Some(value.to_le_bytes())),
        ),
        Some(Datatype::Uint8) => (
            uint_contents.len(),
            to_le_bytes(uint_contents, |value| {
                u8::try_from(value).ok().map(u8::to_le_bytes)
            }),
        ),
        Some(Datatype::Uint16) => (
            uint_contents.len(),
            to_le_bytes(uint_contents, |value| {
                u16::try_from(value).ok().map(u16::to_le_bytes)
            }),
        ),
        Some(Datatype::Uint32) => (
            uint_contents.len(),
            to_le_bytes(uint_contents, |value| Some(value.to_le_bytes())),
        ),
        Some(Datatype::Uint64) => (
            uint64_contents.len(),
            to_le_bytes(uint64_contents, |value| Some(value.to_le_bytes())),
        ),
        Some(Datatype::Fp32) => (
            fp32_contents.len(),
            to_le_bytes(fp32_contents, |value| Some(value.to_le_bytes())),
        ),
        Some(Datatype::Fp64) => (
            fp64_contents.len(),
            to_le_bytes(fp64_contents, |value| Some(value.to_le_bytes())),
        ),
        Some(Datatype::Bytes) => (bytes_contents.len(), length_prefixed(&bytes_contents)),
        // The protocol has no typed field for the 16-bit floats.
        Some(Datatype::Fp16 | Datatype::Bf16) | None => (0, None),
    };
    match data {
        Some(data) if used == total => Ok(tensor(output, data)),
        Some(_) => Err(fault(format!(
            "output {:?} has elements of a datatype other than {}",
            output.name, output.datatype
        ))),
        None => Err(fault(format!(
            "output {:?} of datatype {:?} cannot have typed contents",
            output.name, output.datatype
        ))),
    }
}

/// The number of elements in all fields.
fn count(contents: &InferTensorContents) -> usize {
    [
        contents.bool_contents.len(),
        contents.int_contents.len(),
        contents.int64_contents.len(),
        contents.uint_contents.len(),
        contents.uint64_contents.len(),
        contents.fp32_contents.len(),
        contents.fp64_contents.len(),
        contents.bytes_contents.len(),
    ]
    .into_iter()
    .fold(0, usize::saturating_add)
}

/// Converts elements to little-endian bytes. Returns `None` if one does not fit.
fn to_le_bytes<T, const N: usize>(
    values: Vec<T>,
    bytes: impl Fn(T) -> Option<[u8; N]>,
) -> Option<Vec<u8>> {
    let mut data = Vec::with_capacity(values.len().saturating_mul(N));
    for value in values {
        data.extend_from_slice(&bytes(value)?);
    }
    Some(data)
}

/// Converts byte strings to raw form, each with its length before it.
fn length_prefixed(items: &[Bytes]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    for item in items {
        data.extend_from_slice(&u32::try_from(item.len()).ok()?.to_le_bytes());
        data.extend_from_slice(item);
    }
    Some(data)
}

fn tensor(output: InferOutputTensor, data: Vec<u8>) -> Tensor<'static> {
    let InferOutputTensor {
        name,
        datatype,
        shape,
        parameters: _,
        contents: _,
    } = output;
    Tensor {
        name: Cow::Owned(name),
        datatype: Cow::Owned(datatype),
        shape,
        parameters: Vec::new(),
        data: Ok(data.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests"
    )]
    use super::*;

    fn answer(datatype: &str, contents: InferTensorContents) -> ModelInferResponse {
        let output = InferOutputTensor {
            name: "out".into(),
            datatype: datatype.into(),
            shape: vec![2],
            contents: Some(contents),
            ..InferOutputTensor::default()
        };
        ModelInferResponse {
            model_name: "m".into(),
            model_version: "1".into(),
            id: "q".into(),
            outputs: vec![output],
            ..ModelInferResponse::default()
        }
    }

    fn check(answer: ModelInferResponse, expected: Result<&[u8], &str>) {
        match (tensors(answer, "q", "m", "1"), expected) {
            (Ok(tensors), Ok(data)) => assert_eq!(tensors[0].data.as_ref().unwrap().as_ref(), data),
            (Err(BackendError::Fault(cause)), Err(text)) => {
                assert!(cause.contains(text), "{cause}")
            }
            (got, expected) => panic!("got {got:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn typed_contents_become_raw_ones_or_a_fault() {
        let ints = |int_contents| InferTensorContents {
            int_contents,
            ..InferTensorContents::default()
        };
        check(answer("INT8", ints(vec![-1, 2])), Ok(&[0xff, 2]));
        check(answer("INT16", ints(vec![-1, 2])), Ok(&[0xff, 0xff, 2, 0]));
        check(answer("INT8", ints(vec![128, 0])), Err("cannot have"));
        check(
            answer("FP32", ints(vec![1, 2])),
            Err("a datatype other than"),
        );
        check(
            answer("FP16", InferTensorContents::default()),
            Err("cannot have"),
        );
        check(
            answer("NOPE", InferTensorContents::default()),
            Err("cannot have"),
        );
        let text = InferTensorContents {
            bytes_contents: vec![Bytes::from_static(b"ab"), Bytes::new()],
            ..Default::default()
        };
        check(
            answer("BYTES", text),
            Ok(&[2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0]),
        );
        let floats = InferTensorContents {
            fp32_contents: vec![1.0],
            ..Default::default()
        };
        check(answer("FP32", floats), Ok(&1.0_f32.to_le_bytes()));
    }

    #[test]
    fn an_answer_to_another_question_is_a_fault() {
        let good = || {
            let mut answer = answer("UINT8", InferTensorContents::default());
            answer.outputs[0].contents = None;
            answer.raw_output_contents = vec![Bytes::from_static(&[1, 2])];
            answer
        };
        check(good(), Ok(&[1, 2]));
        check(
            ModelInferResponse {
                model_version: String::new(),
                ..good()
            },
            Ok(&[1, 2]),
        );
        check(
            ModelInferResponse {
                id: "other".into(),
                ..good()
            },
            Err("answers request"),
        );
        check(
            ModelInferResponse {
                id: String::new(),
                ..good()
            },
            Err("answers request"),
        );
        check(
            ModelInferResponse {
                model_name: "other".into(),
                ..good()
            },
            Err("answers for model"),
        );
        check(
            ModelInferResponse {
                model_version: "2".into(),
                ..good()
            },
            Err("answers for version"),
        );
        let two = vec![Bytes::new(), Bytes::new()];
        check(
            ModelInferResponse {
                raw_output_contents: two,
                ..good()
            },
            Err("2 raw contents for 1 outputs"),
        );
        let beside = |contents| {
            let mut answer = good();
            answer.outputs[0].contents = Some(contents);
            answer
        };
        check(beside(InferTensorContents::default()), Ok(&[1, 2]));
        let elements = InferTensorContents {
            uint_contents: vec![1, 2],
            ..InferTensorContents::default()
        };
        check(beside(elements), Err("both raw and typed"));
    }
}
