//! Rules on numbers, items and responses: each is accepted where it applies, and rejected
//! elsewhere.

use super::*;

/// One change to the only input of `hidden` gives one error there.
fn input(field: &str, value: Value, path: &str, text: &str) {
    check(
        &format!("/models/hidden/inputs/0/{field}"),
        value,
        &format!("models.hidden.inputs[0].{path}"),
        text,
    );
}

/// One change to a text model with one BYTES input.
fn text(rules: Value, path: &str, told: &str) {
    let shown = rules.to_string();
    let errors = errors(texts(rules));
    let [error] = errors.as_slice() else {
        panic!("{shown}: {errors:#?}")
    };
    let path = format!("models.hidden.inputs[1].{path}: ");
    assert!(
        error.starts_with(&path) && error.contains(told),
        "{shown}: {error}"
    );
}

fn texts(rules: Value) -> Value {
    let mut input = json!({"name": "t", "datatype": "BYTES", "shape": [1], "max_item_bytes": 512});
    for (key, value) in rules.as_object().unwrap() {
        input[key] = value.clone();
    }
    with("/models/hidden/inputs/1", input)
}

#[test]
fn a_magnitude_narrows_a_range() {
    input("max_abs", json!(-1), "max_abs", "not a magnitude");
    accept("/models/hidden/inputs/0/max_abs", json!(3));
    let mut document = with("/models/hidden/inputs/0/range", json!([5, 6]));
    put(&mut document, "/models/hidden/inputs/0/max_abs", json!(4));
    assert_eq!(
        errors(document),
        ["models.hidden.inputs[0].max_abs: no FP32 of the range has a magnitude of at most 4"]
    );
}

#[test]
fn channels_with_ranges_lie_along_a_fixed_dim() {
    let at = |axis: Value, ranges: Value, path: &str, text: &str| {
        input(
            "channel_ranges",
            json!({"axis": axis, "ranges": ranges}),
            path,
            text,
        );
    };
    let eight = |range: Value| json!(vec![range; 8]);
    accept(
        "/models/hidden/inputs/0/channel_ranges",
        json!({"axis": 2, "ranges": vec![[0, 1]; 8]}),
    );
    at(
        Value::Null,
        eight(json!([0, 1])),
        "channel_ranges.axis",
        "is missing (axis: 1)",
    );
    at(
        json!(4),
        eight(json!([0, 1])),
        "channel_ranges.axis",
        "the shape has 4",
    );
    at(
        json!(0),
        eight(json!([0, 1])),
        "channel_ranges.ranges",
        "dim 0 is not fixed",
    );
    at(
        json!(2),
        json!([[0, 1]]),
        "channel_ranges.ranges",
        "1 channels have ranges, and dim 2 has 8",
    );
    at(json!(2), json!([]), "channel_ranges.ranges", "is empty");
    at(
        json!(1),
        json!([[1, 0]]),
        "channel_ranges.ranges[0]",
        "1 is greater than 0 ([0, 1])",
    );
    at(
        json!(1),
        json!([[17, 18]]),
        "channel_ranges.ranges[0]",
        "the range of the whole tensor",
    );
}

#[test]
fn a_list_of_values_fits_the_datatype_and_excludes_other_rules() {
    let numbers = |datatype: &str, list: Value| {
        with(
            "/models/hidden/inputs/1",
            json!({"name": "x", "datatype": datatype, "shape": [4], "allowed": list}),
        )
    };
    let one = |datatype: &str, list: Value, text: &str| {
        let errors = errors(numbers(datatype, list));
        assert!(
            matches!(errors.as_slice(), [error] if error.contains(text)),
            "{errors:?}"
        );
    };
    assert!(errors(numbers("INT64", json!([-1, 0, 9_007_199_254_740_993_i64]))).is_empty());
    assert!(errors(numbers("UINT64", json!([u64::MAX]))).is_empty());
    assert!(errors(numbers("FP32", json!([0, 0.1, 1]))).is_empty());
    one(
        "INT8",
        json!([1, 128]),
        "allowed[1]: 128 is not a value of INT8",
    );
    one(
        "UINT8",
        json!([-1]),
        "allowed[0]: -1 is not a value of UINT8",
    );
    one(
        "INT32",
        json!([0.5]),
        "allowed[0]: 0.5 is not a value of INT32",
    );
    one(
        "INT32",
        json!(["1"]),
        "allowed[0]: \"1\" is not a value of INT32",
    );
    one("INT32", json!([1, 1.0]), "allowed[1]: 1 is listed twice");
    one("FP16", json!([1e6]), "is not a value of FP16");
    one("INT32", json!([]), "is empty");
    one("INT32", json!(vec![1; 1025]), "1025 values are too many");
    one("BOOL", json!([1]), "is not for BOOL");
    input(
        "allowed",
        json!([1]),
        "allowed",
        "a range beside it has no effect",
    );
}

