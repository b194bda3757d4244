//! Handlers of one grant.

use super::*;

/// `reader` may run inference on `picture` and `twice` by a second grant with these handlers.
fn partners(handlers: Value) -> Value {
    let mut document = document();
    put(
        &mut document,
        "/grants/1",
        json!({
            "name": "partners", "clients": ["reader"], "models": ["picture", "twice@1"], "operations": ["infer"],
            "rate": {"quota": 1, "window_s": 1}, "cost": {"bytes": "4MiB", "window_s": 60}, "handlers": handlers
        }),
    );
    document
}

fn names(rules: &[tensorgate_policy::contract::TensorRule]) -> Vec<&str> {
    rules.iter().map(|rule| rule.name()).collect()
}

#[test]
fn a_grants_handlers_replace_its_models_handlers() {
    let labels = json!({"outputs": [{"name": "word", "datatype": "BYTES", "shape": ["n"], "max_item_bytes": 9}]});
    let policy = policy(partners(json!({
        "picture": {"postprocess": []},
        "twice": {"preprocess": ["png", "png"], "postprocess": "labels", "returns": labels}
    })));
    let id = |name: &str| policy.model_id(name).unwrap();
    let model = |name: &str| policy.model(id(name)).unwrap();
    let [scoring, partners, ..] = policy.grants() else {
        panic!("is the name of another grant")
    };
    let (picture, twice) = (id("picture"), id("twice"));
    assert_eq!(partners.preprocess(picture, model("picture")), ["png"]);
    assert!(partners.postprocess(picture, model("picture")).is_empty());
    assert_eq!(
        names(partners.returns(picture, model("picture"))),
        ["probabilities"]
    );
    assert_eq!(names(scoring.returns(picture, model("picture"))), ["label"]);
    assert_eq!(partners.preprocess(twice, model("twice")), ["png", "png"]);
    assert_eq!(names(partners.returns(twice, model("twice"))), ["word"]);
    assert_eq!(
        names(scoring.returns(twice, model("twice"))),
        ["probabilities"]
    );
    assert!(!scoring.has_own_handlers(twice));
}

#[test]
fn a_grants_restrictions_apply_to_its_handlers_outputs() {
    let labels = json!({"outputs": [{"name": "word", "datatype": "BYTES", "shape": ["n"], "max_item_bytes": 9}]});
    let mut document = partners(json!({"twice": {"postprocess": "labels", "returns": labels}}));
    put(&mut document, "/grants/1/models", json!(["twice@1"]));
    put(&mut document, "/grants/1/outputs", json!(["word"]));
    assert_eq!(errors(document.clone()), Vec::<String>::new());
    put(&mut document, "/grants/1/outputs", json!(["probabilities"]));
    let [error] = &*errors(document) else {
        panic!("one fault")
    };
    assert!(error.starts_with("grants[1].outputs[0]: "), "{error}");
}

#[test]
fn handlers_that_make_no_sense_are_faults() {
    let check = |handlers: Value, path: &str, text: &str| {
        let errors = errors(partners(handlers.clone()));
        let [error] = errors.as_slice() else {
            panic!("{handlers}: {errors:#?}")
        };
        assert!(
            error.starts_with(&format!("grants[1].handlers.{path}: ")),
            "{handlers}: {error}"
        );
        assert!(error.contains(text), "{handlers}: {error}");
    };
    check(
        json!({"digits": {"postprocess": []}}),
        "digits",
        "model of this grant",
    );
    check(json!({"twice": {}}), "twice", "names no handler");
    check(
        json!({"twice": {"preprocess": "pgn"}}),
        "twice.preprocess",
        "\"pgn\"",
    );
    check(
        json!({"twice": {"preprocess": []}}),
        "twice.preprocess",
        "is empty",
    );
    check(
        json!({"twice": {"postprocess": "labels"}}),
        "twice.returns",
        "is missing: the grant has a postprocess handler, and the model has no returns",
    );
    let labels = json!({"outputs": [{"name": "word", "datatype": "FP32", "shape": [1]}]});
    check(
        json!({"twice": {"postprocess": [], "returns": labels}}),
        "twice.returns",
        "needs a postprocess handler",
    );
    check(
        json!({"twice": {"preprocess": "png", "returns": labels}}),
        "twice.returns",
        "needs a postprocess handler",
    );
    let mut document = partners(json!({"twice": {"preprocess": "png"}}));
    put(&mut document, "/grants/1/operations", json!(["ready"]));
    assert!(errors(document)[0].starts_with("grants[1].handlers: are only for inference"));
}
