//! Models: backends, handlers, raw bodies, parameters.

use tensorgate_policy::policy::Accepts;

use super::*;

#[test]
fn a_model_says_where_and_how_it_is_served() {
    let digits = |field: &str, value: Value, path: &str, text: &str| {
        check(
            &format!("/models/digits/{field}"),
            value,
            &format!("models.digits.{path}"),
            text,
        );
    };
    digits("backend", Value::Null, "backend", "is missing");
    digits(
        "backend",
        json!("cup"),
        "backend",
        "there is no backend \"cup\"",
    );
    digits(
        "backend_model",
        json!("a/../b"),
        "backend_model",
        "begins with a dot",
    );
    digits("protocols", json!([]), "protocols", "is empty");
    digits(
        "protocols",
        json!(["oip-rets"]),
        "protocols[0]",
        "there is no protocol \"oip-rets\" (oip-rest; known are oip-rest, oip-grpc, \
         tf-serving-rest, tf-serving-grpc, openai, torchserve-rest, torchserve-grpc, json)",
    );
    digits(
        "protocols",
        json!(["oip-rest", "oip-rest"]),
        "protocols[1]",
        "listed twice",
    );
    digits(
        "encodings",
        json!(["gzip", "br"]),
        "encodings[1]",
        "content coding",
    );
    digits(
        "encodings",
        json!(["gzip", "gzip"]),
        "encodings[1]",
        "listed twice",
    );
    accept("/models/digits/encodings", json!(["deflate", "gzip"]));
    check(
        "/models/digits/outputs",
        json!([]),
        "models.digits.outputs",
        "is empty",
    );
    digits("outputs", Value::Null, "outputs", "is empty");
    let check_versions = |value: Value, path: &str, text: &str| {
        check(
            "/models/twice/versions",
            value,
            &format!("models.twice.{path}"),
            text,
        );
    };
    check_versions(json!([]), "versions", "is empty");
    check_versions(json!(["1", "1"]), "versions[1]", "listed twice");
    check_versions(json!(["1/2"]), "versions[0]", "which is not allowed");
    check_versions(json!([".."]), "versions[0]", "begins with a dot");
    check_versions(json!(["x".repeat(65)]), "versions[0]", "too long");
    let digits = model(document(), "digits");
    assert_eq!(
        (digits.backend(), digits.backend_model()),
        ("cpu", "digits")
    );
    assert_eq!(model(document(), "picture").backend_model(), "digits");
}

#[test]
fn a_protocol_needs_models_that_its_messages_can_express() {
    let tf = ["oip-rest", "tf-serving-rest"];
    accept("/models/hidden/protocols", json!(tf));
    for (name, datatype, answered, text) in [
        (
            "b64",
            "FP32",
            "FP32",
            "cannot tell an input named b64 from bytes in base64 (rename the input)",
        ),
        (
            "x",
            "BF16",
            "FP32",
            "cannot carry BF16, which tensor \"x\" has (tf-serving-grpc in its place)",
        ),
        (
            "x",
            "FP32",
            "FP16",
            "cannot carry FP16, which tensor \"y\" has",
        ),
    ] {
        let model = |protocols: &[&str]| {
            json!({
                "backend": "cpu", "versions": ["1"], "protocols": protocols,
                "inputs": [{"name": name, "datatype": datatype, "shape": [1]}],
                "outputs": [{"name": "y", "datatype": answered, "shape": [1]}]
            })
        };
        check(
            "/models/hidden",
            model(&tf),
            "models.hidden.protocols[1]",
            text,
        );
        accept("/models/hidden", model(&["oip-rest", "tf-serving-grpc"]));
        for torch in ["torchserve-rest", "torchserve-grpc"] {
            let place = "models.hidden.protocols[0]";
            check("/models/hidden", model(&[torch]), place, text);
        }
    }
}

