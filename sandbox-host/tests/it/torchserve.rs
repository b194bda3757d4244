//! A TorchServe client's request, over the real socket, at a backend that speaks another protocol.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tensorgate_wire::context::HEADER;

use crate::support;
use support::backend::{Act, Backend};
use support::{Answer, Running, answer, context, key, policy, start};

const PREDICTIONS: &str = "/predictions/vec/7";
const GRPC: &str = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/";

/// The reply to a body with a content type.
async fn send(running: &Running, method: &str, path: &str, kind: &str, body: Vec<u8>) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "tensorgate")
        .header("x-request-id", support::REQUEST_ID)
        .header("content-type", kind)
        .header(HEADER, context(method, path).sign(&key()))
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    answer(running.gate.exchange(request).await).await
}

#[tokio::test]
async fn an_answer_has_the_form_of_its_request_and_the_backend_sees_its_own_protocol() {
    let backend = Backend::start(Act::Answer);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    let whole = json!({"y": [1.5, -2.0], "z": [2]});
    for (body, expected) in [
        (json!([1.5, -2]), whole.clone()),
        (json!({"data": [1.5, -2]}), whole.clone()),
        (json!({"body": {"x": [1.5, -2]}}), whole.clone()),
        (json!({"x": [1.5, -2]}), whole.clone()),
        (
            json!({"instances": [4]}),
            json!({"predictions": [{"y": 4.0, "z": 1}]}),
        ),
    ] {
        let answer = running
            .gate
            .call("POST", PREDICTIONS, body.to_string())
            .await;
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.json(), expected, "{body}");
    }
    let (seen, _) = backend.seen.last.lock().unwrap().clone().unwrap();
    assert_eq!(
        (seen.model_name.as_str(), seen.model_version.as_str()),
        ("vec-at-backend", "7")
    );
    assert_eq!(seen.raw_input_contents, [4_f32.to_le_bytes().to_vec()]);
    assert!(seen.parameters.is_empty());
    // It is the caller's own fault to ask for rows when the answer has none.
    let answer = running
        .gate
        .call(
            "POST",
            PREDICTIONS,
            json!({"instances": [4, 5]}).to_string(),
        )
        .await;
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (400, "malformed")
    );
    assert!(answer.json()["error"].is_string());
    running.stop().await;
}

#[tokio::test]
async fn forms_and_messages_are_answered_like_json() {
    let backend = Backend::start(Act::Answer);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    let form = "--b\r\nContent-Disposition: form-data; name=\"data\"; filename=\"a.json\"\r\n\
        Content-Type: application/octet-stream\r\n\r\n[1.5, -2]\r\n--b--\r\n";
    let kind = "multipart/form-data; boundary=b";
    let answer = send(&running, "PUT", PREDICTIONS, kind, form.into()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json(), json!({"y": [1.5, -2.0], "z": [2]}));

    let message = b"\x0a\x03vec\x1a\x0c\x0a\x01x\x12\x07[1.5,2]";
    let length = u8::try_from(message.len()).unwrap();
    let frame = [&[0, 0, 0, 0, length], message.as_slice()].concat();
    let path = format!("{GRPC}Predictions");
    let answer = send(&running, "POST", &path, "application/grpc", frame).await;
    assert_eq!(answer.headers["content-type"], "application/grpc");
    // A frame's header, a field's tag and its length; then the JSON.
    let told: Value = serde_json::from_slice(&answer.body[7..]).unwrap();
    assert_eq!(told, json!({"y": [1.5, 2.0], "z": [2]}));
    assert_eq!(answer.body[5], 0x0a);
    running.stop().await;
}

#[tokio::test]
async fn ping_reports_the_gates_readiness() {
    let backend = Backend::start(Act::Answer);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    running.ready().await;
    let answer = running.gate.call("GET", "/ping", String::new()).await;
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"status": "Healthy"}))
    );
    let path = format!("{GRPC}Ping");
    let answer = send(&running, "POST", &path, "application/grpc", vec![0; 5]).await;
    assert_eq!(&answer.body[..7], b"\0\0\0\0\x16\x0a\x14");
    assert_eq!(&answer.body[7..], b"{\"status\":\"Healthy\"}");
    running.stop().await;
}
