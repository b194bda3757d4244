//! Tensors: names, datatypes, dimensions, ranges.

use tensorgate_policy::contract::DimRule;

use super::*;

/// One change to the first input of `hidden` gives one error there.
fn input(field: &str, value: Value, path: &str, text: &str) {
    check(
        &format!("/models/hidden/inputs/0/{field}"),
        value,
        &format!("models.hidden.inputs[0].{path}"),
        text,
    );
}

#[test]
fn a_tensor_has_a_name_a_datatype_and_a_shape() {
    input("name", Value::Null, "name", "is missing");
    input("name", json!(".x"), "name", "begins with a dot");
    accept(
        "/models/hidden/inputs/0/name",
        json!("serving_default_input:0"),
    );
    input("datatype", Value::Null, "datatype", "is missing");
    input(
        "datatype",
        json!("fp32"),
        "datatype",
        "is not a datatype (FP32)",
    );
    input("datatype", json!("float32"), "datatype", "(FP32)");
    input("datatype", json!("INT322"), "datatype", "(INT32)");
    input(
        "datatype",
        json!("complex128"),
        "datatype",
        "(one of BOOL, UINT8",
    );
    let mut twice = document();
    let image = twice["models"]["hidden"]["inputs"][0].clone();
    put(&mut twice, "/models/hidden/inputs/1", image);
    assert_eq!(
        errors(twice),
        ["models.hidden.inputs[1].name: \"image\" is listed twice"]
    );
    let many: Vec<Value> = (0..513)
        .map(|n| json!({"name": format!("t{n}"), "datatype": "INT8", "shape": []}))
        .collect();
    check(
        "/models/hidden/outputs",
        json!(many),
        "models.hidden.outputs",
        "513 tensors are too many, at most 512 are allowed",
    );
}

#[test]
fn a_handler_returns_no_more_tensors_than_a_call_can() {
    for (count, passes) in [(64, true), (65, false)] {
        let inputs: Vec<Value> = (0..count)
            .map(|n| json!({"name": format!("t{n}"), "datatype": "INT8", "shape": []}))
            .collect();
        let mut document = document();
        put(&mut document, "/models/picture/inputs", json!(inputs));
        let output = json!([{"name": "y", "datatype": "FP32", "shape": [1]}]);
        put(&mut document, "/models/picture/outputs", output.clone());
        put(&mut document, "/models/picture/returns/outputs", output);
        let fault = "models.picture.preprocess: cannot return 65 tensors";
        let errors = errors(document);
        let found = errors.iter().any(|error| error.starts_with(fault));
        assert_eq!(!found, passes, "{errors:#?}");
    }
}

#[test]
fn every_dim_is_bounded() {
    let shape = |value: Value, path: &str, text: &str| {
        check(
            "/models/hidden/outputs/0/shape",
            value,
            &format!("models.hidden.outputs[0].{path}"),
            text,
        );
    };
    shape(
        Value::Null,
        "shape",
        "is missing (one entry a dim, [] for a scalar)",
    );
    shape(json!(vec![1; 17]), "shape", "has 17 dims, at most");
    shape(json!([{}]), "shape[0]", "has no maximum size ({max: N})");
    shape(json!([1, {"min": 2}]), "shape[1]", "has no maximum size");
    shape(json!([{"name": "m"}]), "shape[0]", "has no maximum size");
    shape(json!([0]), "shape[0]", "empty (at least 1)");
    shape(json!([{"max": 0}]), "shape[0]", "empty");
    shape(
        json!([{"min": 5, "max": 4}]),
        "shape[0]",
        "min 5 is greater than max 4",
    );
    shape(
        json!([{"max": u64::MAX}]),
        "shape[0]",
        "larger than any dim of a request",
    );
    shape(
        json!([{"max": 4_294_967_296_u64}, {"max": 4_294_967_296_u64}]),
        "shape",
        "2^64 bytes or more",
    );
    accept("/models/hidden/outputs/0/shape", json!([]));
    accept(
        "/models/hidden/outputs/0/shape",
        json!([{"min": 0, "max": 1}]),
    );
}

