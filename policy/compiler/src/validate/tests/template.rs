//! JSON templates: their route and their pointers.

use super::*;

/// A model of two inputs and two outputs with this JSON template.
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

/// The model's JSON template with one member changed.
fn but(at: &str, value: Value) -> Value {
    let mut json = good();
    put(&mut json, at, value);
    document(json)
}

const AT: &str = "/models/hidden";

#[test]
fn a_template_has_a_route_and_a_pointer_for_every_required_input() {
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
            "is a route of another protocol",
        );
    }
    faulty(
        "/inputs/a",
        Value::Null,
        ".inputs",
        "has no pointer for \"a\", a required input",
    );
    faulty(
        "/inputs/c",
        json!("/c"),
        ".inputs.c",
        "there is no tensor \"c\"",
    );
    faulty(
        "/outputs/x",
        json!("/x"),
        ".outputs.x",
        "there is no tensor \"x\"",
    );
    faulty("/outputs", json!({}), ".outputs", "is empty");
    let coded = json!({"pointer": "/a", "bytes": "base64"});
    faulty(
        "/inputs/a",
        coded,
        ".inputs.a.bytes",
        "is for BYTES, and \"a\" is FP32",
    );
}

#[test]
fn no_pointer_is_within_another() {
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
            "one is within the other",
        );
        faulty(
            "/ignored",
            json!([pointer]),
            ".ignored[0]",
            "one is within the other",
        );
    }
    for pointer in ["/y", "/y/z", ""] {
        faulty(
            "/outputs/z",
            json!(pointer),
            ".outputs.z",
            "one is within the other",
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
        ["models.twice.json.route: is also the route of model \"hidden\" (a different path)"]
    );
    let mut versions = document(good());
    put(&mut versions, "/versions", json!(["1", "2"]));
    check(AT, versions, "models.hidden.json", "cannot name a version");
    let mut other = document(good());
    put(&mut other, "/protocols", json!(["oip-rest"]));
    check(
        AT,
        other,
        "models.hidden.json",
        "has no effect without protocol json",
    );
    check(
        AT,
        document(Value::Null),
        "models.hidden.json",
        "is missing",
    );
    let raw = errors(with("/models/picture/protocols", json!(["json"])));
    assert!(
        raw.iter()
            .any(|error| error
                .starts_with("models.picture.protocols[0]: json cannot carry a raw body")),
        "{raw:?}"
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

/// Two inputs and two outputs in rows, with these first dimensions, and with these pointers
/// instead of the valid ones.
fn in_rows(dims: [Value; 2], at: &str, value: Value) -> Value {
    let [one, other] = dims;
    let mut json = json!({
        "route": "/rows", "ignored": ["/rows/*/id", "/id"],
        "inputs": {"a": "/rows/*/a", "b": "/rows/*/in/b"}, "outputs": {"y": "/rows/*/y", "z": "/rows/*/z"}
    });
    put(&mut json, at, value);
    json!({
        "backend": "cpu", "versions": ["1"], "protocols": ["json"], "json": json,
        "inputs": [
            {"name": "a", "datatype": "FP32", "shape": [one.clone(), 2]},
            {"name": "b", "datatype": "INT8", "shape": [other.clone()]}
        ],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [one]}, {"name": "z", "datatype": "INT8", "shape": [other, 1]}]
    })
}

#[test]
fn tensors_of_one_list_have_the_same_number_of_rows() {
    let named = || [json!({"name": "n", "max": 4}), json!("n")];
    accept(AT, in_rows(named(), "/route", json!("/r")));
    accept(AT, in_rows([json!(3), json!(3)], "/route", json!("/r")));
    // In separate lists they need not have the same length.
    let mut apart = in_rows(
        [json!({"max": 4}), json!(3)],
        "/inputs/b",
        json!("/cols/*/b"),
    );
    put(&mut apart, "/json/outputs/z", json!("/cols/*/z"));
    accept(AT, apart);
    for dims in [
        [json!({"max": 4}), json!({"max": 4})],
        [
            json!({"name": "n", "max": 4}),
            json!({"name": "m", "max": 4}),
        ],
        [json!(3), json!(4)],
        [json!({"name": "n", "max": 4}), json!(4)],
        [json!(4), json!({"max": 4})],
    ] {
        let faults = errors(with(AT, in_rows(dims, "/route", json!("/r"))));
        for (place, other) in [("inputs.b", "a"), ("outputs.z", "y")] {
            let fault = format!(
                "models.hidden.json.{place}: is in the same list as \"{other}\", and their first dims may differ \
                 (the same name for the first dim of both)"
            );
            assert!(faults.contains(&fault), "{fault}: {faults:?}");
        }
    }
    for (pointer, text) in [
        ("/rows/*/x/*/b", "has more than one *"),
        ("/rows/*", "ends with *"),
        ("/*", "ends with *"),
        ("/rows/b", "contradicts another pointer"),
        ("/rows/*/a", "one is within the other"),
        ("/rows/*/id/b", "one is within the other"),
        ("/rows", "one is within the other"),
    ] {
        // Pointers are counted before ignored members, so the error may name an ignored member.
        let at = match pointer {
            "/rows/*/id/b" => "ignored[0]",
            _ => "inputs.b",
        };
        check(
            AT,
            in_rows(named(), "/inputs/b", json!(pointer)),
            &format!("models.hidden.json.{at}"),
            text,
        );
    }
    let mut scalar = in_rows(named(), "/route", json!("/r"));
    put(&mut scalar, "/inputs/1/shape", json!([]));
    check(
        AT,
        scalar,
        "models.hidden.json.inputs.b",
        "has *, and \"b\" is a scalar",
    );
}
