//! Converts a ModelInfer message to tensors, and tensors to an answer. Pure functions: no I/O, no
//! waiting.
//!
//! Requests that this server could misinterpret are rejected: mixed typed and raw contents,
//! duplicate inputs, parameters that request shared memory or another representation.

use std::collections::HashMap;

use bytes::Bytes;
use tensorgate_wire::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use tensorgate_wire::proto::model_infer_response::InferOutputTensor;
use tensorgate_wire::proto::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
};

use crate::model::{MAX_RANK, Model, Port, RunError, Tensor};

/// The only supported datatype.
pub const DATATYPE: &str = "FP32";
/// Bytes of one element.
const ELEMENT_BYTES: usize = 4;

/// A parsed request.
#[derive(Debug)]
pub struct Job {
    /// The inputs, in the model's order.
    pub inputs: Vec<Tensor>,
    /// Indices of the requested outputs, in the requested order.
    pub wanted: Vec<usize>,
}

/// Why a request is rejected. Each of these is the caller's fault.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    /// Both kinds of contents.
    #[error("typed and raw contents are mixed")]
    Mixed,
    /// The numbers of inputs and raw contents differ.
    #[error("{inputs} inputs but {raw} raw contents")]
    RawCount {
        /// Inputs of the request.
        inputs: usize,
        /// Raw contents of the request.
        raw: usize,
    },
    /// An unknown input.
    #[error("input `{0}` is not one of the model's")]
    UnknownInput(String),
    /// A duplicate input.
    #[error("input `{0}` is given twice")]
    DuplicateInput(String),
    /// A missing input.
    #[error("input `{0}` is missing")]
    MissingInput(String),
    /// An unknown output.
    #[error("output `{0}` is not one of the model's")]
    UnknownOutput(String),
    /// A duplicate output.
    #[error("output `{0}` is requested twice")]
    DuplicateOutput(String),
    /// An unsupported parameter.
    #[error("parameter `{parameter}` of `{tensor}` is not supported")]
    Parameter {
        /// The tensor with the parameter.
        tensor: String,
        /// The parameter's name.
        parameter: String,
    },
    /// An unsupported datatype.
    #[error("input `{input}` is {datatype}, not {DATATYPE}")]
    Datatype {
        /// The input's name.
        input: String,
        /// Its declared datatype.
        datatype: String,
    },
    /// An invalid shape.
    #[error("input `{0}` has a dim below 1, or dims that no message can hold")]
    Dims(String),
    /// The numbers of elements and of the shape differ.
    #[error("input `{input}` has {found} elements, but its dims require {expected}")]
    Elements {
        /// The input's name.
        input: String,
        /// Whole elements in the contents.
        found: usize,
        /// Elements of the shape.
        expected: usize,
    },
    /// Contents in the field of another datatype.
    #[error("input `{0}` has contents of another datatype")]
    OtherContents(String),
    /// A shape that does not match the model.
    #[error(transparent)]
    Shape(#[from] RunError),
}

/// Parses a request by a model's signature. Parameters of the request itself (a priority, a
/// sequence) are ignored, because this server has no such features. Parameters of a tensor are
/// rejected, because they would change the meaning of its bytes.
pub fn job(model: &Model, request: ModelInferRequest) -> Result<Job, BadRequest> {
    let ModelInferRequest {
        model_name: _,
        model_version: _,
        id: _,
        parameters: _,
        inputs: sent,
        outputs,
        raw_input_contents: raw,
    } = request;
    let wanted = wanted(model, outputs)?;
    let is_raw = !raw.is_empty();
    if is_raw && sent.iter().any(|input| input.contents.is_some()) {
        return Err(BadRequest::Mixed);
    }
    if is_raw && raw.len() != sent.len() {
        return Err(BadRequest::RawCount {
            inputs: sent.len(),
            raw: raw.len(),
        });
    }

    let mut slots: Vec<Option<Tensor>> = model.inputs().iter().map(|_| None).collect();
    let mut raw = raw.into_iter();
    for input in sent {
        let raw = raw.next();
        let known = model
            .inputs()
            .iter()
            .zip(&mut slots)
            .find(|(port, _)| port.name == input.name);
        let Some((port, slot)) = known else {
            return Err(BadRequest::UnknownInput(input.name));
        };
        if slot.is_some() {
            return Err(BadRequest::DuplicateInput(input.name));
        }
        *slot = Some(tensor(port, input, raw)?);
    }
    let inputs = model
        .inputs()
        .iter()
        .zip(slots)
        .map(|(port, slot)| slot.ok_or_else(|| BadRequest::MissingInput(port.name.clone())))
        .collect::<Result<Vec<_>, _>>()?;
    let shapes: Vec<&[usize]> = inputs
        .iter()
        .map(|tensor| tensor.shape.as_slice())
        .collect();
    model.check(&shapes)?;
    Ok(Job { inputs, wanted })
}

