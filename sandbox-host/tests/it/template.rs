//! A request in a model's own JSON, over the real socket, at a backend that speaks another
//! protocol.

use serde_json::{Value, json};

use crate::support;
use support::backend::{Act, Backend};
use support::{policy, start};

const ROUTE: &str = "/classify";

/// The model with a route of its own.
fn own(uri: &str) -> Value {
    let mut policy = policy(uri, json!({}), json!({}));
    let model = &mut policy["models"]["vec"];
    model["protocols"] = json!(["json"]);
    model["json"] = json!({
        "route": ROUTE, "inputs": {"x": "/input/x"}, "outputs": {"y": "/result/y", "z": "/count"}, "ignored": ["/request_id"]
    });
    policy
}

#[tokio::test]
async fn an_answer_follows_the_template_and_the_backend_sees_its_own_protocol() {
    let backend = Backend::start(Act::Answer);
    let running = start(own(&backend.uri())).await;
    for (body, expected) in [
        (
            json!({"input": {"x": [1.5, -2]}}),
            json!({"result": {"y": [1.5, -2.0]}, "count": 2}),
        ),
        (
            json!({"request_id": ["secret"], "input": {"x": 4}}),
            json!({"result": {"y": [4.0]}, "count": 1}),
        ),
    ] {
        let answer = running.gate.call("POST", ROUTE, body.to_string()).await;
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
    assert_eq!(seen.id, support::REQUEST_ID, "ours, and no client's");
    running.stop().await;
}

#[tokio::test]
async fn members_outside_the_template_are_rejected_by_the_host_too() {
    let backend = Backend::start(Act::Answer);
    let running = start(own(&backend.uri())).await;
    for (method, path, body, expected) in [
        (
            "POST",
            ROUTE,
            r#"{"input":{"x":[1]},"y":1}"#,
            (400, "malformed"),
        ),
        (
            "POST",
            ROUTE,
            r#"{"input":{"x":[101]}}"#,
            (400, "out-of-range"),
        ),
        ("POST", ROUTE, r#"{"input":{}}"#, (400, "missing-input")),
        ("GET", ROUTE, "", (404, "not-an-inference-route")),
        (
            "POST",
            "/classify/",
            r#"{"input":{"x":[1]}}"#,
            (404, "not-an-inference-route"),
        ),
    ] {
        let answer = running.gate.call(method, path, body.to_owned()).await;
        let said = (answer.status, answer.reason());
        assert_eq!(
            (said.0, said.1.as_str()),
            expected,
            "{method} {path} {body}"
        );
        if path == ROUTE {
            assert!(answer.json()["error"].is_string(), "{answer:?}");
        }
    }
    assert!(backend.seen.last.lock().unwrap().is_none());
    running.stop().await;
}