#[test]
fn counts_over_the_whole_are_within_it() {
    accept("/models/hidden/inputs/0/min_distinct", json!(2));
    input(
        "min_distinct",
        json!(1),
        "min_distinct",
        "below the minimum (at least 2)",
    );
    input(
        "min_distinct",
        json!(65),
        "min_distinct",
        "above the maximum (at most 64)",
    );
    let scalar = json!({"name": "x", "datatype": "INT8", "shape": [], "min_distinct": 2});
    check(
        "/models/hidden/inputs/1",
        scalar,
        "models.hidden.inputs[1].min_distinct",
        "has 1 elements, fewer than 2 distinct values",
    );
    for (beside, told) in [
        (
            json!({"allowed": [0, 1, 2]}),
            "3 values are allowed, fewer than 4 distinct ones",
        ),
        (json!({"range": [0, 2]}), "has fewer than 4 values"),
    ] {
        let mut x = json!({"name": "x", "datatype": "INT8", "shape": [8], "min_distinct": 4});
        if let (Some(x), Some(beside)) = (x.as_object_mut(), beside.as_object()) {
            x.extend(beside.clone());
        }
        check(
            "/models/hidden/inputs/1",
            x,
            "models.hidden.inputs[1].min_distinct",
            told,
        );
    }
    accept("/models/hidden/inputs/0/max_zero_fraction", json!(0));
    for bad in [json!(1), json!(-0.1), json!(1.5)] {
        input(
            "max_zero_fraction",
            bad,
            "max_zero_fraction",
            "at least 0, below 1",
        );
    }
}

#[test]
fn rules_of_numbers_and_of_items_do_not_mix() {
    for (field, value) in [
        ("max_abs", json!(1)),
        ("channel_ranges", json!({"axis": 0, "ranges": [[0, 1]]})),
        ("min_distinct", json!(2)),
        ("max_zero_fraction", json!(0.5)),
    ] {
        text(
            json!({field: value}),
            field,
            "is not for BYTES, which has no numbers (remove it)",
        );
    }
    for (field, value) in [
        ("min_item_bytes", json!(1)),
        ("utf8", json!(true)),
        ("pattern", json!("a")),
        ("media", json!({"types": ["png"], "max_pixels": 1})),
        ("url", json!({"hosts": ["a.example.com"]})),
    ] {
        input(field, value, field, "(remove it)");
    }
}

#[test]
fn item_bounds_must_be_satisfiable() {
    assert!(errors(texts(json!({"min_item_bytes": 512, "utf8": true}))).is_empty());
    text(
        json!({"min_item_bytes": 513}),
        "min_item_bytes",
        "above the maximum (at most 512)",
    );
    assert!(errors(texts(json!({"allowed": ["de", "fr", ""]}))).is_empty());
    text(
        json!({"allowed": ["de", "de"]}),
        "allowed[1]",
        "listed twice",
    );
    text(json!({"allowed": [1]}), "allowed[0]", "put it in quotes");
    text(
        json!({"allowed": ["a".repeat(257)]}),
        "allowed[0]",
        "257 bytes are too long (at most 256)",
    );
    assert!(errors(texts(json!({"pattern": "[a-z]{2}(-[A-Z]{2})?"}))).is_empty());
    text(
        json!({"pattern": "[a-z"}),
        "pattern",
        "at character 1: unclosed character class",
    );
    text(
        json!({"pattern": "(a|b)*a(a|b){20}"}),
        "pattern",
        "too large an automaton",
    );
}

