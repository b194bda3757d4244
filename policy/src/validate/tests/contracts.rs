//! Models: tensors, dims, ranges, parameters, handlers.

use alloc::vec;

use super::*;
use crate::contract::DimRule;
use crate::policy::{Accepts, Model};

fn model(document: Value, name: &str) -> Model {
    let policy = policy(document);
    policy.model(policy.model_id(name).unwrap()).unwrap().clone()
}

/// One change to `digits`' first input gives one error there.
fn input(field: &str, value: Value, path: &str, text: &str) {
    check(&format!("/models/hidden/inputs/0/{field}"), value, &format!("models.hidden.inputs[0].{path}"), text);
}

#[test]
fn a_model_says_where_and_how_it_is_served() {
    let digits = |field: &str, value: Value, path: &str, text: &str| {
        check(&format!("/models/digits/{field}"), value, &format!("models.digits.{path}"), text);
    };
    digits("backend", Value::Null, "backend", "is missing");
    digits("backend", json!("cup"), "backend", "no backend is named \"cup\"");
    digits("backend_model", json!("a/../b"), "backend_model", "begins with a dot");
    digits("protocols", json!([]), "protocols", "lists nothing");
    digits("protocols", json!(["oip-rets"]), "protocols[0]", "no protocol is named \"oip-rets\" (oip-rest)");
    digits("protocols", json!(["oip-rest", "oip-rest"]), "protocols[1]", "listed twice");
    check("/models/digits/outputs", json!([]), "models.digits.outputs", "lists nothing");
    digits("outputs", Value::Null, "outputs", "lists nothing");
    let check_versions = |value: Value, path: &str, text: &str| {
        check("/models/twice/versions", value, &format!("models.twice.{path}"), text);
    };
    check_versions(json!([]), "versions", "lists nothing");
    check_versions(json!(["1", "1"]), "versions[1]", "listed twice");
    check_versions(json!(["1/2"]), "versions[0]", "means something elsewhere");
    check_versions(json!([".."]), "versions[0]", "begins with a dot");
    check_versions(json!(["x".repeat(65)]), "versions[0]", "too long");
    let digits = model(document(), "digits");
    assert_eq!((digits.backend(), digits.backend_model()), ("cpu", "digits"));
    assert_eq!(model(document(), "picture").backend_model(), "digits");
}

#[test]
fn a_tensor_has_a_name_a_datatype_and_a_shape() {
    input("name", Value::Null, "name", "is missing");
    input("name", json!(".x"), "name", "begins with a dot");
    accept("/models/hidden/inputs/0/name", json!("serving_default_input:0"));
    input("datatype", Value::Null, "datatype", "is missing");
    input("datatype", json!("fp32"), "datatype", "is no datatype (FP32)");
    input("datatype", json!("float32"), "datatype", "(FP32)");
    input("datatype", json!("INT322"), "datatype", "(INT32)");
    input("datatype", json!("complex128"), "datatype", "(one of BOOL, UINT8");
    let mut twice = document();
    let image = twice["models"]["hidden"]["inputs"][0].clone();
    put(&mut twice, "/models/hidden/inputs/1", image);
    assert_eq!(errors(twice), ["models.hidden.inputs[1].name: \"image\" is listed twice"]);
    let many: Vec<Value> = (0..65).map(|n| json!({"name": format!("t{n}"), "datatype": "INT8", "shape": []})).collect();
    check("/models/hidden/outputs", json!(many), "models.hidden.outputs", "65 tensors are too many");
}

#[test]
fn every_dim_is_bounded() {
    let shape = |value: Value, path: &str, text: &str| {
        check("/models/hidden/outputs/0/shape", value, &format!("models.hidden.outputs[0].{path}"), text);
    };
    shape(Value::Null, "shape", "is missing (one entry a dim, [] for a scalar)");
    shape(json!(vec![1; 17]), "shape", "rank 17 is too high");
    shape(json!([{}]), "shape[0]", "has no greatest size ({max: N})");
    shape(json!([1, {"min": 2}]), "shape[1]", "has no greatest size");
    shape(json!([{"name": "m"}]), "shape[0]", "has no greatest size");
    shape(json!([0]), "shape[0]", "empty (at least 1)");
    shape(json!([{"max": 0}]), "shape[0]", "empty");
    shape(json!([{"min": 5, "max": 4}]), "shape[0]", "min 5 is over max 4");
    shape(json!([{"max": u64::MAX}]), "shape[0]", "beyond what a request can say");
    shape(json!([{"max": 4_294_967_296_u64}, {"max": 4_294_967_296_u64}]), "shape", "more bytes than 64 bits can count");
    accept("/models/hidden/outputs/0/shape", json!([]));
    accept("/models/hidden/outputs/0/shape", json!([{"min": 0, "max": 1}]));
}

