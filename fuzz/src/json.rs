//! Fuzz target: an OIP JSON body, compared with serde_json. serde_json must accept what the gate
//! accepts, and both must read the same tensors. Lists that are only checked must have the verdict
//! of converted ones.

use std::sync::LazyLock;

use serde_json::Value;
use tensorgate_policy::contract::{TensorRule, check_tensors};
use tensorgate_policy::decision::{BodyFormat, ReadBy};
use tensorgate_policy::policy::Accepts;
use tensorgate_policy::tensor::Parameter;
use tensorgate_policy::{Denial, InferRequest, Policy, Tensor};
use tensorgate_wire::decode;

use crate::elements;
use crate::support::{POLICIES, check_body_denial};

/// Models whose inputs have the seeds' names, with numbers of all datatypes and several ranges.
const MODELS: [&str; 8] = [
    "narrow", "types", "ranges", "loose", "grid", "people", "table", "tokens",
];

/// Their inputs.
static INPUTS: LazyLock<Vec<&'static [TensorRule]>> = LazyLock::new(|| {
    let named = |policy: &'static Policy| {
        MODELS
            .iter()
            .filter_map(|name| policy.model(policy.model_id(name)?))
    };
    let models = POLICIES.iter().flat_map(named);
    let inputs = models.map(|model| match model.accepts() {
        Accepts::Tensors(contract) => contract.inputs(),
        Accepts::Raw { .. } | Accepts::OpenAi(_) => panic!("a model of tensors"),
    });
    inputs.collect()
});

/// Runs one input.
pub fn run(body: &[u8]) {
    compare_verdicts(body);
    let ours = match decode(BodyFormat::OipJson, body, &[]) {
        Ok(request) => request,
        Err(denial) => return check_body_denial(&denial),
    };
    match serde_json::from_slice::<Value>(body) {
        Ok(theirs) => compare(&ours, &theirs),
        // The gate checks the syntax of a number here. The contract rejects a number that is out of
        // range.
        Err(error) if error.to_string().starts_with("number out of range") => {}
        Err(error) => panic!("accepted a text that serde_json rejects: {error}"),
    }
}

/// Compares a body that is only checked with the same body whose lists are converted.
fn compare_verdicts(body: &[u8]) {
    let rules = INPUTS[body.len() % INPUTS.len()];
    for is_shadow in [false, true] {
        let verdict = |by: ReadBy<'_>| {
            let mut passing = Vec::new();
            let mut on_fault = |denial: Denial| {
                if !is_shadow {
                    return Err(denial);
                }
                passing.push(denial.cause);
                Ok(())
            };
            decode(BodyFormat::OipJson, body, by)
                .and_then(|request| check_tensors(rules, &request.inputs, &mut on_fault))
                .map(|()| passing)
                .map_err(|denial| (denial.reason, denial.field, denial.cause))
        };
        let by = ReadBy::from(rules);
        assert_eq!(verdict(by.for_check()), verdict(by));
    }
}

fn compare(request: &InferRequest<'_>, theirs: &Value) {
    let list = |name: &str| {
        theirs
            .get(name)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
    };
    let model = theirs.get("model_name").and_then(Value::as_str);
    assert_eq!(request.model.as_deref(), model);
    let version = theirs.get("model_version").and_then(Value::as_str);
    let version = version.filter(|version| !version.is_empty());
    assert_eq!(request.version.as_deref(), version);
    let id = theirs.get("id").and_then(Value::as_str);
    assert_eq!(request.id.as_deref(), id.filter(|id| !id.is_empty()));
    assert_eq!(ours(&request.parameters), count(theirs.get("parameters")));
    assert_eq!(request.inputs.len(), list("inputs").len());
    assert_eq!(request.outputs.len(), list("outputs").len());
    for (input, theirs) in request.inputs.iter().zip(list("inputs")) {
        compare_tensor(input, theirs);
    }
    for (output, theirs) in request.outputs.iter().zip(list("outputs")) {
        assert_eq!(
            Some(&*output.name),
            theirs.get("name").and_then(Value::as_str)
        );
        assert_eq!(ours(&output.parameters), count(theirs.get("parameters")));
    }
}

/// Parameters that describe the encoding; the decoder reads them itself.
const OF_THE_FORM: [&str; 3] = ["binary_data", "binary_data_output", "binary_data_size"];

fn count(parameters: Option<&Value>) -> usize {
    let named = parameters.and_then(Value::as_object);
    named.map_or(0, |named| {
        // A parameter that is null is absent.
        let counts = |(name, value): &(&String, &Value)| {
            !value.is_null() && !OF_THE_FORM.contains(&name.as_str())
        };
        named.iter().filter(counts).count()
    })
}

fn ours(parameters: &[Parameter<'_>]) -> usize {
    let of_form = |parameter: &&Parameter<'_>| OF_THE_FORM.contains(&&*parameter.name);
    parameters.len() - parameters.iter().filter(of_form).count()
}

fn compare_tensor(tensor: &Tensor<'_>, theirs: &Value) {
    let text = |name: &str| theirs.get(name).and_then(Value::as_str);
    assert_eq!(Some(&*tensor.name), text("name"));
    assert_eq!(Some(&*tensor.datatype), text("datatype"));
    assert_eq!(ours(&tensor.parameters), count(theirs.get("parameters")));
    let shape: Option<Vec<i64>> = theirs
        .get("shape")
        .and_then(Value::as_array)
        .and_then(|dims| dims.iter().map(Value::as_i64).collect());
    if let Some(shape) = shape {
        assert_eq!(tensor.shape, shape);
    }
    let Ok(data) = &tensor.data else { return };
    let Some(values) = theirs.get("data") else {
        assert!(data.is_empty(), "data that is not in the body");
        return;
    };
    if let Some(expected) = elements::of_json(&tensor.datatype, values) {
        assert_eq!(&**data, &*expected, "{}", tensor.datatype);
    }
}
