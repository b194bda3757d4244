//! Fuzz target: a JSON body with a model's own template, compared with serde_json. serde_json must
//! accept what the gate accepts. Each tensor must be at its pointer with the same shape and
//! elements. The document must contain nothing that the template does not name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tensorgate_policy::decision::{BodyFormat, ReadBy};
use tensorgate_policy::policy::{Accepts, Step, Template, TensorPointer};
use tensorgate_policy::{InferRequest, Tensor};
use tensorgate_wire::decode;

use crate::elements;
use crate::support::{POLICIES, check_body_denial};

/// Models with one input, several inputs at their own pointers, a whole document in base64, and
/// rows.
pub const MODELS: [&str; 4] = ["vec", "pair", "text", "people"];

/// Runs one input: the model's number, then a body.
pub fn run(data: &[u8]) {
    let Some((model, body)) = data.split_first() else {
        return;
    };
    let model = MODELS[usize::from(*model) % MODELS.len()];
    let policy = &POLICIES[0];
    let model = policy.model_id(model).and_then(|id| policy.model(id));
    let model = model.expect("a model of the policy");
    let Accepts::Tensors(contract) = model.accepts() else {
        panic!("a model of tensors");
    };
    let template = model.template().expect("a model with a route of its own");
    let by = ReadBy {
        inputs: contract.inputs(),
        template: Some(template),
        only_checks: false,
    };
    let ours = match decode(BodyFormat::Template, body, by) {
        Ok(request) => request,
        Err(denial) => return check_body_denial(&denial),
    };
    match serde_json::from_slice::<Value>(body) {
        Ok(theirs) => compare(&ours, &theirs, template),
        // The gate checks the syntax of a number here. The contract rejects a number that is out of
        // range.
        Err(error) if error.to_string().starts_with("number out of range") => {}
        Err(error) => panic!("accepted a text that serde_json rejects: {error}"),
    }
}

fn compare(ours: &InferRequest<'_>, theirs: &Value, template: &Template) {
    let mut rest = theirs.clone();
    for place in template.inputs() {
        let tensor = ours
            .inputs
            .iter()
            .find(|tensor| tensor.name == place.name());
        let value = take(&mut rest, place.at().steps());
        match (tensor, value) {
            (Some(tensor), Some(value)) => compare_tensor(tensor, &value, place),
            (None, None) => {}
            (tensor, value) => panic!("{tensor:?} for {value:?} at {place:?}"),
        }
    }
    for pointer in template.ignored() {
        take(&mut rest, pointer.steps());
    }
    assert!(
        rest.is_null() || is_empty(&rest),
        "accepted but not read: {rest}"
    );
}

/// Removes the value at a pointer; for rows, a list of the value in each row. `None` if there is no
/// value.
fn take(at: &mut Value, steps: &[Step]) -> Option<Value> {
    match steps {
        [] => Some(at.take()),
        [Step::Member(name)] => at.as_object_mut()?.remove(name),
        [Step::Member(name), rest @ ..] => take(at.get_mut(name)?, rest),
        [Step::Rows, rest @ ..] => {
            let rows = at.as_array_mut()?;
            let taken: Vec<Value> = rows.iter_mut().filter_map(|row| take(row, rest)).collect();
            (!taken.is_empty()).then_some(Value::Array(taken))
        }
    }
}

/// Whether only objects and lists without values remain.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.values().all(is_empty),
        Value::Array(rows) => rows.iter().all(|row| row.is_object() && is_empty(row)),
        _ => false,
    }
}

fn compare_tensor(tensor: &Tensor<'_>, value: &Value, place: &TensorPointer) {
    let Ok(data) = &tensor.data else { return };
    let mut shape = Vec::new();
    let mut first = value;
    while let Some(list) = first.as_array() {
        shape.push(i64::try_from(list.len()).expect("a short list"));
        let Some(inner) = list.first() else { break };
        first = inner;
    }
    // A single element needs no list.
    let rows = usize::from(place.at().by_row());
    if shape.len() == rows && place.scalar() {
        shape.push(1);
    }
    assert_eq!(tensor.shape, shape, "{value}");
    let value = match place.base64() {
        true => as_text(value),
        false => Some(value.clone()),
    };
    if let Some(expected) = value.and_then(|value| elements::of_json(&tensor.datatype, &value)) {
        assert_eq!(&**data, &*expected, "{}", tensor.datatype);
    }
}

/// Decodes base64 to text; `None` for other values.
fn as_text(value: &Value) -> Option<Value> {
    match value {
        Value::Array(list) => list.iter().map(as_text).collect(),
        value => {
            let bytes = STANDARD.decode(value.as_str()?).expect("canonical base64");
            String::from_utf8(bytes).ok().map(Value::String)
        }
    }
}
