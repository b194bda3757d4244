//! Ensembles: valid graphs, and each way in which a graph is invalid.

use tensorgate_policy::policy::{Ensemble, EnsembleStep, TensorMapping};

use super::*;

/// The fixture and an ensemble `both` of `digits` and `twice@2` with these steps and outputs.
fn both(steps: Value, outputs: Value) -> Value {
    let mut document = document();
    let digits = document["models"]["digits"].clone();
    put(
        &mut document,
        "/models/both",
        json!({
            "ensemble": {"steps": steps}, "versions": ["1"], "protocols": ["oip-rest"],
            "inputs": digits["inputs"], "outputs": outputs
        }),
    );
    // Takes the outputs of `digits`.
    put(
        &mut document,
        "/models/scores",
        json!({
            "backend": "cpu", "versions": ["1"], "protocols": ["oip-rest"],
            "inputs": [{"name": "in", "datatype": "FP32", "shape": [{"max": 32}, 10]}],
            "outputs": [{"name": "best", "datatype": "INT64", "shape": [{"max": 32}]}]
        }),
    );
    let models = json!(["digits", "twice", "picture", "both", "scores"]);
    put(&mut document, "/grants/0/models", models);
    document
}

fn scores(name: &str) -> Value {
    json!({"name": name, "datatype": "FP32", "shape": [{"max": 32}, 10]})
}

fn fan_out() -> Value {
    json!([
        {"model": "digits", "outputs": {"probabilities": "one"}},
        {"model": "twice@2", "inputs": {"image": "image"}, "outputs": {"probabilities": "other"}}
    ])
}

fn chain() -> Value {
    json!([
        {"model": "scores", "inputs": {"in": "one"}, "outputs": {"best": "best"}},
        {"model": "digits", "outputs": {"probabilities": "one"}}
    ])
}

fn best() -> Value {
    json!([{"name": "best", "datatype": "INT64", "shape": [{"max": 32}]}])
}

#[test]
fn a_budget_is_of_the_ensemble_and_not_of_its_steps() {
    let outputs = json!([scores("one"), scores("other")]);
    let mut document = both(fan_out(), outputs);
    let budget = json!({"requests": 9, "per": "day"});
    put(&mut document, "/models/both/budget", budget.clone());
    assert_eq!(errors(document.clone()), Vec::<String>::new());
    put(&mut document, "/models/digits/budget", budget);
    let expected = "models.digits.budget: requests of ensemble \"both\" would not count (budget of the ensemble)";
    assert_eq!(errors(document), [expected]);
}

#[test]
fn models_with_the_same_inputs_are_called_at_once_and_others_after_what_they_take() {
    let ensemble = |steps, outputs| model(both(steps, outputs), "both");
    let steps = |model: &Model| model.ensemble().map(Ensemble::steps).unwrap().to_vec();
    let outputs = json!([scores("one"), scores("other")]);
    let parallel = steps(&ensemble(fan_out(), outputs));
    assert!(parallel.iter().all(|step| step.after().is_empty()));
    assert_eq!(parallel[1].version(), "2");
    let joint = TensorMapping {
        own: "image".into(),
        shared: "image".into(),
        from_client: true,
    };
    assert!(parallel.iter().all(|step| step.inputs() == [joint.clone()]));
    // In reverse order.
    let chained = steps(&ensemble(chain(), best()));
    assert_eq!(
        chained.iter().map(EnsembleStep::after).collect::<Vec<_>>(),
        [&[][..], &[0]]
    );
    assert!(!chained[1].inputs()[0].from_client());
    assert_eq!(chained[1].outputs()[0].own(), "best");
}

