//! Decodes `ModelInferRequest`, `ModelMetadataRequest` and `ModelReadyRequest`. Field numbers are
//! the protocol's.

use std::borrow::Cow;

use tensorgate_policy::contract::{Elements, MAX_RANK};
use tensorgate_policy::request::ServerQuery;
use tensorgate_policy::tensor::{DataFault, Parameter, ParameterValue, RequestedOutput};
use tensorgate_policy::tensor_data::TensorData;
use tensorgate_policy::{Datatype, InferRequest, Tensor};

use super::contents::{Contents, INFER_CONTENTS};
use super::parameters::push_parameter;
use super::protobuf::{FieldRef, Value, read, take_varint};
use crate::fault::BodyFault;
use crate::limits::{MAX_INPUTS, MAX_NAME_BYTES, MAX_OUTPUTS};
use crate::raw_contents::{Budget, check_blob};

/// An input as received: contents are typed here or raw in the request.
#[derive(Default)]
struct Input<'a> {
    name: Option<&'a str>,
    datatype: Option<&'a str>,
    shape: Vec<i64>,
    parameters: Vec<Parameter<'a>>,
    contents: Option<Contents<'a>>,
}

/// Name of the raw contents field, for faults.
pub(super) const RAW: &str = "raw_input_contents";
/// Fault if inputs and entries do not match.
pub(super) const ONE_EACH: &str = "has not one entry an input";
/// Fault if an input also has typed contents.
const BESIDE_TYPED: &str = "comes beside typed contents";

/// Parameter by which some clients (KServe's) declare the size of raw contents, as in JSON.
const SIZE: &str = "binary_data_size";

/// Reads a `ModelInferRequest`.
pub(crate) fn infer(message: &[u8]) -> Result<InferRequest<'_>, BodyFault> {
    let Message { rest, inputs, raws } = read_infer(message)?;
    Ok(InferRequest {
        inputs: tensors(inputs, &raws)?,
        ..rest
    })
}

/// A `ModelInferRequest` before its raw contents.
pub(super) struct InferHead<'a> {
    pub(super) request: InferRequest<'a>,
    /// Where the inputs' elements are.
    pub(super) elements: Vec<Elements>,
    /// Declared sizes of the following raw contents, one per input.
    pub(super) announced: Vec<Announced>,
}

/// Reads such a head; `raws_follow`: raw contents follow.
pub(super) fn infer_head(message: &[u8], raws_follow: bool) -> Result<InferHead<'_>, BodyFault> {
    let Message {
        rest,
        mut inputs,
        raws,
    } = read_infer(message)?;
    let location = if raws_follow {
        Elements::Streamed(None)
    } else {
        Elements::Inline
    };
    let elements = vec![location; inputs.len()];
    let mut announced = Vec::new();
    let inputs = if raws_follow {
        if inputs.iter().any(|input| input.contents.is_some()) {
            return Err(BodyFault::field(RAW, BESIDE_TYPED));
        }
        announced.extend(inputs.iter_mut().map(Announced::take));
        inputs
            .into_iter()
            .map(|input| input.with(Ok(TensorData::default())))
            .collect()
    } else {
        tensors(inputs, &raws)?
    };
    Ok(InferHead {
        request: InferRequest { inputs, ..rest },
        elements,
        announced,
    })
}

/// Declared size of an input's raw contents. A wrong size is rejected, because servers may use it.
#[derive(Debug)]
pub(super) enum Announced {
    Nothing,
    /// A declared size; `None` if it is not a valid number.
    Size(Option<usize>),
}

impl Announced {
    /// Removes the declaration from an input's parameters.
    fn take(input: &mut Input<'_>) -> Self {
        let parameters = &mut input.parameters;
        let Some(index) = parameters
            .iter()
            .position(|parameter| parameter.name == SIZE)
        else {
            return Self::Nothing;
        };
        Self::Size(match parameters.remove(index).value {
            ParameterValue::Int64(size) => usize::try_from(size).ok(),
            ParameterValue::Uint64(size) => usize::try_from(size).ok(),
            ParameterValue::Bool(_) | ParameterValue::Double(_) | ParameterValue::String(_) => None,
        })
    }

    /// Checks the actual size.
    pub(super) fn holds(&self, bytes: usize) -> Result<(), BodyFault> {
        match self {
            Self::Nothing => Ok(()),
            Self::Size(Some(size)) if *size == bytes => Ok(()),
            Self::Size(_) => Err(BodyFault::field(
                SIZE,
                "is not the size of its raw contents",
            )),
        }
    }
}

/// Fields of a `ModelInferRequest`.
struct Message<'a> {
    /// Everything except the inputs.
    rest: InferRequest<'a>,
    inputs: Vec<Input<'a>>,
    raws: Vec<&'a [u8]>,
}

fn read_infer(message: &[u8]) -> Result<Message<'_>, BodyFault> {
    let (mut model, mut version, mut id) = (None, None, None);
    let mut parameters = Vec::new();
    let mut inputs = Vec::new();
    let mut outputs = Vec::new();
    let mut raws = Vec::new();
    read("ModelInferRequest", message, |field, value| {
        match field.number {
            1 => field.once(&mut model, field.text_of(value, MAX_NAME_BYTES)?),
            2 => field.once(&mut version, field.text_of(value, MAX_NAME_BYTES)?),
            3 => field.once(&mut id, field.text_of(value, MAX_NAME_BYTES)?),
            4 => push_parameter(&mut parameters, field, value),
            5 => push(
                &mut inputs,
                input(field.bytes(value)?)?,
                "inputs",
                MAX_INPUTS,
            ),
            6 => push(
                &mut outputs,
                output(field.bytes(value)?)?,
                "outputs",
                MAX_OUTPUTS,
            ),
            7 => push(&mut raws, field.bytes(value)?, "raw contents", MAX_INPUTS),
            _ => Err(field.unknown()),
        }
    })?;
    Ok(Message {
        rest: InferRequest {
            model: named(model),
            version: named(version),
            id: named(id),
            parameters,
            inputs: Vec::new(),
            outputs,
            body: None,
            body_type: None,
            binary_data_output: false,
            document: Vec::new(),
            by_column: false,
        },
        inputs,
        raws,
    })
}

