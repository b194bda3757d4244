//! JSON of a model's own: its route and its places.

use super::*;

/// A model of two inputs and two outputs with this JSON.
fn document(json: Value) -> Value {
    json!({
        "backend": "cpu", "versions": ["1"], "protocols": ["oip-rest", "json"], "json": json,
        "inputs": [
            {"name": "a", "datatype": "FP32", "shape": [1]},
            {"name": "b", "datatype": "BYTES", "shape": [2], "max_item_bytes": 8, "optional": true}
        ],
        "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [1]},
            {"name": "z", "datatype": "FP32", "shape": [{"max": 2}]}
        ]
    })
}

fn good() -> Value {
    json!({"route": "/classify", "inputs": {"a": "/a"}, "outputs": {"y": "/y"}})
}

/// The model's JSON with one member changed.
fn but(at: &str, value: Value) -> Value {
    let mut json = good();
    put(&mut json, at, value);
    document(json)
}

const AT: &str = "/models/hidden";

#[test]
fn a_template_has_a_route_and_a_place_for_what_must_come() {
    for json in [
        good(),
        json!({"route": "/v1/score.2_x~y/z-1", "inputs": {"a": ""}, "outputs": {"y": ""}}),
        json!({
            "route": "/c", "inputs": {"a": "/in/a", "b": {"pointer": "/in/b", "bytes": "base64"}},
            "outputs": {"y": "/out/y", "z": "/out/z"}, "ignored": ["/id", "/in/c", "/a~1b/~0"]
        }),
    ] {
        accept(AT, document(json));
    }
    let faulty = |at: &str, value: Value, path: &str, text: &str| {
        check(
            AT,
            but(at, value),
            &format!("models.hidden.json{path}"),
            text,
        );
    };
    faulty("/route", Value::Null, ".route", "is missing");
    for route in [
        "",
        "classify",
        "/",
        "//classify",
        "/classify/",
        "/a/../b",
        "/./a",
        "/a?b=c",
        "/a#b",
        "/%61",
        "/a b",
        "/a;b",
        "/\u{e9}",
        &"/a".repeat(129),
    ] {
        faulty("/route", json!(route), ".route", "is not a plain path");
    }
    for route in [
        "/v2",
        "/v2/models/m/infer",
        "/v1/models",
        "/v1/models/m",
        "/v1/chat/completions",
        "/v1/embeddings",
        "/ping",
        "/predictions/m",
        "/grpc.health.v1.Health/Check",
        "/inference.GRPCInferenceService/ModelInfer",
        "/tensorflow.serving.PredictionService/Predict",
        "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions",
    ] {
        faulty(
            "/route",
            json!(route),
            ".route",
            "belongs to another protocol",
        );
    }
    faulty(
        "/inputs/a",
        Value::Null,
        ".inputs",
        "have no place for \"a\", which must come",
    );
    faulty(
        "/inputs/c",
        json!("/c"),
        ".inputs.c",
        "no tensor is named \"c\"",
    );
    faulty(
        "/outputs/x",
        json!("/x"),
        ".outputs.x",
        "no tensor is named \"x\"",
    );
    faulty("/outputs", json!({}), ".outputs", "lists nothing");
    let coded = json!({"pointer": "/a", "bytes": "base64"});
    faulty(
        "/inputs/a",
        coded,
        ".inputs.a.bytes",
        "is for BYTES, and \"a\" is FP32",
    );
}

#[test]
fn no_place_is_within_another() {
    let faulty = |at: &str, value: Value, path: &str, text: &str| {
        check(
            AT,
            but(at, value),
            &format!("models.hidden.json{path}"),
            text,
        );
    };
    for (pointer, text) in [
        ("a", "does not begin with a slash"),
        ("/~2", "has a ~ that is neither ~0 nor ~1"),
        ("/a~", "has a ~ that is neither ~0 nor ~1"),
        ("/1/2/3/4/5/6/7", "7 names are too many"),
        (&*format!("/{}", "x".repeat(256)), "257 bytes are too long"),
    ] {
        faulty("/inputs/a", json!(pointer), ".inputs.a", text);
        faulty("/ignored", json!([pointer]), ".ignored[0]", text);
    }
    for pointer in ["/a", "/a/b", ""] {
        faulty(
            "/inputs/b",
            json!(pointer),
            ".inputs.b",
            "is where another place is",
        );
        faulty(
            "/ignored",
            json!([pointer]),
            ".ignored[0]",
            "is where another place is",
        );
    }
    for pointer in ["/y", "/y/z", ""] {
        faulty(
            "/outputs/z",
            json!(pointer),
            ".outputs.z",
            "is where another place is",
        );
    }
    let many: Vec<_> = (0..65).map(|index| format!("/i{index}")).collect();
    faulty("/ignored", json!(many), ".ignored", "65 are too many");
}

#[test]
fn a_route_is_of_one_model_and_one_version_and_of_the_protocol() {
    let mut two = with(AT, document(good()));
    put(&mut two, "/models/twice/protocols", json!(["json"]));
    put(&mut two, "/models/twice/versions", json!(["1"]));
    let own =
        json!({"route": "/classify", "inputs": {"image": ""}, "outputs": {"probabilities": ""}});
    put(&mut two, "/models/twice/json", own);
    assert_eq!(
        errors(two),
        ["models.twice.json.route: is model \"hidden\"'s too (a path of its own)"]
    );
    let mut versions = document(good());
    put(&mut versions, "/versions", json!(["1", "2"]));
    check(AT, versions, "models.hidden.json", "names no version");
    let mut other = document(good());
    put(&mut other, "/protocols", json!(["oip-rest"]));
    check(
        AT,
        other,
        "models.hidden.json",
        "has no meaning without protocol json",
    );
    check(
        AT,
        document(Value::Null),
        "models.hidden.json",
        "is missing",
    );
    check(
        "/models/picture/protocols",
        json!(["json"]),
        "models.picture.protocols[0]",
        "cannot carry a raw body",
    );
    let mut half = document(good());
    put(&mut half, "/inputs/0/datatype", json!("FP16"));
    check(
        AT,
        half,
        "models.hidden.protocols[1]",
        "json cannot carry FP16",
    );
}