#[test]
fn a_graph_that_cannot_be_called_is_a_fault() {
    let check = |change: (&str, Value), path: &str, text: &str| {
        let mut document = both(chain(), best());
        put(
            &mut document,
            &format!("/models/both/{}", change.0),
            change.1.clone(),
        );
        let errors = errors(document);
        let [error] = errors.as_slice() else {
            panic!("{change:?}: {errors:#?}")
        };
        assert!(
            error.starts_with(&format!("models.both.{path}: ")),
            "{change:?}: {error}"
        );
        assert!(error.contains(text), "{change:?}: {error}");
    };
    let steps = "ensemble/steps";
    check((steps, json!([])), "ensemble.steps", "is empty");
    check(
        (
            steps,
            json!(vec![
                json!({"model": "digits", "outputs": {"probabilities": "one"}});
                17
            ]),
        ),
        "ensemble.steps",
        "17 steps are too many",
    );
    check(
        ("ensemble/steps/1/model", json!("digit")),
        "ensemble.steps[1].model",
        "\"digit\"",
    );
    check(
        ("ensemble/steps/1/model", json!("both")),
        "ensemble.steps[1].model",
        "is an ensemble itself",
    );
    check(
        ("ensemble/steps/1/model", json!("picture")),
        "ensemble.steps[1].model",
        "has handlers",
    );
    check(
        ("ensemble/steps/1/model", json!("twice")),
        "ensemble.steps[1].model",
        "has several versions, and the step names none (twice@1)",
    );
    check(
        ("ensemble/steps/1/model", json!("digits@9")),
        "ensemble.steps[1].model",
        "has no version",
    );
    check(
        ("ensemble/steps/1/outputs", json!({})),
        "ensemble.steps[1].outputs",
        "is empty",
    );
    check(
        ("ensemble/steps/1/outputs", json!({"labels": "one"})),
        "ensemble.steps[1].outputs.labels",
        "output of that model",
    );
    check(
        (
            "ensemble/steps/1/outputs",
            json!({"probabilities": "image"}),
        ),
        "ensemble.steps[1].outputs.probabilities",
        "is already the name of another tensor",
    );
    check(
        ("ensemble/steps/0/inputs", json!({"in": "two"})),
        "ensemble.steps[0].inputs.in",
        "input or step's output",
    );
    check(
        ("ensemble/steps/0/inputs", json!({"in": "image"})),
        "ensemble.steps[0].inputs.in",
        "has 4 dims, not 2",
    );
    check(
        ("ensemble/steps/0/inputs", json!({"in": "best"})),
        "ensemble.steps[0].inputs.in",
        "is INT64, not FP32",
    );
    check(
        (
            "ensemble/steps/1/inputs",
            json!({"picture": "image", "image": "image"}),
        ),
        "ensemble.steps[1].inputs.picture",
        "input of that model",
    );
    check(
        ("backend", json!("cpu")),
        "backend",
        "is not for an ensemble",
    );
    check(
        ("versions", json!(["1", "2"])),
        "versions",
        "has one version",
    );
    check(
        ("versions", json!({"1": {"weight": 1}})),
        "versions",
        "has one version",
    );
    let wide = json!([{"name": "best", "datatype": "INT64", "shape": [{"max": 31}]}]);
    check(
        ("outputs", wide),
        "outputs[0]",
        "has 1 to 32 in dim 0, where 1 to 31 are accepted",
    );
    let large = json!([{"name": "best", "datatype": "INT64", "shape": [{"min": 2, "max": 32}]}]);
    check(
        ("outputs", large),
        "outputs[0]",
        "has 1 to 32 in dim 0, where 2 to 32 are accepted",
    );
    let other = json!([best()[0], {"name": "worst", "datatype": "INT64", "shape": [1]}]);
    check(
        ("outputs", other),
        "outputs[1]",
        "no step has output \"worst\"",
    );
}

