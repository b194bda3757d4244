//! Models that serve the guardrail contract.

use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::policy::Accepts;

use super::*;

/// A guardrail with one member changed, in place of a model of the fixture that no other one needs.
fn but(at: &str, value: Value) -> Value {
    let mut model = json!({"guardrail": {}, "versions": ["1"], "preprocess": "labels"});
    if !at.is_empty() {
        put(&mut model, at, value);
    }
    model
}

const AT: &str = "/models/hidden";

fn names(rules: &[TensorRule]) -> Vec<&str> {
    rules.iter().map(TensorRule::name).collect()
}

#[test]
fn a_guardrail_has_the_tensors_of_its_contract_and_no_backend() {
    let model = model(with(AT, but("", Value::Null)), "hidden");
    assert!(model.is_guardrail());
    assert_eq!(model.backend(), "");
    let Accepts::Tensors(contract) = model.accepts() else {
        panic!("{model:?}")
    };
    assert_eq!(names(contract.inputs()), ["text", "stage"]);
    let answer = ["action", "replacement", "type", "start", "end", "score"];
    assert_eq!(names(model.backend_inputs()), answer);
    assert_eq!(model.backend_inputs(), model.returns());
    let template = model.template().unwrap();
    assert_eq!(template.route(), "/analyze");
    assert!(template.is_guardrail());
}

#[test]
fn its_route_and_its_bound_are_checked() {
    accept(AT, but("/guardrail/route", json!("/guard/pii")));
    accept(AT, but("/guardrail/max_text_bytes", json!("1KiB")));
    for (at, value, text) in [
        ("/guardrail/route", json!("analyze"), "is not a plain path"),
        ("/guardrail/route", json!("/v2/models"), "another protocol"),
        ("/guardrail/max_text_bytes", json!(0), "below the minimum"),
        (
            "/guardrail/max_text_bytes",
            json!("1GiB"),
            "above the maximum",
        ),
    ] {
        let path = format!("models.hidden{}", at.replace('/', "."));
        check(AT, but(at, value), &path, text);
    }
    let mut document = with(AT, but("", Value::Null));
    put(&mut document, "/models/second", but("", Value::Null));
    let errors = errors(document);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(
        errors[0].starts_with("models.second.guardrail.route: "),
        "{errors:#?}"
    );
}

#[test]
fn what_the_contract_fixes_cannot_be_written() {
    for (at, value) in [
        ("/backend", json!("cpu")),
        ("/protocols", json!(["json"])),
        (
            "/inputs",
            json!([{"name": "x", "datatype": "FP32", "shape": [1]}]),
        ),
        ("/json", json!({"route": "/x"})),
        ("/postprocess", json!("labels")),
        (
            "/accepts",
            json!({"raw": {"content_types": ["image/png"], "max_bytes": 9}}),
        ),
    ] {
        let path = format!("models.hidden{}", at.replace('/', "."));
        check(AT, but(at, value), &path, "is not for a guardrail");
    }
    check(
        AT,
        but("/versions", json!(["1", "2"])),
        "models.hidden.versions",
        "one version",
    );
    check(
        AT,
        but("/preprocess", Value::Null),
        "models.hidden.preprocess",
        "is missing",
    );
    let openai = json!({"guardrail": {}, "protocols": ["openai"], "versions": ["1"]});
    let errors = errors(with(AT, openai));
    let fault = "models.hidden.guardrail: is not for a model of OpenAI's API";
    assert!(
        errors.iter().any(|error| error.starts_with(fault)),
        "{errors:#?}"
    );
}

#[test]
fn a_grant_cannot_take_parts_of_its_answer_away() {
    let mut document = with(AT, but("", Value::Null));
    let mut grant =
        json!({"name": "g", "clients": ["scorer"], "models": ["hidden"], "operations": ["infer"]});
    put(&mut grant, "/outputs", json!(["action"]));
    put(&mut document, "/grants", json!([grant]));
    let errors = errors(document);
    assert!(
        errors
            .iter()
            .any(|error| error.contains("have no outputs to restrict")),
        "{errors:#?}"
    );
}