/// The indices of the requested outputs; all of them if the request names none.
fn wanted(
    model: &Model,
    outputs: Vec<InferRequestedOutputTensor>,
) -> Result<Vec<usize>, BadRequest> {
    if outputs.is_empty() {
        return Ok((0..model.outputs().len()).collect());
    }
    let mut wanted = Vec::new();
    for InferRequestedOutputTensor { name, parameters } in outputs {
        refuse_parameters(&name, &parameters)?;
        let Some(index) = model.outputs().iter().position(|port| port.name == name) else {
            return Err(BadRequest::UnknownOutput(name));
        };
        if wanted.contains(&index) {
            return Err(BadRequest::DuplicateOutput(name));
        }
        wanted.push(index);
    }
    Ok(wanted)
}

/// Rejects `classification`, `shared_memory_region` and similar parameters.
fn refuse_parameters(
    tensor: &str,
    parameters: &HashMap<String, InferParameter>,
) -> Result<(), BadRequest> {
    match parameters.keys().min() {
        None => Ok(()),
        Some(parameter) => Err(BadRequest::Parameter {
            tensor: tensor.to_owned(),
            parameter: parameter.to_owned(),
        }),
    }
}

/// Parses one input.
fn tensor(port: &Port, input: InferInputTensor, raw: Option<Bytes>) -> Result<Tensor, BadRequest> {
    let InferInputTensor {
        name,
        datatype,
        shape,
        parameters,
        contents,
    } = input;
    refuse_parameters(&name, &parameters)?;
    if datatype != DATATYPE {
        return Err(BadRequest::Datatype {
            input: name,
            datatype,
        });
    }
    if shape.len() > MAX_RANK {
        let fault = format!("has {} dims, not {}", shape.len(), port.shape.len());
        return Err(BadRequest::Shape(RunError::Input { input: name, fault }));
    }
    let shape: Option<Vec<usize>> = shape
        .iter()
        .map(|dim| usize::try_from(*dim).ok().filter(|dim| *dim > 0))
        .collect();
    let size = |shape: &Vec<usize>| {
        let elements = shape
            .iter()
            .try_fold(1_usize, |product, dim| product.checked_mul(*dim))?;
        elements.checked_mul(ELEMENT_BYTES)?;
        Some(elements)
    };
    let Some((shape, expected)) = shape
        .and_then(|shape| Some((size(&shape)?, shape)))
        .map(|(size, shape)| (shape, size))
    else {
        return Err(BadRequest::Dims(name));
    };
    let elements = match raw {
        Some(bytes) => {
            let (elements, rest) = bytes.as_chunks::<ELEMENT_BYTES>();
            if !rest.is_empty() || elements.len() != expected {
                return Err(BadRequest::Elements {
                    input: name,
                    found: elements.len(),
                    expected,
                });
            }
            elements
                .iter()
                .map(|element| f32::from_le_bytes(*element))
                .collect()
        }
        None => {
            let elements = typed(&name, contents.unwrap_or_default())?;
            if elements.len() != expected {
                return Err(BadRequest::Elements {
                    input: name,
                    found: elements.len(),
                    expected,
                });
            }
            elements
        }
    };
    Ok(Tensor { shape, elements })
}

/// The typed field of FP32. All other fields must be empty.
fn typed(name: &str, contents: InferTensorContents) -> Result<Vec<f32>, BadRequest> {
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
    let others = [
        bool_contents.is_empty(),
        int_contents.is_empty(),
        int64_contents.is_empty(),
        uint_contents.is_empty(),
        uint64_contents.is_empty(),
        fp64_contents.is_empty(),
        bytes_contents.is_empty(),
    ];
    if others.contains(&false) {
        return Err(BadRequest::OtherContents(name.to_owned()));
    }
    Ok(fp32_contents)
}

/// The answer. It always has raw contents, as Triton's answers have.
pub fn answer(model: &Model, wanted: &[usize], results: Vec<Tensor>) -> ModelInferResponse {
    let mut outputs = Vec::new();
    let mut raw_output_contents = Vec::new();
    let ports = wanted
        .iter()
        .filter_map(|index| model.outputs().get(*index));
    for (port, Tensor { shape, elements }) in ports.zip(results) {
        outputs.push(InferOutputTensor {
            name: port.name.clone(),
            datatype: DATATYPE.to_owned(),
            // A dimension of elements in memory is below 2^61.
            shape: shape
                .into_iter()
                .map(|dim| i64::try_from(dim).unwrap_or(i64::MAX))
                .collect(),
            parameters: HashMap::new(),
            contents: None,
        });
        let bytes: Vec<u8> = elements
            .iter()
            .flat_map(|element| element.to_le_bytes())
            .collect();
        raw_output_contents.push(bytes.into());
    }
    ModelInferResponse {
        outputs,
        raw_output_contents,
        ..ModelInferResponse::default()
    }
}
