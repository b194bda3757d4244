//! Functions that extract the content of an answer.

use prost::Message as _;
use serde_json::Value;
use tensorgate_client::Reply;
use tensorgate_wire::proto::ModelInferResponse;

fn outputs(reply: &Reply) -> Option<Vec<Value>> {
    reply.json()?.get("outputs")?.as_array().cloned()
}

/// `digit N`, N being the most probable class of the first image.
fn best(probabilities: impl Iterator<Item = f64>) -> Option<String> {
    let (digit, _) = probabilities
        .take(10)
        .enumerate()
        .max_by(|(_, one), (_, other)| one.total_cmp(other))?;
    Some(format!("digit {digit}"))
}

/// The first image's digit.
pub fn best_of_json(reply: &Reply) -> Option<String> {
    let outputs = outputs(reply)?;
    best(
        outputs
            .first()?
            .get("data")?
            .as_array()?
            .iter()
            .filter_map(Value::as_f64),
    )
}

/// The first image's digit, from each output.
pub fn each_of_json(reply: &Reply) -> Option<String> {
    let outputs = outputs(reply)?;
    let digits = outputs.iter().map(|output| {
        let scores = output.get("data")?.as_array()?;
        best(scores.iter().filter_map(Value::as_f64))
    });
    Some(digits.collect::<Option<Vec<_>>>()?.join(", "))
}

/// The first row's digit, from TF Serving's REST format.
pub fn best_of_rows(reply: &Reply) -> Option<String> {
    let predictions = reply.json()?.get("predictions")?.as_array().cloned()?;
    best(
        predictions
            .first()?
            .as_array()?
            .iter()
            .filter_map(Value::as_f64),
    )
}

/// The first row's digit, from TorchServe's REST format.
pub fn best_of_value(reply: &Reply) -> Option<String> {
    let value = reply.json()?;
    let first = value.as_array()?.first()?.as_array()?;
    best(first.iter().filter_map(Value::as_f64))
}

/// The first row's digit, from the model's own JSON format.
pub fn best_of_results(reply: &Reply) -> Option<String> {
    let value = reply.json()?;
    let first = value.pointer("/results/0/probabilities")?.as_array()?;
    best(first.iter().filter_map(Value::as_f64))
}

/// The label that a handler returned, from TorchServe's REST format.
pub fn label_of_value(reply: &Reply) -> Option<String> {
    let value = reply.json()?;
    let label = value.get("label")?.as_array()?.first()?.as_str()?;
    Some(format!("digit {label}"))
}

/// The state in a model's status, from TF Serving's REST format.
pub fn state(reply: &Reply) -> Option<String> {
    let status = reply.json()?.get("model_version_status")?.get(0).cloned()?;
    status.get("state")?.as_str().map(str::to_owned)
}

/// The number of classified images.
pub fn count_of_json(reply: &Reply) -> Option<String> {
    let outputs = outputs(reply)?;
    let values = outputs.first()?.get("data")?.as_array()?.len();
    Some(format!("{} digits", values.checked_div(10)?))
}

/// The label that a handler returned.
pub fn label_of_json(reply: &Reply) -> Option<String> {
    let outputs = outputs(reply)?;
    let label = outputs
        .iter()
        .find(|output| output.get("name").and_then(Value::as_str) == Some("label"))?;
    Some(format!(
        "digit {}",
        label.get("data")?.as_array()?.first()?.as_str()?
    ))
}

/// The first image's digit, from gRPC.
pub fn best_of_grpc(reply: &Reply) -> Option<String> {
    let response = ModelInferResponse::decode(reply.message()?).ok()?;
    let raw = response.raw_output_contents.first()?;
    best(
        raw.chunks_exact(4)
            .filter_map(|bytes| Some(f64::from(f32::from_le_bytes(bytes.try_into().ok()?)))),
    )
}

/// The first input of a model's configuration, and its batches.
pub fn configuration(reply: &Reply) -> Option<String> {
    let config = reply.json()?;
    let input = config.get("input")?.as_array()?.first()?;
    Some(format!(
        "{} {}, batches of {}",
        input.get("name")?.as_str()?,
        input.get("data_type")?.as_str()?,
        config.get("max_batch_size")?
    ))
}

/// The first input of a model's signature.
pub fn input_name(reply: &Reply) -> Option<String> {
    let metadata = reply.json()?;
    let input = metadata.get("inputs")?.as_array()?.first()?.clone();
    Some(format!(
        "{} {}",
        input.get("name")?.as_str()?,
        input.get("datatype")?.as_str()?
    ))
}
