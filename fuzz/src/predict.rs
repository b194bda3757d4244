//! Fuzz target: a predict request of TF Serving's REST API, compared with serde_json. serde_json
//! must accept what the gate accepts. For each tensor that the gate reads, serde_json's values must
//! have the same shape and elements.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::policy::Accepts;
use tensorgate_policy::{InferRequest, Tensor};
use tensorgate_wire::decode;

use crate::elements;
use crate::support::{POLICIES, check_body_denial};

/// Models with one input, several inputs, bytes, and many datatypes.
const MODELS: [&str; 4] = ["vec", "pair", "text", "json"];

/// Runs one input: the model's number, then a body.
pub fn run(data: &[u8]) {
    let Some((model, body)) = data.split_first() else {
        return;
    };
    let model = MODELS[usize::from(*model) % MODELS.len()];
    let policy = &POLICIES[0];
    let model = policy.model_id(model).and_then(|id| policy.model(id));
    let Some(Accepts::Tensors(contract)) = model.map(|model| model.accepts()) else {
        panic!("a model of tensors");
    };
    let ours = match decode(BodyFormat::TfJson, body, contract.inputs()) {
        Ok(request) => request,
        Err(denial) => return check_body_denial(&denial),
    };
    match serde_json::from_slice::<Value>(body) {
        Ok(theirs) => compare(&ours, &theirs, contract.inputs()),
        // The gate checks the syntax of a number here. The contract rejects a number that is out of
        // range.
        Err(error) if error.to_string().starts_with("number out of range") => {}
        Err(error) => panic!("accepted a text that serde_json rejects: {error}"),
    }
}

fn compare(ours: &InferRequest<'_>, theirs: &Value, rules: &[TensorRule]) {
    assert_eq!(ours.by_column, theirs.get("inputs").is_some());
    for tensor in &ours.inputs {
        assert!(
            tensor.datatype.is_empty()
                || rules.iter().any(|rule| {
                    rule.name() == tensor.name && rule.datatype().name() == tensor.datatype
                }),
            "a datatype that is not the rule's"
        );
        let value = if ours.by_column {
            by_column(&theirs["inputs"], &tensor.name)
        } else {
            by_row(&theirs["instances"], &tensor.name)
        };
        compare_tensor(tensor, &value);
    }
}

fn is_base64(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|object| object.contains_key("b64"))
}

fn by_column(inputs: &Value, name: &str) -> Value {
    match inputs.get(name) {
        Some(value) if !is_base64(inputs) => value.clone(),
        _ => inputs.clone(),
    }
}

fn by_row(rows: &Value, name: &str) -> Value {
    let row = |row: &Value| match row.get(name) {
        Some(value) if !is_base64(row) => value.clone(),
        _ => row.clone(),
    };
    rows.as_array()
        .map(|rows| rows.iter().map(row).collect())
        .expect("a list of rows")
}

fn compare_tensor(tensor: &Tensor<'_>, value: &Value) {
    let Ok(data) = &tensor.data else { return };
    let mut shape = Vec::new();
    let mut first = value;
    while let Some(list) = first.as_array() {
        shape.push(i64::try_from(list.len()).expect("a short list"));
        let Some(inner) = list.first() else { break };
        first = inner;
    }
    assert_eq!(tensor.shape, shape, "{value}");
    let value = as_text(value);
    if let Some(expected) = value.and_then(|value| elements::of_json(&tensor.datatype, &value)) {
        assert_eq!(&**data, &*expected, "{}", tensor.datatype);
    }
}

/// Decodes base64 to text; `None` for other values.
fn as_text(value: &Value) -> Option<Value> {
    match value {
        Value::Array(list) => list.iter().map(as_text).collect(),
        Value::Object(object) => {
            let bytes = STANDARD
                .decode(object.get("b64")?.as_str()?)
                .expect("canonical base64");
            String::from_utf8(bytes).ok().map(Value::String)
        }
        scalar => Some(scalar.clone()),
    }
}