#[test]
fn a_named_dim_is_one_dim() {
    let shape = |value: Value, path: &str, text: &str| {
        check("/models/hidden/outputs/0/shape", value, &format!("models.hidden.outputs[0].{path}"), text);
    };
    shape(json!(["m"]), "shape[0]", "no dim of this model is named \"m\" ({name: m, max: N} in one place)");
    shape(json!([{"name": "n", "max": 31}]), "shape[0]", "dim \"n\" is between 1 and 32 elsewhere (n)");
    shape(json!([{"name": "n", "min": 2, "max": 32}]), "shape[0]", "is between 1 and 32 elsewhere");
    shape(json!([{"name": "a b", "max": 3}]), "shape[0].name", "means something elsewhere");
    accept("/models/hidden/outputs/0/shape", json!([{"name": "n", "max": 32}, "n"]));
    // The place that binds a name is faulty: places that use it are not told again.
    let faulty = errors(with("/models/hidden/inputs/0/shape/0", json!({"name": "n"})));
    assert_eq!(faulty, ["models.hidden.inputs[0].shape[0]: has no greatest size ({max: N})"]);

    let digits = model(document(), "digits");
    let n = digits.backend_inputs()[0].shape()[0].clone();
    assert!(matches!(n, DimRule { min: 1, max: 32, symbol: Some(_) }));
    assert_eq!(digits.backend_outputs()[0].shape()[0], n);
    assert_eq!(digits.backend_outputs()[0].shape()[1], DimRule { min: 10, max: 10, symbol: None });
    // Another model's `n` is another dim: only models bind names.
    let mut document = document();
    document["models"]["twice"]["inputs"][0]["shape"][0]["max"] = json!(7);
    assert_eq!(model(document, "twice").backend_outputs()[0].shape()[0].max, 7);
}

#[test]
fn a_range_holds_values_of_its_datatype() {
    input("range", json!([1, 0]), "range", "1 is over 0 ([0, 1])");
    let mut hostile = raw(document());
    hostile.models.get_mut("hidden").unwrap().inputs[0].range = Some((f64::NAN, f64::INFINITY));
    let faults = validate(&hostile).unwrap_err();
    assert_eq!(faults[0].to_string(), "models.hidden.inputs[0].range: a bound is not finite");
    let with_datatype = |datatype: &str, range: Value| {
        let image = json!({"name": "image", "datatype": datatype, "range": range, "shape": [{"name": "n", "max": 3}], "max_item_bytes": 9});
        let mut image = image;
        if datatype != "BYTES" {
            image.as_object_mut().unwrap().remove("max_item_bytes");
        }
        errors(with("/models/hidden/inputs/0", image))
    };
    let none = Vec::<String>::new();
    assert_eq!(with_datatype("BYTES", json!([0, 1])), ["models.hidden.inputs[0].range: BYTES has no range (remove it)"]);
    assert_eq!(with_datatype("BOOL", json!([0, 0])), none);
    assert_eq!(with_datatype("UINT8", json!([0, 255])), none);
    assert_eq!(with_datatype("UINT8", json!([-2, -1])), ["models.hidden.inputs[0].range: no UINT8 lies between -2 and -1"]);
    assert_eq!(with_datatype("INT8", json!([0.25, 0.75])).len(), 1);
    assert_eq!(with_datatype("FP16", json!([1e6, 1e7])).len(), 1);
}

#[test]
fn what_an_input_lets_through_unseen_is_told() {
    let image = "models.hidden.inputs[0]";
    warn("/models/hidden/inputs/0/range", Value::Null, image, "takes every value");
    warn("/models/hidden/inputs/0/finite", json!(false), &format!("{image}.finite"), "has no effect");
    let mut document = document();
    document["models"]["hidden"]["inputs"][0]["datatype"] = json!("INT32");
    document["models"]["hidden"]["inputs"][0]["finite"] = json!(true);
    assert!(warnings(document).iter().any(|warning| warning.contains("every INT32 is finite")));
    warn("/models/hidden/inputs/0/shape/1", json!(4096), "models.hidden.inputs", "has 33554432 bytes of tensors, a body at most 1048576");
}

#[test]
fn an_element_of_bytes_is_bounded_and_no_other_is() {
    let returns = |value: Value, text: &str| {
        let at = "/models/picture/returns/outputs/0/max_item_bytes";
        check(at, value, "models.picture.returns.outputs[0].max_item_bytes", text);
    };
    returns(Value::Null, "is missing: nothing else bounds an element of BYTES");
    returns(json!(0), "too little");
    returns(json!("2GiB"), "too much");
    input("max_item_bytes", json!(4), "max_item_bytes", "elements of FP32 have one size (remove it)");
}