impl<'a> Input<'a> {
    /// The tensor with these elements.
    fn with(self, data: Result<TensorData<'a>, DataFault>) -> Tensor<'a> {
        Tensor {
            name: Cow::Borrowed(self.name.unwrap_or_default()),
            datatype: Cow::Borrowed(self.datatype.unwrap_or_default()),
            shape: self.shape,
            parameters: self.parameters,
            data,
        }
    }
}

/// Reads a `ModelMetadataRequest` or a `ModelReadyRequest`.
pub(crate) fn model(message: &[u8]) -> Result<InferRequest<'_>, BodyFault> {
    let (mut model, mut version) = (None, None);
    read("the model's request", message, |field, value| {
        match field.number {
            1 => field.once(&mut model, field.text_of(value, MAX_NAME_BYTES)?),
            2 => field.once(&mut version, field.text_of(value, MAX_NAME_BYTES)?),
            _ => Err(field.unknown()),
        }
    })?;
    Ok(InferRequest {
        model: named(model),
        version: named(version),
        ..InferRequest::default()
    })
}

/// Reads a request about the server: a message without fields, or with the name of a service for a
/// health check.
pub(crate) fn server_query(question: ServerQuery, message: &[u8]) -> Result<(), BodyFault> {
    let mut service = None;
    read("the server's request", message, |field, value| {
        match (field.number, question) {
            (1, ServerQuery::Health) => {
                field.once(&mut service, field.text_of(value, MAX_NAME_BYTES)?)
            }
            _ => Err(field.unknown()),
        }
    })
}

/// Protobuf does not distinguish empty and absent strings.
pub(super) fn named(text: Option<&str>) -> Option<Cow<'_, str>> {
    text.filter(|text| !text.is_empty()).map(Cow::Borrowed)
}

pub(super) fn push<T>(
    list: &mut Vec<T>,
    item: T,
    what: &'static str,
    max: usize,
) -> Result<(), BodyFault> {
    if list.len() >= max {
        return Err(BodyFault::TooMany { what, max });
    }
    list.push(item);
    Ok(())
}

fn input(message: &[u8]) -> Result<Input<'_>, BodyFault> {
    let mut input = Input::default();
    read("InferInputTensor", message, |field, value| {
        match field.number {
            1 => field.once(&mut input.name, field.text_of(value, MAX_NAME_BYTES)?),
            2 => field.once(&mut input.datatype, field.text_of(value, MAX_NAME_BYTES)?),
            3 => dims(&mut input.shape, field, value),
            4 => push_parameter(&mut input.parameters, field, value),
            5 => field.once(
                &mut input.contents,
                Contents::read(&INFER_CONTENTS, field.bytes(value)?)?,
            ),
            _ => Err(field.unknown()),
        }
    })?;
    Ok(input)
}

fn output(message: &[u8]) -> Result<RequestedOutput<'_>, BodyFault> {
    let mut name = None;
    let mut parameters = Vec::new();
    read(
        "InferRequestedOutputTensor",
        message,
        |field, value| match field.number {
            1 => field.once(&mut name, field.text_of(value, MAX_NAME_BYTES)?),
            2 => push_parameter(&mut parameters, field, value),
            _ => Err(field.unknown()),
        },
    )?;
    Ok(RequestedOutput {
        name: Cow::Borrowed(name.unwrap_or_default()),
        parameters,
        binary_data: None,
    })
}

/// Adds dimensions, packed or single. Their number is limited first: one byte here takes eight in
/// memory.
fn dims(shape: &mut Vec<i64>, field: FieldRef, value: Value<'_>) -> Result<(), BodyFault> {
    let mut dim = |dim: u64| push(shape, dim.cast_signed(), "dims", MAX_RANK);
    match value {
        Value::Varint(value) => dim(value),
        Value::Bytes(mut packed) => {
            while !packed.is_empty() {
                dim(take_varint(&mut packed).map_err(|what| field.wrong(what))?)?;
            }
            Ok(())
        }
        Value::Fixed32(_) | Value::Fixed64(_) => Err(field.wrong("has another wire type")),
    }
}

/// Converts all inputs to raw form. Raw contents are for all inputs or none, because servers
/// disagree on a mix.
fn tensors<'a>(
    mut inputs: Vec<Input<'a>>,
    raws: &[&'a [u8]],
) -> Result<Vec<Tensor<'a>>, BodyFault> {
    if !raws.is_empty() {
        if inputs.iter().any(|input| input.contents.is_some()) {
            return Err(BodyFault::field(RAW, BESIDE_TYPED));
        }
        if raws.len() != inputs.len() {
            return Err(BodyFault::field(RAW, ONE_EACH));
        }
        for (input, blob) in inputs.iter_mut().zip(raws) {
            Announced::take(input).holds(blob.len())?;
        }
    }
    let mut raws = raws.iter().copied();
    let mut budget = Budget::new();
    inputs
        .into_iter()
        .map(|input| {
            let datatype = input.datatype.and_then(Datatype::from_name);
            let data = match (raws.next(), input.contents) {
                (Some(blob), _) => check_blob(datatype, blob).map(|()| blob.into()),
                (None, Some(contents)) => contents.convert(datatype, &mut budget)?,
                (None, None) => Err(DataFault::Missing),
            };
            Ok(input.with(data))
        })
        .collect()
}
