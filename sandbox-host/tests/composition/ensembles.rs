//! Several models for one request: at once where they can be, after each other where one takes what another gives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tonic::Code;

use crate::support::backend::{Act, Backend};
use crate::support::{Answer, Running, infer_body, start, until};

/// `first` (version 7 there) and `second` (version 6), and an ensemble of them with these steps and outputs.
async fn ensemble(backend: &Backend, steps: Value, outputs: &[&str]) -> Running {
    let mut policy = crate::support::policy(&backend.uri(), json!({}), json!({}));
    let vec = policy["models"]["vec"].clone();
    let version = |version: &str| {
        let mut model = vec.clone();
        model["versions"] = json!([version]);
        model
    };
    let mut both = vec.clone();
    let fields = both.as_object_mut().unwrap();
    fields.retain(|name, _| !["backend", "backend_model"].contains(&name.as_str()));
    both["protocols"] = json!(["oip-rest", "oip-grpc"]);
    both["ensemble"] = json!({"steps": steps});
    let output = |name: &&str| json!({"name": name, "datatype": "FP32", "shape": [{"max": 8}]});
    both["outputs"] = outputs.iter().map(output).collect();
    policy["models"] = json!({"first": version("7"), "second": version("6"), "both": both});
    policy["grants"][0]["models"] = json!(["both"]);
    let running = start(policy).await;
    running.ready().await;
    running
}

async fn infer(running: &Running, x: &[f32]) -> Answer {
    let path = "/v2/models/both/infer";
    running.gate.call("POST", path, infer_body(x)).await
}

fn fan_out() -> Value {
    json!([{"model": "first", "outputs": {"y": "a"}}, {"model": "second", "outputs": {"y": "b"}}])
}

fn chain() -> Value {
    json!([
        {"model": "second", "inputs": {"x": "a"}, "outputs": {"y": "b"}},
        {"model": "first", "outputs": {"y": "a"}}
    ])
}

/// One more from version 7, ten times as much from any other.
fn arithmetic() -> Act {
    Act::Change(Box::new(|answer| {
        let changed = answer.raw_output_contents[0].chunks(4).flat_map(|bytes| {
            let value = f32::from_le_bytes(bytes.try_into().unwrap());
            let first = answer.model_version == "7";
            (if first { value + 1.0 } else { value * 10.0 }).to_le_bytes()
        });
        answer.raw_output_contents[0] = changed.collect::<Vec<_>>().into();
    }))
}

fn outputs(answer: &Answer) -> Vec<(String, Value)> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let outputs = answer.json()["outputs"].as_array().unwrap().clone();
    let named = outputs.iter().map(|output| {
        let name = output["name"].as_str().unwrap().to_owned();
        (name, output["data"].clone())
    });
    named.collect()
}

#[tokio::test]
async fn models_with_the_same_inputs_are_called_at_once_and_their_answers_are_one() {
    let backend = Backend::start(arithmetic());
    let running = ensemble(&backend, fan_out(), &["a", "b"]).await;
    let answer = infer(&running, &[2.0, 3.0]).await;
    let expected = [("a", json!([3.0, 4.0])), ("b", json!([20.0, 30.0]))];
    assert_eq!(
        outputs(&answer),
        expected.map(|(name, data)| (name.to_owned(), data))
    );
    assert_eq!(answer.json()["model_name"], "both");
    let permits = Arc::new(Semaphore::new(0));
    backend.set(Act::Hold(Arc::clone(&permits)));
    let release = async {
        until("both are there", || backend.inside() == 2).await;
        permits.add_permits(2);
    };
    let (answer, ()) = tokio::join!(infer(&running, &[2.0]), release);
    assert_eq!(answer.status, 200);
    running.stop().await;
}

#[tokio::test]
async fn a_model_is_given_what_another_made() {
    let backend = Backend::start(arithmetic());
    let running = ensemble(&backend, chain(), &["b"]).await;
    let answer = infer(&running, &[2.0, 3.0]).await;
    assert_eq!(outputs(&answer), [("b".to_owned(), json!([30.0, 40.0]))]);
    // What the first makes of it is beyond the second's range.
    let answer = infer(&running, &[100.0]).await;
    assert_eq!(
        (answer.status, answer.reason().as_str()),
        (502, "backend-fault")
    );
    assert_eq!(backend.begun(), 3, "the second is not called with it");
    let ready = running.gate.call("GET", "/v2/models/both/ready", "").await;
    assert_eq!(ready.status, 200);
    running.stop().await;
}

#[tokio::test]
async fn the_first_that_fails_fails_the_request_and_ends_the_others() {
    let backend = Backend::start(Act::Answer);
    let running = ensemble(&backend, fan_out(), &["a", "b"]).await;
    for (act, status, reason) in [
        (Act::Refuse(Code::Internal), 502, "backend-fault"),
        (Act::Refuse(Code::Unavailable), 503, "backend-unavailable"),
        (
            Act::Change(Box::new(|answer| answer.outputs[0].shape = vec![9])),
            502,
            "backend-fault",
        ),
    ] {
        backend.set(Act::Either("7", Box::new(Act::Never), Box::new(act)));
        let began = Instant::now();
        let answer = infer(&running, &[1.0]).await;
        assert_eq!((answer.status, answer.reason().as_str()), (status, reason));
        assert!(
            began.elapsed() < Duration::from_secs(4),
            "{:?}",
            began.elapsed()
        );
        until("the other is cancelled", || backend.inside() == 0).await;
    }
    running.stop().await;
}
