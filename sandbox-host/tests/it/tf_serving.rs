//! A TF Serving client's request, over the real socket, at a backend that speaks another protocol.

use serde_json::json;

use crate::support;
use support::backend::{Act, Backend};
use support::{policy, start};

const PREDICT: &str = "/v1/models/vec:predict";

#[tokio::test]
async fn a_request_by_column_is_answered_by_column_and_the_backend_sees_its_own_protocol() {
    let backend = Backend::start(Act::Answer);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    let body = json!({"signature_name": "serving_default", "inputs": [1.5, -2]});
    let answer = running.gate.call("POST", PREDICT, body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(
        answer.json(),
        json!({"outputs": {"y": [1.5, -2.0], "z": [2]}})
    );
    let (seen, _) = backend.seen.last.lock().unwrap().clone().unwrap();
    assert_eq!(
        (seen.model_name.as_str(), seen.model_version.as_str()),
        ("vec-at-backend", "7")
    );
    assert_eq!(
        (seen.inputs[0].datatype.as_str(), &*seen.inputs[0].shape),
        ("FP32", &[2][..])
    );
    let raw: Vec<u8> = [1.5_f32, -2.0]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    assert_eq!(seen.raw_input_contents, [raw]);
    assert!(
        seen.parameters.is_empty(),
        "the default signature is no parameter"
    );
    running.stop().await;
}

#[tokio::test]
async fn outputs_without_a_common_batch_are_not_sent_by_row() {
    let backend = Backend::start(Act::Answer);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    for (rows, status, expected) in [
        (json!([4]), 200, json!([{"y": 4.0, "z": 1}])),
        // As in TF Serving: the caller asked for an output that does not exist.
        (json!([4, 5]), 400, json!(null)),
    ] {
        let body = json!({"instances": rows}).to_string();
        let answer = running.gate.call("POST", PREDICT, body).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.json()["predictions"], expected);
        // A rejection's `error` is a string, as this protocol's clients expect.
        assert_eq!(answer.json()["error"].is_string(), status != 200);
    }
    running.stop().await;
}

#[tokio::test]
async fn status_and_metadata_are_the_contracts() {
    let backend = Backend::start(Act::Answer);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    running.ready().await;
    let answer = running
        .gate
        .call("GET", "/v1/models/vec/versions/7", String::new())
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json()["model_version_status"][0]["state"],
        "AVAILABLE"
    );
    let answer = running
        .gate
        .call("GET", "/v1/models/vec/metadata", String::new())
        .await;
    let signature = &answer.json()["metadata"]["signature_def"]["signature_def"]["serving_default"];
    assert_eq!(signature["inputs"]["x"]["dtype"], "DT_FLOAT");
    assert_eq!(
        signature["outputs"]["z"]["tensor_shape"]["dim"][0]["size"],
        "1"
    );
    running.stop().await;
}
