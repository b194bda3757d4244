//! The binary data extension through a real Envoy and the host, in both directions: what the
//! backend receives, and what the caller gets back.

use serde_json::{Value, json};
use tensorgate_client::Reply;
use tensorgate_client::http1::{self, Framing};
use tensorgate_tests::{Lease, Stack, ask, policy};

/// Sends a request with these `outputs` and `parameters`. Its one input is in raw form after the
/// JSON.
async fn send(stack: &Stack, outputs: Value, parameters: Value) -> Reply {
    let json = json!({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}],
        "outputs": outputs, "parameters": parameters,
    })
    .to_string();
    let fields = [
        ("x-api-key", policy::key("scorer")),
        ("Inference-Header-Content-Length", json.len().to_string()),
    ];
    let body = [json.as_bytes(), &raw()].concat();
    http1::send(
        stack.gate,
        "POST",
        ask::PATH,
        &fields,
        &body,
        Framing::Length,
    )
    .await
    .unwrap()
}

fn raw() -> Vec<u8> {
    [1.5_f32, -2.0].map(f32::to_le_bytes).concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn binary_data_is_accepted_and_returned_as_requested() {
    let stack = Lease::of(policy::vectors_policy("main.json")).await;
    let said = |name, datatype, size| json!({"name": name, "datatype": datatype, "shape": [1], "parameters": {"binary_data_size": size}});
    let written = |name, datatype, zero: Value| json!({"name": name, "datatype": datatype, "shape": [1], "data": [zero]});
    let y = |binary: bool| {
        if binary {
            said("y", "FP32", 4)
        } else {
            written("y", "FP32", json!(0.0))
        }
    };
    let z = |binary: bool| {
        if binary {
            said("z", "INT64", 8)
        } else {
            written("z", "INT64", json!(0))
        }
    };
    for (outputs, parameters, expected, blob_bytes) in [
        (json!([]), json!({}), json!([y(false), z(false)]), None),
        (
            json!([]),
            json!({"binary_data_output": true}),
            json!([y(true), z(true)]),
            Some(12),
        ),
        (
            json!([]),
            json!({"binary_data_output": false}),
            json!([y(false), z(false)]),
            None,
        ),
        (
            json!([{"name": "y", "parameters": {"binary_data": true}}, {"name": "z"}]),
            json!({}),
            json!([y(true), z(false)]),
            Some(4),
        ),
        (
            json!([{"name": "y", "parameters": {"binary_data": false}}, {"name": "z"}]),
            json!({"binary_data_output": true, "priority": 1}),
            json!([y(false), z(true)]),
            Some(8),
        ),
    ] {
        let reply = send(&stack, outputs.clone(), parameters.clone()).await;
        assert_eq!(reply.status, 200, "{outputs} {parameters}: {reply:?}");
        let length = reply.header("inference-header-content-length");
        let json_bytes = match (&length, blob_bytes) {
            (Some(length), Some(_)) => length.parse().unwrap(),
            (None, None) => reply.body.len(),
            other => panic!("{outputs} {parameters}: {other:?}"),
        };
        let content_type = reply.header("content-type").unwrap();
        let (json, blobs) = reply.body.split_at(json_bytes);
        let json: Value = serde_json::from_slice(json).unwrap();
        assert_eq!(json["outputs"], expected, "{outputs} {parameters}");
        assert_eq!(blobs, vec![0; blob_bytes.unwrap_or(0)]);
        assert_eq!(
            content_type,
            if length.is_some() {
                "application/octet-stream"
            } else {
                "application/json"
            }
        );
    }
    for seen in stack.backend.seen() {
        assert_eq!(seen.message.raw_input_contents, [raw()]);
        assert!(seen.message.inputs[0].parameters.is_empty());
        assert!(
            seen.message
                .outputs
                .iter()
                .all(|output| output.parameters.is_empty())
        );
        // Parameters about the form of an answer end at the gate. A parameter that a rule names is
        // forwarded.
        assert!(
            seen.message
                .parameters
                .keys()
                .all(|name| name == "priority")
        );
    }
    let wrong = send(
        &stack,
        json!([{"name": "y", "parameters": {"classification": 1}}]),
        json!({}),
    )
    .await;
    assert_eq!(wrong.reason().as_deref(), Some("parameter"));
}
