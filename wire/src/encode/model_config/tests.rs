//! Tests of a model's configuration.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use serde_json::{Value, json};

use super::*;

/// The configuration of a model with these tensors.
fn config(protocol: Protocol, inputs: &Value, outputs: &Value) -> Vec<u8> {
    let policy = json!({
        "version": 1,
        "listen": {"address": "127.0.0.1:8080"},
        "clients": {"c": {"api_keys": [{"sha256": "0".repeat(64)}]}},
        "backends": {"b": {"kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"]}},
        "models": {"m": {
            "backend": "b", "versions": ["1"], "protocols": ["oip-rest", "oip-grpc"],
            "inputs": inputs, "outputs": outputs,
        }},
        "grants": [{
            "name": "g", "clients": ["c"], "models": ["m"], "operations": ["metadata"],
            "rate": {"quota": 1, "window_s": 1, "burst": 1},
        }],
    });
    let raw: tensorgate_policy_compiler::raw::Policy = serde_json::from_value(policy).unwrap();
    let (policy, _) = tensorgate_policy_compiler::validate::validate(&raw).unwrap();
    let model = policy.model(policy.model_id("m").unwrap()).unwrap();
    let (inputs, outputs) = (model.backend_inputs(), model.backend_outputs());
    model_config(protocol, model.name(), inputs, outputs, false)
}

fn rest(inputs: &Value, outputs: &Value) -> Value {
    serde_json::from_slice(&config(Protocol::OipRest, inputs, outputs)).unwrap()
}

fn images() -> [Value; 2] {
    [
        json!([{"name": "image", "datatype": "FP32", "range": [0, 1],
            "shape": [{"name": "n", "max": 32}, {"max": 8}, 3]}]),
        json!([{"name": "label", "datatype": "BYTES", "max_item_bytes": 8,
            "shape": ["n", 10]}]),
    ]
}

#[test]
fn a_configuration_has_tritons_form() {
    let [inputs, outputs] = images();
    assert_eq!(
        rest(&inputs, &outputs),
        json!({
            "name": "m", "platform": "tensorgate", "backend": "", "max_batch_size": 32,
            "input": [{"name": "image", "data_type": "TYPE_FP32", "dims": [-1, 3],
                "format": "FORMAT_NONE", "is_shape_tensor": false,
                "allow_ragged_batch": false, "optional": false}],
            "output": [{"name": "label", "data_type": "TYPE_STRING", "dims": [10],
                "is_shape_tensor": false}],
            "model_transaction_policy": {"decoupled": false},
        })
    );
}

#[test]
fn a_configuration_over_grpc_has_tritons_fields() {
    let [inputs, outputs] = images();
    let frame = config(Protocol::OipGrpc, &inputs, &outputs);
    let minus_one = [&[0xff; 9][..], &[1]].concat();
    let input = [&b"\x0a\x05image\x10\x0b\x22\x0b"[..], &*minus_one, b"\x03"].concat();
    let expected = [
        &b"\x0a\x01m\x12\x0atensorgate\x20\x20\x2a\x16"[..],
        &*input,
        b"\x32\x0c\x0a\x05label\x10\x0d\x1a\x01\x0a",
    ]
    .concat();
    assert_eq!(frame[..5], [0, 0, 0, 0, 57]);
    assert_eq!(frame[5..], [&b"\x0a\x37"[..], &*expected].concat());
}

#[test]
fn only_a_common_variable_first_dimension_is_a_batch() {
    let tensor = |shape: Value| json!([{"name": "x", "datatype": "INT64", "shape": shape}]);
    let n = json!({"name": "n", "max": 4});
    for (input, output, most, dims) in [
        (json!([n, 2]), json!(["n", 2]), 4, json!([2])),
        // Without a common name they may differ.
        (
            json!([{"max": 4}, 2]),
            json!([{"max": 4}, 2]),
            0,
            json!([-1, 2]),
        ),
        (json!([n, 2]), json!([2, 2]), 0, json!([-1, 2])),
        // Triton's dims are never empty: this is a sequence.
        (json!([n]), json!(["n"]), 0, json!([-1])),
        (json!([n, 2]), json!(["n"]), 0, json!([-1, 2])),
        // A batch of one is always allowed there.
        (
            json!([{"name": "n", "min": 2, "max": 4}, 2]),
            json!(["n", 2]),
            0,
            json!([-1, 2]),
        ),
        (json!([4, 2]), json!([4, 2]), 0, json!([4, 2])),
    ] {
        let config = rest(&tensor(input.clone()), &tensor(output));
        assert_eq!(config["max_batch_size"], most, "{input}");
        assert_eq!(config["input"][0]["dims"], dims, "{input}");
    }
}
