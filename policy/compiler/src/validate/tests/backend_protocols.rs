//! Models at TF Serving and TorchServe.

use super::*;

const AT: &str = "/models/hidden";

/// A model at a backend of this kind, and one change to it.
fn changed(kind: &str, at: &str, value: Value) -> Value {
    let model = json!({
        "backend": "own", "versions": ["1"], "protocols": ["oip-rest"],
        "inputs": [
            {"name": "a", "datatype": "FP32", "shape": [1]},
            {"name": "b", "datatype": "BYTES", "shape": [1], "max_item_bytes": 8}
        ],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}]
    });
    let mut document = with(AT, model);
    let backend = json!({"kind": kind, "endpoints": ["http://127.0.0.1:8500"]});
    put(&mut document, "/backends/own", backend);
    put(&mut document, at, value);
    document
}

#[test]
fn values_that_a_protocol_cannot_express_are_faults() {
    let at = |rest: &str| format!("{AT}{rest}");
    let name = || json!({"one_of": ["other"]});
    let half = || json!([{"name": "a", "datatype": "FP16", "shape": [1]}]);
    for (kind, place, value, expected) in [
        ("tf-serving", "/versions", json!(["7"]), ""),
        ("tf-serving", "/versions", json!(["7", "8"]), ""),
        ("tf-serving", "/versions", json!(["v7"]), "versions[0]: "),
        (
            "tf-serving",
            "/versions",
            json!(["7", "07"]),
            "versions[1]: ",
        ),
        (
            "tf-serving",
            "/versions",
            json!(["99999999999999999999"]),
            "versions[0]: ",
        ),
        ("tf-serving", "/inputs", half(), ""),
        (
            "tf-serving",
            "/parameters",
            json!({"priority": {"int": [0, 9]}}),
            "parameters.priority: ",
        ),
        ("torchserve", "/versions", json!(["1.0"]), ""),
        (
            "torchserve",
            "/inputs",
            half(),
            "inputs: torchserve cannot carry FP16",
        ),
        (
            "torchserve",
            "/outputs",
            half(),
            "outputs: torchserve cannot carry FP16",
        ),
        (
            "torchserve",
            "/parameters",
            json!({"signature_name": name()}),
            "parameters.signature_name: ",
        ),
        (
            "torchserve",
            "/inputs",
            json!([{"name": "a", "datatype": "FP32", "shape": [1], "finite": false}]),
            "inputs: \"a\" may hold NaN or an infinity",
        ),
        (
            "torchserve",
            "/inputs",
            json!([{"name": "b", "datatype": "BYTES", "shape": [2], "max_item_bytes": 8}]),
            "inputs: \"b\" may hold bytes that are not UTF-8, which JSON cannot represent",
        ),
        (
            "torchserve",
            "/inputs",
            json!([{"name": "b", "datatype": "BYTES", "shape": [2], "max_item_bytes": 8, "utf8": true}]),
            "",
        ),
    ] {
        let errors = errors(changed(kind, &at(place), value.clone()));
        match (errors.as_slice(), expected) {
            ([], "") => {}
            ([error], expected) if !expected.is_empty() => {
                let expected = format!("models.hidden.{expected}");
                assert!(error.starts_with(&expected), "{kind} {value}: {error}");
            }
            (errors, _) => panic!("{kind} {place} {value}: {errors:#?}"),
        }
    }
}

#[test]
fn a_signature_may_be_named_to_tf_serving() {
    let parameters = json!({"signature_name": {"one_of": ["other"]}});
    let document = changed("tf-serving", &format!("{AT}/parameters"), parameters);
    assert_eq!(errors(document), [""; 0]);
}

#[test]
fn a_readiness_path_is_a_fault_for_these_protocols() {
    for kind in ["tf-serving", "torchserve"] {
        let health = json!({"path": "/ping"});
        let document = changed(kind, "/backends/own/health_check", health);
        let errors = errors(document);
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert!(
            errors
                .iter()
                .all(|error| error.contains("only for backends of kind http-json"))
        );
    }
}
