//! A body of a model's own JSON, beside serde_json: what the gate accepts is JSON to serde_json too, every tensor is at its pointer and has that shape
//! and those elements, and nothing else is in the document than what the template names.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tensorgate_policy::decision::{BodyFormat, ReadBy};
use tensorgate_policy::policy::{Accepts, Step, Template, TensorPointer};
use tensorgate_policy::{InferRequest, Tensor};
use tensorgate_wire::decode;

use crate::elements;
use crate::support::{POLICIES, check_body_denial};

/// Models of one input, of several at places of their own, of a whole document in base64, of rows.
pub const MODELS: [&str; 4] = ["vec", "pair", "text", "people"];

/// Runs one input: which model, then a body.
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
    };
    let ours = match decode(BodyFormat::Template, body, by) {
        Ok(request) => request,
        Err(denial) => return check_body_denial(&denial),
    };
    match serde_json::from_slice::<Value>(body) {
        Ok(theirs) => compare(&ours, &theirs, template),
        // The gate reads the grammar of a number; that it is beyond any float is the contract's business.
        Err(error) if error.to_string().starts_with("number out of range") => {}
        Err(error) => panic!("accepted what serde_json refuses: {error}"),
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
        "accepted and not read: {rest}"
    );
}

/// Takes out what is at a place; of rows a list of what each has. `None` where nothing is.
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

/// Whether only ways are left.
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
    // One element needs no list.
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

/// Bytes in base64 as the text that they are; `None` if they are none.
fn as_text(value: &Value) -> Option<Value> {
    match value {
        Value::Array(list) => list.iter().map(as_text).collect(),
        value => {
            let bytes = STANDARD.decode(value.as_str()?).expect("canonical base64");
            String::from_utf8(bytes).ok().map(Value::String)
        }
    }
}