#[test]
fn a_step_that_waits_for_itself_is_a_fault() {
    let mut document = both(chain(), best());
    put(
        &mut document,
        "/models/again",
        json!({
            "backend": "cpu", "versions": ["1"], "protocols": ["oip-rest"],
            "inputs": [scores("in")], "outputs": [scores("out")]
        }),
    );
    put(
        &mut document,
        "/grants/0/models",
        json!(["digits", "twice", "picture", "both", "scores", "again"]),
    );
    let steps = json!([
        {"model": "again", "inputs": {"in": "b"}, "outputs": {"out": "a"}},
        {"model": "again", "inputs": {"in": "a"}, "outputs": {"out": "b"}},
        {"model": "scores", "inputs": {"in": "a"}, "outputs": {"best": "best"}}
    ]);
    put(&mut document, "/models/both/ensemble/steps", steps);
    let errors = errors(document);
    let expected = "models.both.ensemble.steps[0]: needs its own output: the steps form a cycle";
    assert_eq!(errors, [expected]);
}

#[test]
fn a_models_concurrency_below_its_steps_is_a_fault() {
    let outputs = json!([scores("one"), scores("other")]);
    let steps = json!([
        {"model": "digits", "outputs": {"probabilities": "one"}},
        {"model": "digits", "outputs": {"probabilities": "other"}}
    ]);
    let mut document = both(steps, outputs);
    put(
        &mut document,
        "/models/digits/limits",
        json!({"concurrency": 2}),
    );
    assert_eq!(errors(document.clone()), Vec::<String>::new());
    put(
        &mut document,
        "/models/digits/limits",
        json!({"concurrency": 1}),
    );
    let errors = errors(document);
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(
        errors[0].starts_with(
            "models.both.ensemble.steps[1].model: each request calls model \"digits\" 2 times"
        ),
        "{errors:#?}"
    );
}

/// Two models at once, with one change, and the reported errors.
fn told(at: &str, value: Value, faults: fn(Value) -> Vec<String>) -> Vec<String> {
    let mut document = both(fan_out(), json!([scores("one"), scores("other")]));
    put(&mut document, at, value);
    let mut told = faults(document);
    told.retain(|fault| fault.starts_with("models.both."));
    told
}

#[track_caller]
fn one(told: &[String], path: &str, text: &str) {
    let [fault] = told else { panic!("{told:#?}") };
    assert!(
        fault.starts_with(&format!("models.both.{path}: ")),
        "{fault}"
    );
    assert!(fault.contains(text), "{fault}");
}

#[test]
fn an_ensemble_needs_the_proofs_of_its_models() {
    let requires = json!({"any_of": ["mtls"]});
    let alone = told("/models/digits/requires", requires.clone(), errors);
    one(&alone, "ensemble.steps[0].model", "requires credentials");
    let mut document = both(fan_out(), json!([scores("one"), scores("other")]));
    put(&mut document, "/models/digits/requires", requires);
    let more = json!({"all_of": ["mtls", "api_key"]});
    put(&mut document, "/models/both/requires", more);
    assert_eq!(errors(document), Vec::<String>::new());
}

#[test]
fn a_parameter_of_an_ensemble_is_one_of_its_models_and_no_wider() {
    let check = |bound: Value, text: &str| {
        let told = told(
            "/models/both/parameters",
            json!({"priority": bound}),
            errors,
        );
        one(&told, "parameters.priority", text);
    };
    check(
        json!({"int": [0, 11]}),
        "model \"digits\" accepts fewer values of this parameter",
    );
    check(
        json!({"bool": true}),
        "model \"digits\" accepts fewer values of this parameter",
    );
    let other = told(
        "/models/both/parameters",
        json!({"pace": {"int": [0, 1]}}),
        errors,
    );
    one(
        &other,
        "parameters.pace",
        "no model of the ensemble has this parameter",
    );
    let within = told(
        "/models/both/parameters",
        json!({"priority": {"int": [1, 9]}}),
        errors,
    );
    assert_eq!(within, Vec::<String>::new());
}

