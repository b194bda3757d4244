//! JSON templates of backends.

use super::*;

const AT: &str = "/models/hidden";

/// A model at such a backend, with its JSON template.
fn own() -> Value {
    json!({
        "backend": "own", "versions": ["1"], "protocols": ["oip-rest", "json"],
        "inputs": [
            {"name": "a", "datatype": "FP32", "shape": [1]},
            {"name": "b", "datatype": "BYTES", "shape": [2], "max_item_bytes": 8, "optional": true}
        ],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
        "json": {
            "route": "/classify", "inputs": {"a": "/a", "b": {"pointer": "/b", "bytes": "base64"}}, "outputs": {"y": "/y"}
        }
    })
}

/// The fixture with that model, and one change to it or to its backend.
fn changed(at: &str, value: Value) -> Value {
    let mut document = with(AT, own());
    let backend = json!({"kind": "http-json", "endpoints": ["http://127.0.0.1:3000"]});
    put(&mut document, "/backends/own", backend);
    put(&mut document, at, value);
    document
}

fn faulty(at: &str, value: Value, path: &str, text: &str) {
    let shown = format!("{at} = {value}");
    let errors = errors(changed(at, value));
    let [error] = errors.as_slice() else {
        panic!("{shown}: {errors:#?}")
    };
    assert!(error.starts_with(&format!("{path}: ")), "{shown}: {error}");
    assert!(error.contains(text), "{shown}: {error}");
}

fn good(at: &str, value: Value) {
    assert_eq!(
        errors(changed(at, value.clone())),
        [""; 0],
        "{at} = {value}"
    );
}

#[test]
fn every_input_and_output_of_a_json_backend_needs_a_pointer() {
    good("/models/hidden/versions", json!(["1"]));
    good("/models/hidden/protocols", json!(["json"]));
    // A backend route may be the same as a client route.
    let json = |at: &str| format!("/models/hidden/json{at}");
    good("/models/hidden/protocols", json!(["oip-grpc"]));
    let mut behind = changed("/models/hidden/protocols", json!(["oip-grpc"]));
    put(&mut behind, &json("/route"), json!("/predictions/iris"));
    assert_eq!(errors(behind), [""; 0]);
    faulty(
        &json("/route"),
        json!("/predictions/iris"),
        "models.hidden.json.route",
        "is a route of another protocol",
    );
    faulty(
        &json("/inputs/b"),
        Value::Null,
        "models.hidden.json.inputs",
        "has no pointer for \"b\", an input of the backend",
    );
    faulty(
        &json("/outputs"),
        json!({}),
        "models.hidden.json.outputs",
        "has no pointer for \"y\", an output of the backend",
    );
    let mut without = changed("/models/hidden/protocols", json!(["oip-rest"]));
    put(&mut without, "/models/hidden/json", Value::Null);
    assert_eq!(
        errors(without),
        [
            "models.hidden.json: is missing: a backend of kind http-json needs the model's route and pointers (json: {route: /classify, inputs: {…}, outputs: {…}})"
        ]
    );
}

#[test]
fn json_backends_get_only_values_that_json_can_express() {
    let input = |at: &str| format!("/models/hidden/inputs/{at}");
    faulty(
        &input("0/finite"),
        json!(false),
        "models.hidden.json.inputs",
        "\"a\" may hold NaN or an infinity",
    );
    faulty(
        "/models/hidden/json/inputs/b",
        json!("/b"),
        "models.hidden.json.inputs",
        "\"b\" may hold bytes that are not UTF-8, which JSON cannot represent",
    );
    for (member, value) in [
        ("utf8", json!(true)),
        ("pattern", json!("[a-z]+")),
        ("allowed", json!(["a", "b"])),
    ] {
        let mut text = changed("/models/hidden/json/inputs/b", json!("/b"));
        put(&mut text, &input(&format!("1/{member}")), value);
        assert_eq!(errors(text), [""; 0], "{member}");
    }
    for (at, place) in [("inputs/0", "inputs"), ("outputs/0", "outputs")] {
        let mut half = changed("/models/hidden/protocols", json!(["oip-grpc"]));
        put(
            &mut half,
            &format!("/models/hidden/{at}/datatype"),
            json!("BF16"),
        );
        let found = errors(half);
        let starts = format!("models.hidden.json.{place}: http-json cannot carry BF16");
        assert!(
            found.len() == 1 && found[0].starts_with(&starts),
            "{found:?}"
        );
    }
    faulty(
        "/models/hidden/parameters",
        json!({"p": {"int": [0, 1]}}),
        "models.hidden.parameters",
        "cannot be sent in the JSON of a backend of kind http-json",
    );
}

#[test]
fn handlers_between_two_forms_need_two() {
    let handled = |protocols: Value| {
        let mut document = changed("/models/hidden/postprocess", json!("labels"));
        put(&mut document, "/models/hidden/protocols", protocols);
        let outputs = json!([{"name": "y", "datatype": "FP32", "shape": [1]}]);
        put(
            &mut document,
            "/models/hidden/returns",
            json!({"outputs": outputs}),
        );
        errors(document)
    };
    assert_eq!(handled(json!(["oip-rest"])), [""; 0]);
    let found = handled(json!(["json"]));
    assert!(
        found.len() == 1
            && found[0].starts_with("models.hidden.json: cannot describe both clients and backend"),
        "{found:?}"
    );
}

#[test]
fn only_json_backends_have_a_readiness_path() {
    let at = "/backends/own/health_check";
    good(at, json!({"path": "/readyz"}));
    good(at, json!({"path": "/-/healthz", "interval_s": 1}));
    faulty(
        at,
        json!({"path": "readyz"}),
        "backends.own.health_check.path",
        "is not a plain path",
    );
    faulty(
        "/backends/cpu/health_check",
        json!({"path": "/readyz"}),
        "backends.cpu.health_check.path",
        "only for backends of kind http-json",
    );
    good(
        "/backends/own/endpoints",
        json!(["http://a:1", "http://b:1"]),
    );
    faulty(
        "/backends/own/endpoints",
        json!([]),
        "backends.own.endpoints",
        "",
    );
}