#[test]
fn a_named_dim_is_one_dim() {
    let shape = |value: Value, path: &str, text: &str| {
        check(
            "/models/hidden/outputs/0/shape",
            value,
            &format!("models.hidden.outputs[0].{path}"),
            text,
        );
    };
    shape(
        json!(["m"]),
        "shape[0]",
        "no dim of this model is named \"m\" ({name: m, max: N} at one of its dims)",
    );
    shape(
        json!([{"name": "n", "max": 31}]),
        "shape[0]",
        "dim \"n\" has other bounds elsewhere: 1 to 32 (n)",
    );
    shape(
        json!([{"name": "n", "min": 2, "max": 32}]),
        "shape[0]",
        "has other bounds elsewhere: 1 to 32",
    );
    shape(
        json!([{"name": "a b", "max": 3}]),
        "shape[0].name",
        "which is not allowed",
    );
    accept(
        "/models/hidden/outputs/0/shape",
        json!([{"name": "n", "max": 32}, "n"]),
    );
    // The definition of a symbol is invalid: its uses are not reported again.
    let faulty = errors(with(
        "/models/hidden/inputs/0/shape/0",
        json!({"name": "n"}),
    ));
    assert_eq!(
        faulty,
        ["models.hidden.inputs[0].shape[0]: has no maximum size ({max: N})"]
    );

    let digits = model(document(), "digits");
    let n = digits.backend_inputs()[0].shape()[0].clone();
    assert!(matches!(
        n,
        DimRule {
            min: 1,
            max: 32,
            symbol: Some(_)
        }
    ));
    assert_eq!(digits.backend_outputs()[0].shape()[0], n);
    assert_eq!(
        digits.backend_outputs()[0].shape()[1],
        DimRule {
            min: 10,
            max: 10,
            symbol: None
        }
    );
    // Another model's `n` is another dimension: symbols are per model.
    let mut document = document();
    document["models"]["twice"]["inputs"][0]["shape"][0]["max"] = json!(7);
    assert_eq!(
        model(document, "twice").backend_outputs()[0].shape()[0].max,
        7
    );
}

#[test]
fn a_range_holds_values_of_its_datatype() {
    input(
        "range",
        json!([1, 0]),
        "range",
        "1 is greater than 0 ([0, 1])",
    );
    let mut hostile = raw(document());
    hostile.models.get_mut("hidden").unwrap().inputs[0].range = Some((f64::NAN, f64::INFINITY));
    let faults = validate(&hostile).unwrap_err();
    assert_eq!(
        faults[0].to_string(),
        "models.hidden.inputs[0].range: a bound is not finite"
    );
    let with_datatype = |datatype: &str, range: Value| {
        let image = json!({"name": "image", "datatype": datatype, "range": range, "shape": [{"name": "n", "max": 3}], "max_item_bytes": 9});
        let mut image = image;
        if datatype != "BYTES" {
            image.as_object_mut().unwrap().remove("max_item_bytes");
        }
        errors(with("/models/hidden/inputs/0", image))
    };
    let none = Vec::<String>::new();
    assert_eq!(
        with_datatype("BYTES", json!([0, 1])),
        ["models.hidden.inputs[0].range: is not for BYTES, which has no numbers (remove it)"]
    );
    assert_eq!(with_datatype("BOOL", json!([0, 0])), none);
    assert_eq!(with_datatype("UINT8", json!([0, 255])), none);
    assert_eq!(
        with_datatype("UINT8", json!([-2, -1])),
        ["models.hidden.inputs[0].range: no UINT8 is between -2 and -1"]
    );
    assert_eq!(with_datatype("INT8", json!([0.25, 0.75])).len(), 1);
    assert_eq!(with_datatype("FP16", json!([1e6, 1e7])).len(), 1);
}

#[test]
fn unchecked_parts_of_an_input_give_warnings() {
    let image = "models.hidden.inputs[0]";
    warn(
        "/models/hidden/inputs/0/range",
        Value::Null,
        image,
        "accepts every finite value",
    );
    warn(
        "/models/hidden/inputs/0/finite",
        json!(false),
        &format!("{image}.finite"),
        "has no effect",
    );
    let mut document = document();
    document["models"]["hidden"]["inputs"][0]["datatype"] = json!("INT32");
    document["models"]["hidden"]["inputs"][0]["finite"] = json!(true);
    assert!(
        warnings(document)
            .iter()
            .any(|warning| warning.contains("has no effect: every INT32 is finite"))
    );
    warn(
        "/models/hidden/inputs/0/shape/1",
        json!(4096),
        "models.hidden.inputs",
        "has 33554432 bytes of tensors, and listen.limits.body_bytes is 1048576",
    );
}

#[test]
fn an_element_of_bytes_is_bounded_and_no_other_is() {
    let returns = |value: Value, text: &str| {
        let at = "/models/picture/returns/outputs/0/max_item_bytes";
        check(
            at,
            value,
            "models.picture.returns.outputs[0].max_item_bytes",
            text,
        );
    };
    returns(
        Value::Null,
        "is missing: elements of BYTES need a maximum size",
    );
    returns(json!(0), "below the minimum");
    returns(json!("2GiB"), "above the maximum");
    input(
        "max_item_bytes",
        json!(4),
        "max_item_bytes",
        "is only for BYTES: elements of FP32 have a fixed size (remove it)",
    );
}

#[test]
fn outputs_must_be_finite_unless_their_rule_allows_otherwise() {
    let finite = |document: Value| {
        model(document, "digits")
            .backend_outputs()
            .first()
            .map(|rule| rule.finite)
    };
    assert_eq!(finite(document()), Some(true));
    let loose = with("/models/digits/outputs/0/finite", json!(false));
    assert_eq!(finite(loose), Some(false));
    let count = json!([{"name": "count", "datatype": "INT32", "shape": [1]}]);
    assert_eq!(finite(with("/models/digits/outputs", count)), Some(false));
}