#[test]
fn the_automata_of_a_policy_are_bounded_together() {
    let with_patterns = |count: u32, pattern: fn(u32) -> String| {
        let mut document = document();
        let inputs = (0..count).map(|at| {
            json!({
                "name": format!("x{at}"), "datatype": "BYTES", "shape": [{"name": "n", "max": 4}],
                "max_item_bytes": 4096, "pattern": pattern(at),
            })
        });
        document["models"]["digits"]["inputs"] = inputs.collect();
        errors(document)
    };
    let distinct = |at| format!("x{{{at}}}.{{650}}");
    assert_eq!(with_patterns(8, distinct), [""; 0]);
    let faults = with_patterns(20, distinct);
    let [fault] = faults.as_slice() else {
        panic!("{faults:#?}");
    };
    let told = "models: the patterns of all models need ";
    assert!(fault.starts_with(told), "{fault}");
}

#[test]
fn media_name_their_kinds_and_bound_their_sizes() {
    let good = json!({"types": ["png", "jpeg"], "max_width": 10, "max_height": 10});
    assert!(errors(texts(json!({"media": good}))).is_empty());
    let at = |media: Value, path: &str, told: &str| text(json!({"media": media}), path, told);
    at(json!({"types": ["png"]}), "media.max_pixels", "is missing");
    at(
        json!({"types": ["png"], "max_width": 5}),
        "media.max_pixels",
        "is missing",
    );
    at(
        json!({"types": ["png"], "max_pixels": 9, "min_width": 0}),
        "media.min_width",
        "below the minimum",
    );
    at(
        json!({"types": ["png"], "max_pixels": 9, "max_width": 9, "min_height": 10}),
        "media.max_pixels",
        "is less than the minimum",
    );
    at(
        json!({"types": ["png"], "max_pixels": 100, "max_width": 9, "min_width": 10}),
        "media.max_width",
        "is less than the minimum",
    );
    at(
        json!({"types": ["wav"], "max_duration_ms": 1, "min_width": 1}),
        "media.min_width",
        "has no effect: none of the types is a picture",
    );
    at(
        json!({"types": ["wav"]}),
        "media.max_duration_ms",
        "is missing",
    );
    at(
        json!({"types": ["png"], "max_pixels": 1, "max_duration_ms": 1}),
        "media.max_duration_ms",
        "has no effect: none of the types is a recording",
    );
    at(
        json!({"types": ["jpeg"], "max_pixels": 1, "max_frames": 2}),
        "media.max_frames",
        "has no effect: none of the types is a type with frames",
    );
    at(
        json!({"types": ["pngg"], "max_pixels": 1}),
        "media.types[0]",
        "(png)",
    );
    at(
        json!({"types": ["png"], "max_pixels": 0}),
        "media.max_pixels",
        "below the minimum",
    );
    text(
        json!({"utf8": true, "media": {"types": ["png"], "max_pixels": 1}}),
        "media",
        "contradicts media: files of these types are not text",
    );
    check(
        "/models/picture/accepts/raw/media",
        json!({"types": ["png"]}),
        "models.picture.accepts.raw.media.max_pixels",
        "is missing",
    );
    accept(
        "/models/picture/accepts/raw/media",
        json!({"types": ["png"], "max_pixels": 1}),
    );
}

