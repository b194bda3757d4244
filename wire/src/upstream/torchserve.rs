//! TorchServe: `Predictions`, with named bytes as inputs and bytes as response. The contract
//! determines the encoding: a `BYTES` tensor with one element is sent unchanged; everything else is
//! JSON, nested like its shape. Several outputs form an object by name; a single output may be its
//! value alone.

use std::borrow::Cow;

use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::tensor::items;
use tensorgate_policy::{Datatype, Tensor};

use crate::encode::nested_lists::lists;
use crate::encode::template::most_bytes;
use crate::fault::BodyFault;
use crate::grpc::protobuf::read;
use crate::grpc::writer::Message;
use crate::json;
use crate::limits::MAX_NAME_BYTES;
use crate::owned::owned;
use crate::raw_contents::{Budget, push_item};
use crate::template::{OVERHEAD_BYTES, most_of};

/// Method of an inference.
pub const PREDICTIONS: &str = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions";
/// Method of the health check.
pub const PING: &str = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Ping";

/// Response if no model is available.
const UNHEALTHY: &str = "\"Unhealthy\"";

/// Whether a tensor is a single `BYTES` element, which is sent unchanged.
pub fn is_file(rule: &TensorRule) -> bool {
    rule.datatype() == Datatype::Bytes && rule.shape().iter().all(|dim| dim.fixed() == Some(1))
}

/// Maximum size of [`request`].
pub fn most_request_bytes(inputs: &[Tensor<'_>]) -> usize {
    inputs.iter().fold(OVERHEAD_BYTES, |sum, input| {
        sum.saturating_add(most_bytes(input, &[]))
            .saturating_add(input.name.len())
    })
}

/// A `PredictionsRequest` for one version of a model. `None` if JSON cannot represent an input, or
/// if it is inconsistent.
pub fn request(
    (model, version): (&str, &str),
    inputs: &[Tensor<'_>],
    rules: &[TensorRule],
) -> Option<Vec<u8>> {
    let mut message = Message::default().bytes(1, model).bytes(2, version);
    for input in inputs {
        let rule = rules.iter().find(|rule| rule.name() == input.name)?;
        let value = if is_file(rule) {
            let mut items = items(input.data.as_deref().ok()?);
            let item = items.next()?.ok()?.to_vec();
            items.next().is_none().then_some(item)?
        } else {
            lists(input)?.into_bytes()
        };
        message = message.message(3, Message::default().bytes(1, &*input.name).bytes(2, value));
    }
    Some(message.into_bytes())
}

/// Maximum size of a valid response, with usual JSON formatting.
pub fn most_answer_bytes(rules: &[TensorRule]) -> usize {
    /// A character of a name may take six in JSON.
    const NAME_GROWTH: usize = 6;
    rules.iter().fold(OVERHEAD_BYTES, |sum, rule| {
        sum.saturating_add(most_of(rule, None))
            .saturating_add(rule.name().len().saturating_mul(NAME_GROWTH))
    })
}

/// Reads a `PredictionResponse`; the error is for the log.
pub fn answer(message: &[u8], rules: &[TensorRule]) -> Result<Vec<Tensor<'static>>, String> {
    let prediction = prediction(message).map_err(|fault| fault.to_string())?;
    if let [rule] = rules
        && is_file(rule)
    {
        return file(rule, prediction).map(|tensor| vec![tensor]);
    }
    let read = json::predictions(prediction, rules, &mut Budget::new());
    let (tensors, by_column) = read.map_err(|fault| fault.to_string())?;
    if !by_column {
        return Err("it comes by row".to_owned());
    }
    tensors.into_iter().map(owned).collect()
}

/// Bytes of a response.
fn prediction(message: &[u8]) -> Result<&[u8], BodyFault> {
    let (mut prediction, mut code) = (None, None);
    read("PredictionResponse", message, |field, value| {
        match field.number {
            1 => field.once(&mut prediction, field.bytes(value)?),
            // google.rpc.Status.
            3 => read("Status", field.bytes(value)?, |field, value| {
                match field.number {
                    1 => field.once(&mut code, field.varint(value)?),
                    _ => Ok(()),
                }
            }),
            _ => Ok(()),
        }
    })?;
    if code.is_some_and(|code| code != 0) {
        return Err(BodyFault::field("status", "is that of a failure"));
    }
    Ok(prediction.unwrap_or_default())
}

fn file(rule: &TensorRule, bytes: &[u8]) -> Result<Tensor<'static>, String> {
    let mut framed = Vec::with_capacity(bytes.len().saturating_add(4));
    push_item(&mut framed, bytes).ok_or_else(|| "it is too long".to_owned())?;
    Ok(Tensor {
        name: Cow::Owned(rule.name().to_owned()),
        datatype: Cow::Borrowed(Datatype::Bytes.name()),
        shape: vec![1; rule.shape().len()],
        parameters: Vec::new(),
        data: Ok(framed.into()),
    })
}

/// Whether a `TorchServeHealthResponse` says that the server is available, at least with some
/// models; the error is for the log.
pub fn is_healthy(message: &[u8]) -> Result<bool, String> {
    let mut health = None;
    let found = read(
        "TorchServeHealthResponse",
        message,
        |field, value| match field.number {
            1 => field.once(&mut health, field.text_of(value, MAX_NAME_BYTES)?),
            _ => Ok(()),
        },
    );
    found.map_err(|fault| fault.to_string())?;
    Ok(health.is_some_and(|health| health.contains("ealthy\"") && !health.contains(UNHEALTHY)))
}