#[test]
fn a_step_must_fit_its_models_byte_limit() {
    let mut document = both(chain(), best());
    let limits = |bytes: u64| json!({"in_flight_bytes": bytes});
    // 32 rows of 10 floats.
    put(&mut document, "/models/scores/limits", limits(1281));
    assert_eq!(errors(document.clone()), Vec::<String>::new());
    put(&mut document, "/models/scores/limits", limits(1280));
    one(
        &errors(document),
        "ensemble.steps[0].model",
        "1280 bytes at once",
    );
}

#[test]
fn items_fit_the_model_that_takes_them() {
    let mut document = both(chain(), best());
    let word = |name: &str, bytes: u64| json!({"name": name, "datatype": "BYTES", "shape": [1], "max_item_bytes": bytes});
    put(&mut document, "/models/scores/inputs/0", word("in", 8));
    put(
        &mut document,
        "/models/digits/outputs/0",
        word("probabilities", 8),
    );
    assert_eq!(errors(document.clone()), Vec::<String>::new());
    put(
        &mut document,
        "/models/digits/outputs/0",
        word("probabilities", 9),
    );
    let path = "ensemble.steps[0].inputs.in";
    one(
        &errors(document),
        path,
        "items of up to 9 bytes, where up to 8 are accepted",
    );
}

#[test]
fn access_through_an_ensemble_is_reported() {
    let image = |range: Value| {
        let mut image = document()["models"]["digits"]["inputs"][0].clone();
        image["range"] = range;
        image
    };
    let wide = told("/models/both/inputs/0", image(json!([0, 17])), warnings);
    let [one_, other] = &*wide else {
        panic!("{wide:#?}")
    };
    for (told, step) in [(one_, 0), (other, 1)] {
        let path = format!("models.both.ensemble.steps[{step}].inputs.image: ");
        assert!(told.starts_with(&path), "{told}");
        assert!(told.contains("its range is stricter"), "{told}");
    }
    let narrow = told("/models/both/inputs/0", image(json!([1, 15])), warnings);
    assert_eq!(narrow, Vec::<String>::new());
    let rounded = json!({"name": "probabilities", "datatype": "FP32", "shape": [{"max": 32}, 10], "round_decimals": 3});
    let more = told("/models/digits/outputs/0", rounded, warnings);
    one(&more, "outputs[0]", "(round_decimals: 3)");
    let idle = json!([
        fan_out()[0], fan_out()[1],
        {"model": "digits", "outputs": {"probabilities": "unknown"}}
    ]);
    let idle = told("/models/both/ensemble/steps", idle, warnings);
    one(&idle, "ensemble.steps[2]", "no output of this step is used");
    let mut extra = image(json!([0, 16]));
    extra["name"] = json!("mask");
    let idle = told("/models/both/inputs/1", extra, warnings);
    one(&idle, "inputs[1]", "no step uses this input");
}

#[test]
fn content_is_charged_for_each_step() {
    let mut document = both(fan_out(), json!([scores("one"), scores("other")]));
    // One request of 32 images of 64 floats, at two models.
    let cost = |bytes: u64| json!({"bytes": bytes, "window_s": 60});
    put(&mut document, "/grants/0/models", json!(["both"]));
    put(&mut document, "/grants/0/cost", cost(16_384));
    assert_eq!(errors(document.clone()), Vec::<String>::new());
    put(&mut document, "/grants/0/cost", cost(16_383));
    let [error] = &*errors(document) else {
        panic!("one fault")
    };
    assert!(error.starts_with("grants[0].cost.bytes: "), "{error}");
}

#[test]
fn a_version_in_shadow_is_no_step() {
    let outputs = json!([scores("one"), scores("other")]);
    let mut document = both(fan_out(), outputs);
    let versions = json!({"1": {"weight": 1}, "2": {"shadow": true}});
    put(&mut document, "/models/twice/versions", versions);
    let told = errors(document);
    let path = "ensemble.steps[1].model";
    one(&told, path, "model \"twice\" has no version \"2\"");
}