#[test]
fn url_rules_need_named_hosts() {
    let at = |url: Value, path: &str, told: &str| text(json!({"url": url}), path, told);
    let good = json!({"hosts": ["a.example.com", "*.b.example.com", "xn--bcher-kva.example"], "ports": [443, 8443]});
    assert!(errors(texts(json!({"url": good}))).is_empty());
    assert!(
        errors(texts(
            json!({"url": {"hosts": ["bucket"], "schemes": ["s3"]}})
        ))
        .is_empty()
    );
    at(json!({}), "url.hosts", "is empty");
    for host in [
        "127.0.0.1",
        "A.example.com",
        "*",
        "a b",
        "[::1]",
        "*.*.com",
        "0x7f.1",
        "a.",
    ] {
        at(
            json!({"hosts": [host]}),
            "url.hosts[0]",
            "not a host name in lower case",
        );
    }
    at(
        json!({"hosts": ["*.com"]}),
        "url.hosts[0]",
        "below a top-level domain",
    );
    at(
        json!({"hosts": ["a.com"], "schemes": ["file"]}),
        "url.schemes[0]",
        "no scheme of a fetch",
    );
    at(
        json!({"hosts": ["a.com"], "ports": [0]}),
        "url.ports[0]",
        "below the minimum",
    );
    at(
        json!({"hosts": ["a.com"], "ports": [65_536]}),
        "url.ports[0]",
        "above the maximum",
    );
    at(
        json!({"hosts": ["a.com"], "schemes": ["s3"], "ports": [443]}),
        "url.ports",
        "none of the schemes",
    );
    text(
        json!({"url": {"hosts": ["a.com"]}, "max_item_bytes": 4096}),
        "max_item_bytes",
        "at most 2048 bytes",
    );
    let http = texts(json!({"url": {"hosts": ["a.com"], "schemes": ["http"], "ports": [80]}}));
    assert!(
        warnings(http)
            .iter()
            .any(|warning| warning.contains("http responses can be changed"))
    );
}

#[test]
fn release_rules_need_suitable_outputs() {
    let output = |field: &str, value: Value, path: &str, told: &str| {
        check(
            &format!("/models/hidden/outputs/0/{field}"),
            value,
            &format!("models.hidden.outputs[0].{path}"),
            told,
        );
    };
    output("top_k", json!(3), "top_k", "is only for class scores");
    output(
        "round_decimals",
        json!(16),
        "round_decimals",
        "above the maximum",
    );
    accept("/models/hidden/outputs/0/round_decimals", json!(0));
    accept("/models/hidden/outputs/0/role", json!("logits"));
    warn(
        "/models/hidden/outputs/0/role",
        json!("class-scores"),
        "models.hidden.outputs[0]",
        "a copy of the model",
    );
    let whole = json!([{"name": "l", "datatype": "INT64", "shape": [], "round_decimals": 1}]);
    check(
        "/models/hidden/outputs",
        whole,
        "models.hidden.outputs[0].round_decimals",
        "no decimals",
    );
    let scalar =
        json!([{"name": "l", "datatype": "FP32", "shape": [], "role": "class-scores", "top_k": 1}]);
    check(
        "/models/hidden/outputs",
        scalar,
        "models.hidden.outputs[0].role",
        "no classes",
    );
    check(
        "/models/picture/outputs/0/round_decimals",
        json!(2),
        "models.picture.outputs[0].round_decimals",
        "under returns.outputs",
    );
}

#[test]
fn a_grant_can_only_restrict_outputs() {
    let grant = |field: &str, value: Value, path: &str, told: &str| {
        check(
            &format!("/grants/0/{field}"),
            value,
            &format!("grants[0].{path}"),
            told,
        );
    };
    grant(
        "top_k",
        json!(1),
        "top_k",
        "none of the models has an output of class scores",
    );
    accept("/grants/0/round_decimals", json!(1));
    accept("/grants/0/outputs", json!(["probabilities", "label"]));
    grant(
        "outputs",
        json!(["probabilities"]),
        "outputs",
        "has no output of model \"picture\"",
    );
    grant(
        "outputs",
        json!(["probabilities", "labels"]),
        "outputs[1]",
        "there is no output of these models \"labels\" (label)",
    );
    grant("outputs", json!([]), "outputs", "");
    for field in ["outputs", "round_decimals", "top_k"] {
        let value = if field == "outputs" {
            json!(["probabilities"])
        } else {
            json!(1)
        };
        check(
            &format!("/grants/1/{field}"),
            value,
            &format!("grants[1].{field}"),
            "has no effect: the grant does not allow inference",
        );
    }
}