#[test]
fn a_preprocess_handler_and_what_it_takes_go_together() {
    let picture = |field: &str, value: Value, path: &str, text: &str| {
        check(&format!("/models/picture/{field}"), value, &format!("models.picture.{path}"), text);
    };
    picture("preprocess", json!("pgn"), "preprocess", "no handler is named \"pgn\" (png)");
    picture("preprocess", Value::Null, "accepts", "nothing turns it into inputs");
    picture("accepts", Value::Null, "accepts", "is missing: a preprocess handler takes what it says");
    picture("accepts", json!({}), "accepts", "exactly one of inputs and raw");
    let tensor = json!({"name": "x", "datatype": "UINT8", "shape": [4]});
    let both = json!({"inputs": [tensor], "raw": {"content_types": ["image/png"], "max_bytes": 1}});
    picture("accepts", both, "accepts", "exactly one of inputs and raw");
    accept("/models/picture/accepts", json!({"inputs": [tensor]}));
    let large = json!({"inputs": [{"name": "x", "datatype": "UINT8", "shape": [1_048_577]}]});
    warn("/models/picture/accepts", large, "models.picture.accepts.inputs", "1048577 bytes of tensors");
    picture("postprocess", json!("nobody"), "postprocess", "no handler is named");
    picture("postprocess", Value::Null, "returns", "nothing makes it of the outputs");
    picture("returns", Value::Null, "returns", "is missing");
    picture("returns", json!({}), "returns.outputs", "lists nothing");
}

#[test]
fn a_raw_body_is_typed_bounded_and_rests_alone() {
    let raw = |field: &str, value: Value, path: &str, text: &str| {
        check(&format!("/models/picture/accepts/raw/{field}"), value, &format!("models.picture.accepts.raw.{path}"), text);
    };
    raw("max_bytes", Value::Null, "max_bytes", "is missing");
    raw("max_bytes", json!(0), "max_bytes", "too little");
    raw("max_bytes", json!("1025KiB"), "max_bytes", "too much (at most 1048576)");
    raw("content_types", json!([]), "content_types", "lists nothing");
    raw("content_types", json!(["image/png", "image/png"]), "content_types[1]", "listed twice");
    for (text, fix) in [("Image/PNG", "(image/png)"), ("image/png; q=1", "(image/png)"), ("image", ""), ("", ""), ("image/", ""), ("a/b/c", ""), ("a /b", "")] {
        raw("content_types", json!([text]), "content_types[0]", &format!("is not a lower-case media type without parameters {fix}"));
    }
    raw("content_types", json!(["image/*"]), "content_types[0]", "is a pattern");
    for decoded in ["application/json", "application/grpc", "application/grpc+proto", "application/grpc-web"] {
        raw("content_types", json!([decoded]), "content_types[0]", "is decoded, never passed on raw");
    }
    check("/models/picture/protocols", json!(["oip-rest", "oip-grpc"]), "models.picture.protocols[1]", "cannot carry a raw body ([oip-rest])");
    check("/models/picture/parameters", json!({"x": {"bool": true}}), "models.picture.parameters", "a raw body carries no parameters");
}

#[test]
fn a_contract_is_what_the_client_sends_and_may_ask_for() {
    let digits = model(document(), "digits");
    let Accepts::Tensors(contract) = digits.accepts() else { panic!("takes tensors") };
    assert_eq!(contract.inputs(), digits.backend_inputs());
    assert_eq!((contract.output_names.as_slice(), contract.parameters.len()), (["probabilities".to_string()].as_slice(), 1));
    let mut document = document();
    document["models"]["picture"]["accepts"] = json!({"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [64]}]});
    let picture = model(document, "picture");
    let Accepts::Tensors(contract) = picture.accepts() else { panic!("takes tensors") };
    assert_eq!(contract.inputs()[0].name(), "pixels");
    assert_eq!(contract.output_names, ["label"]);
    assert_eq!((picture.backend_inputs()[0].name(), picture.backend_outputs()[0].name(), picture.returns()[0].name()), ("image", "probabilities", "label"));
}

#[test]
fn a_parameter_has_one_type_and_bounds() {
    let parameter = |value: Value, path: &str, text: &str| {
        check("/models/digits/parameters/priority", value, &format!("models.digits.parameters.priority{path}"), text);
    };
    parameter(json!({}), "", "exactly one of int, float, bool and one_of");
    parameter(json!({"int": [0, 1], "bool": true}), "", "exactly one of");
    parameter(json!({"int": [1, 0]}), ".int", "1 is over 0 ([0, 1])");
    parameter(json!({"float": [1, 0]}), ".float", "1 is over 0");
    parameter(json!({"bool": false}), ".bool", "bool: true");
    parameter(json!({"one_of": []}), ".one_of", "lists nothing");
    parameter(json!({"one_of": ["a", "a"]}), ".one_of[1]", "listed twice");
    parameter(json!({"one_of": ["x".repeat(4097)]}), ".one_of[0]", "too long");
    let many: serde_json::Map<String, Value> = (0..33).map(|n| (format!("p{n}"), json!({"bool": true}))).collect();
    check("/models/digits/parameters", json!(many), "models.digits.parameters", "33 parameters are too many");
    check("/models/digits/parameters", json!({"a b": {"bool": true}}), "models.digits.parameters.\"a b\"", "means something elsewhere");
}