#[test]
fn a_preprocess_handler_and_what_it_takes_go_together() {
    let picture = |field: &str, value: Value, path: &str, text: &str| {
        check(
            &format!("/models/picture/{field}"),
            value,
            &format!("models.picture.{path}"),
            text,
        );
    };
    picture(
        "preprocess",
        json!("pgn"),
        "preprocess",
        "there is no handler \"pgn\" (png)",
    );
    picture(
        "preprocess",
        Value::Null,
        "accepts",
        "needs a preprocess handler that makes the inputs",
    );
    picture(
        "accepts",
        Value::Null,
        "accepts",
        "is missing: it describes what the preprocess handler accepts",
    );
    picture(
        "accepts",
        json!({}),
        "accepts",
        "exactly one of inputs and raw",
    );
    let tensor = json!({"name": "x", "datatype": "UINT8", "shape": [4]});
    let both = json!({"inputs": [tensor], "raw": {"content_types": ["image/png"], "max_bytes": 1}});
    picture("accepts", both, "accepts", "exactly one of inputs and raw");
    accept("/models/picture/accepts", json!({"inputs": [tensor]}));
    let large = json!({"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1_048_577]}]});
    warn(
        "/models/picture/accepts",
        large,
        "models.picture.accepts.inputs",
        "1048577 bytes of tensors",
    );
    picture(
        "postprocess",
        json!("unknown"),
        "postprocess",
        "there is no handler",
    );
    picture(
        "postprocess",
        Value::Null,
        "returns",
        "needs a postprocess handler that makes these outputs",
    );
    picture("returns", Value::Null, "returns", "is missing");
    picture("returns", json!({}), "returns.outputs", "is empty");
}

#[test]
fn a_raw_body_is_typed_bounded_and_rests_alone() {
    let raw = |field: &str, value: Value, path: &str, text: &str| {
        check(
            &format!("/models/picture/accepts/raw/{field}"),
            value,
            &format!("models.picture.accepts.raw.{path}"),
            text,
        );
    };
    raw("max_bytes", Value::Null, "max_bytes", "is missing");
    raw("max_bytes", json!(0), "max_bytes", "below the minimum");
    raw(
        "max_bytes",
        json!("1025KiB"),
        "max_bytes",
        "above the maximum (at most 1048576)",
    );
    raw("content_types", json!([]), "content_types", "is empty");
    raw(
        "content_types",
        json!(["image/png", "image/png"]),
        "content_types[1]",
        "listed twice",
    );
    for (text, fix) in [
        ("Image/PNG", "(image/png)"),
        ("image/png; q=1", "(image/png)"),
        ("image", ""),
        ("", ""),
        ("image/", ""),
        ("a/b/c", ""),
        ("a /b", ""),
    ] {
        raw(
            "content_types",
            json!([text]),
            "content_types[0]",
            &format!("is not a lower-case media type without parameters {fix}"),
        );
    }
    raw(
        "content_types",
        json!(["image/*"]),
        "content_types[0]",
        "is a pattern",
    );
    for decoded in [
        "application/json",
        "application/grpc",
        "application/grpc+proto",
        "application/grpc-web",
    ] {
        raw(
            "content_types",
            json!([decoded]),
            "content_types[0]",
            "cannot be a raw body",
        );
    }
    check(
        "/models/picture/protocols",
        json!(["oip-rest", "oip-grpc"]),
        "models.picture.protocols[1]",
        "cannot carry a raw body (remove it)",
    );
    check(
        "/models/picture/encodings",
        json!(["gzip"]),
        "models.picture.encodings",
        "a raw body is passed to its handler unchanged (remove them)",
    );
    check(
        "/models/picture/parameters",
        json!({"x": {"bool": true}}),
        "models.picture.parameters",
        "a raw body cannot carry parameters",
    );
}

#[test]
fn a_contract_is_what_the_client_sends_and_may_ask_for() {
    let digits = model(document(), "digits");
    let Accepts::Tensors(contract) = digits.accepts() else {
        panic!("takes tensors")
    };
    assert_eq!(contract.inputs(), digits.backend_inputs());
    assert_eq!(
        (contract.output_names.as_slice(), contract.parameters.len()),
        (["probabilities".to_string()].as_slice(), 1)
    );
    let mut document = document();
    document["models"]["picture"]["accepts"] =
        json!({"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [64]}]});
    let picture = model(document, "picture");
    let Accepts::Tensors(contract) = picture.accepts() else {
        panic!("takes tensors")
    };
    assert_eq!(contract.inputs()[0].name(), "pixels");
    assert_eq!(contract.output_names, ["label"]);
    assert_eq!(
        (
            picture.backend_inputs()[0].name(),
            picture.backend_outputs()[0].name(),
            picture.returns()[0].name()
        ),
        ("image", "probabilities", "label")
    );
}

#[test]
fn a_parameter_has_one_type_and_bounds() {
    let parameter = |value: Value, path: &str, text: &str| {
        check(
            "/models/digits/parameters/priority",
            value,
            &format!("models.digits.parameters.priority{path}"),
            text,
        );
    };
    parameter(
        json!({}),
        "",
        "exactly one of int, float, bool, one_of, text and object, or int and text",
    );
    parameter(
        json!({"text": {"max_bytes": 8}, "bool": true}),
        "",
        "exactly one of",
    );
    parameter(json!({"text": {}}), ".text.max_bytes", "is missing");
    parameter(
        json!({"text": {"max_bytes": "8KiB"}}),
        ".text.max_bytes",
        "8192 bytes is above the maximum",
    );
    parameter(
        json!({"int": [0, 1], "text": {"max_bytes": 8, "pattern": "("}}),
        ".text.pattern",
        "at character",
    );
    parameter(json!({"int": [0, 1], "bool": true}), "", "exactly one of");
    parameter(
        json!({"int": [1, 0]}),
        ".int",
        "1 is greater than 0 ([0, 1])",
    );
    parameter(json!({"float": [1, 0]}), ".float", "1 is greater than 0");
    parameter(json!({"bool": false}), ".bool", "bool: true");
    parameter(json!({"one_of": []}), ".one_of", "is empty");
    parameter(json!({"one_of": ["a", "a"]}), ".one_of[1]", "listed twice");
    parameter(
        json!({"one_of": ["x".repeat(4097)]}),
        ".one_of[0]",
        "too long",
    );
    let many: serde_json::Map<String, Value> = (0..33)
        .map(|n| (format!("p{n}"), json!({"bool": true})))
        .collect();
    check(
        "/models/digits/parameters",
        json!(many),
        "models.digits.parameters",
        "33 parameters are too many",
    );
    check(
        "/models/digits/parameters",
        json!({"a b": {"bool": true}}),
        "models.digits.parameters.\"a b\"",
        "which is not allowed",
    );
}

#[test]
fn a_model_may_have_texts_ignored_names_and_parameters_of_inputs() {
    let mut document = document();
    put(
        &mut document,
        "/backends/triton",
        json!({"kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"]}),
    );
    let model = &mut document["models"]["digits"];
    model["backend"] = json!("triton");
    model["parameters"] = json!({
        "sequence_id": {"int": [1, 9], "text": {"max_bytes": 36, "pattern": "[0-9a-f-]{36}"}},
        "content_type": {"one_of": ["np"]}
    });
    model["ignored"] = json!(["headers", "content_type"]);
    model["inputs"][0]["parameters"] = json!({"content_type": {"text": {"max_bytes": 8}}});
    let digits = super::model(document, "digits");
    let Accepts::Tensors(contract) = digits.accepts() else {
        panic!("takes tensors")
    };
    assert_eq!(contract.ignored, ["headers", "content_type"]);
    let [(input, rules)] = contract.input_parameters.as_slice() else {
        panic!("{:?}", contract.input_parameters)
    };
    assert_eq!(
        (input.as_str(), rules[0].0.as_str()),
        ("image", "content_type")
    );
}

#[test]
fn parameters_of_inputs_need_a_server_that_reads_them() {
    let at = |model: &str, value: Value, path: &str, text: &str| {
        check(
            &format!("/models/{model}/inputs/0/parameters"),
            value,
            &format!("models.{model}.inputs[0].parameters{path}"),
            text,
        );
    };
    let rule = || json!({"content_type": {"one_of": ["str"]}});
    at(
        "digits",
        rule(),
        "",
        "cannot be sent to a backend of kind embedded (ignored",
    );
    at("picture", rule(), "", "cannot be sent to a handler");
    check(
        "/models/digits/ignored",
        json!(["a", "a"]),
        "models.digits.ignored[1]",
        "listed twice",
    );
    check(
        "/models/picture/ignored",
        json!(["a"]),
        "models.picture.ignored",
        "a raw body cannot carry parameters",
    );
    for name in ["shared_memory_region", "binary_data_size"] {
        let mut document = document();
        put(
            &mut document,
            "/backends/triton",
            json!({"kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"]}),
        );
        let model = &mut document["models"]["digits"];
        model["backend"] = json!("triton");
        model["inputs"][0]["parameters"] = json!({name: {"text": {"max_bytes": 8}}});
        let errors = errors(document);
        let [error] = errors.as_slice() else {
            panic!("{errors:#?}")
        };
        assert!(error.contains("is never passed on"), "{error}");
    }
}

#[test]
fn a_handler_sees_the_parameters_that_its_policy_lists() {
    let (at, path) = ("/handlers/png/parameters", "handlers.png.parameters");
    accept(at, json!(["priority"]));
    let unknown = "no model has a parameter \"priorty\"";
    warn(at, json!(["priorty"]), &format!("{path}[0]"), unknown);
    let twice = json!(["priority", "priority"]);
    check(at, twice, &format!("{path}[1]"), "is listed twice");
    check(at, json!([""]), &format!("{path}[0]"), "is empty");
    let many: Vec<_> = (0..65).map(|number| format!("p{number}")).collect();
    check(at, json!(many), path, "65 parameters are too many");
}

#[test]
fn a_handlers_own_text_is_private_by_default() {
    let errors = |value: Value| {
        let raw = raw(with("/handlers/png/errors", value));
        let (policy, _) = validate(&raw).unwrap();
        policy.handlers()["png"].has_public_errors()
    };
    assert!(!errors(Value::Null));
    assert!(!errors(json!("private")));
    assert!(errors(json!("public")));
}
