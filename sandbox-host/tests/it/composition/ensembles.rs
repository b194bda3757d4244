//! Several models for one request: in parallel where possible, in sequence where one takes
//! another's output.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tensorgate_host::policy_store::policy_versions::LoadOutcome;
use tokio::sync::Semaphore;
use tonic::Code;

use crate::composition::chains::{postprocess, preprocess};
use crate::support::backend::{Act, Backend};
use crate::support::{Answer, Running, context, infer_body, key, start, start_with, until};

/// A policy with `first` (version 7), `second` (version 6) and an ensemble of them with these steps
/// and outputs.
fn policy_of(backend: &Backend, steps: Value, outputs: &[&str]) -> Value {
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
    both["versions"] = json!(["1"]);
    both["protocols"] = json!(["oip-rest", "oip-grpc"]);
    both["ensemble"] = json!({"steps": steps});
    let output = |name: &&str| json!({"name": name, "datatype": "FP32", "shape": [{"max": 8}]});
    both["outputs"] = outputs.iter().map(output).collect();
    policy["models"] = json!({"first": version("7"), "second": version("6"), "both": both});
    policy["grants"][0]["models"] = json!(["both"]);
    policy
}

async fn ensemble(backend: &Backend, steps: Value, outputs: &[&str]) -> Running {
    ensemble_with(backend, steps, outputs, |_| {}).await
}

/// The same, its policy changed.
async fn ensemble_with(
    backend: &Backend,
    steps: Value,
    outputs: &[&str],
    change: impl FnOnce(&mut Value),
) -> Running {
    let mut policy = policy_of(backend, steps, outputs);
    change(&mut policy);
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

/// Adds one in version 7, and multiplies by ten in any other.
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
async fn steps_with_the_same_inputs_run_in_parallel_and_their_outputs_are_merged() {
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
async fn a_step_gets_the_outputs_of_an_earlier_step() {
    let backend = Backend::start(arithmetic());
    let running = ensemble(&backend, chain(), &["b"]).await;
    let answer = infer(&running, &[2.0, 3.0]).await;
    assert_eq!(outputs(&answer), [("b".to_owned(), json!([30.0, 40.0]))]);
    // The first model's output is out of the second's range.
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
async fn the_first_failing_step_fails_the_request_and_cancels_the_others() {
    let backend = Backend::start(Act::Answer);
    // The request's time limit is longer than the wait here: only its failure can end the other
    // calls.
    let patient = |policy: &mut Value| policy["listen"]["limits"]["timeout_ms"] = json!(20_000);
    let running = ensemble_with(&backend, fan_out(), &["a", "b"], patient).await;
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
        until("the other is cancelled", || backend.inside() == 0).await;
        assert!(
            began.elapsed() < Duration::from_secs(12),
            "{:?}",
            began.elapsed()
        );
    }
    running.stop().await;
}

/// Narrows what `first` and `second` accept by their own contracts.
fn narrow(policy: &mut Value) {
    policy["models"]["first"]["inputs"][0]["range"] = json!([-1, 1]);
}

#[tokio::test]
async fn client_inputs_of_a_later_step_are_validated_before_the_first_call() {
    let backend = Backend::start(Act::Answer);
    let steps = json!([
        {"model": "second", "outputs": {"y": "b"}},
        {"model": "first", "outputs": {"y": "a"}}
    ]);
    let running = ensemble_with(&backend, steps, &["a", "b"], narrow).await;
    let answer = infer(&running, &[2.0]).await;
    let refused = (answer.status, answer.reason());
    assert_eq!(refused, (400, "out-of-range".to_owned()), "{answer:?}");
    let text = String::from_utf8_lossy(&answer.body);
    assert!(!text.contains("first") && !text.contains("step"), "{text}");
    assert_eq!(backend.begun(), 0);
    let lines = running.audited();
    let line = lines.iter().find(|line| line["reason"] == "out-of-range");
    let told = line.unwrap()["detail"].as_str().unwrap();
    assert!(told.contains("step 1, model \"first\""), "{told}");
    assert_eq!(infer(&running, &[1.0]).await.status, 200);
    running.stop().await;
}

#[tokio::test]
async fn a_parameter_goes_to_the_models_that_list_it() {
    let backend = Backend::start(Act::Answer);
    let silent = |policy: &mut Value| {
        policy["models"]["second"]["parameters"] = json!({});
    };
    let running = ensemble_with(&backend, chain(), &["b"], silent).await;
    let body = json!({
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}], "parameters": {"priority": 3}
    });
    let path = "/v2/models/both/infer";
    let permits = Arc::new(Semaphore::new(0));
    backend.set(Act::Hold(Arc::clone(&permits)));
    let sent = |number: usize| {
        let (backend, permits) = (&backend, &permits);
        async move {
            until("a call", || {
                backend.begun() == number && backend.inside() == 1
            })
            .await;
            let sent = backend.seen.last.lock().unwrap().clone().unwrap().0;
            permits.add_permits(1);
            (sent.model_version, sent.parameters.len())
        }
    };
    let both = async { (sent(1).await, sent(2).await) };
    let (answer, (one, other)) =
        tokio::join!(running.gate.call("POST", path, body.to_string()), both);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!((one, other), (("7".to_owned(), 1), ("6".to_owned(), 0)));
    running.stop().await;
}

#[tokio::test]
async fn all_steps_share_one_deadline() {
    let backend = Backend::start(Act::Slow(Duration::from_secs(2)));
    let short = |policy: &mut Value| policy["listen"]["limits"]["timeout_ms"] = json!(3_500);
    let running = ensemble_with(&backend, chain(), &["b"], short).await;
    let answer = infer(&running, &[1.0]).await;
    let refused = (answer.status, answer.reason());
    // With a time limit of its own, either step would have been answered.
    assert_eq!(refused, (504, "backend-timeout".to_owned()), "{answer:?}");
    assert_eq!(backend.begun(), 2, "either alone would have been in time");
    until("nothing is left there", || backend.inside() == 0).await;
    running.stop().await;
}

#[tokio::test]
async fn memory_for_all_answers_is_reserved_before_the_first_call() {
    let backend = Backend::start(Act::Answer);
    // The memory of an answer with two outputs of its rule, and of its envelope.
    let answer_bytes = tensorgate_judge::response_size::max_bytes(&[]) + 2 * 4096 + 32 + 10;
    let bytes = |bytes: usize| {
        move |policy: &mut Value| {
            policy["listen"]["limits"]["body_bytes"] = json!(1_024);
            policy["listen"]["limits"]["buffered_bytes"] = json!(bytes);
        }
    };
    let mut candidate = policy_of(&backend, fan_out(), &["a", "b"]);
    bytes(2 * answer_bytes - 1)(&mut candidate);
    let running = ensemble_with(&backend, fan_out(), &["a", "b"], |_| {}).await;
    let attempt = running.reload("fedcba9876543210", &candidate).await;
    assert_eq!(attempt.outcome, LoadOutcome::Refused);
    let [fault] = &*attempt.faults else {
        panic!("{:?}", attempt.faults)
    };
    assert!(fault.starts_with("model \"both\": an answer"), "{fault}");
    running.stop().await;
    // They fit, but not together with the request and the messages that are written from it.
    let running = ensemble_with(
        &backend,
        fan_out(),
        &["a", "b"],
        bytes(2 * answer_bytes + 8),
    )
    .await;
    let begun = backend.begun();
    let answer = infer(&running, &[1.0, 2.0, 3.0]).await;
    let refused = (answer.status, answer.reason());
    assert_eq!(refused, (503, "overloaded".to_owned()), "{answer:?}");
    assert_eq!(backend.begun(), begun);
    assert_eq!(running.host.app().budget.used(), 0, "all was given back");
    running.stop().await;
}

#[tokio::test]
async fn each_model_counts_its_own_calls() {
    let backend = Backend::start(Act::For("7", Box::new(Act::Refuse(Code::Internal))));
    let seen = |policy: &mut Value| {
        policy["grants"][0]["models"] = json!(["both", "first", "second"]);
        policy["grants"][0]["operations"] = json!(["infer", "statistics"]);
    };
    let running = ensemble_with(&backend, fan_out(), &["a", "b"], seen).await;
    assert_eq!(infer(&running, &[1.0]).await.status, 502);
    backend.set(Act::Answer);
    assert_eq!(infer(&running, &[1.0]).await.status, 200);
    for (model, version) in [("both", "1"), ("first", "7")] {
        let path = format!("/v2/models/{model}/versions/{version}/stats");
        let answer = running.gate.call("GET", &path, "").await;
        let stats = answer.json()["model_stats"][0]["inference_stats"].clone();
        let counts = (&stats["success"]["count"], &stats["fail"]["count"]);
        assert_eq!(counts, (&json!(1), &json!(1)), "{model}: {stats}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_model_whose_server_does_not_fit_makes_the_ensemble_unready() {
    let backend = Backend::start(Act::Answer);
    let running = ensemble_with(&backend, chain(), &["b"], |policy| {
        policy["backends"]["b"]["health_check"] = json!({"interval_s": 1});
    })
    .await;
    *backend.seen.says.lock().unwrap() = Some(Err(Code::NotFound));
    until("it is looked at again", || !running.models_ready()).await;
    let ready = running.gate.call("GET", "/v2/models/both/ready", "").await;
    assert_ne!(ready.status, 200, "{ready:?}");
    running.stop().await;
}

#[tokio::test]
async fn an_ensemble_has_handlers_of_its_own_and_a_grant_s() {
    let backend = Backend::start(arithmetic());
    let (times, minus) = (preprocess("f32.mul", "10"), postprocess("f32.sub", "4"));
    let mut policy = policy_of(&backend, chain(), &["b"]);
    let rule = |name: &str, component: &[u8]| {
        let sha256 = tensorgate_policy::hex(&Sha256::digest(component));
        json!({"component": name, "sha256": sha256, "fuel": 10_000_000, "memory_bytes": 1 << 20, "timeout_ms": 10_000})
    };
    policy["handlers"] =
        json!({"times": rule("times.wasm", &times), "minus": rule("minus.wasm", &minus)});
    policy["models"]["first"]["inputs"][0]["range"] = json!([-50, 50]);
    let both = &mut policy["models"]["both"];
    both["accepts"] = json!({"inputs": both["inputs"]});
    both["preprocess"] = json!("times");
    let returns = json!({"outputs": both["outputs"]});
    policy["clients"]["partner"] = json!({"api_keys": [{"sha256": "04".repeat(32)}]});
    let mut partners = policy["grants"][0].clone();
    partners["name"] = json!("partners");
    partners["clients"] = json!(["partner"]);
    partners["handlers"] = json!({"both": {"postprocess": "minus", "returns": returns}});
    policy["grants"].as_array_mut().unwrap().push(partners);
    let files: [(&str, &[u8]); 2] = [("times.wasm", &times), ("minus.wasm", &minus)];
    let running = start_with(policy, &files).await;
    running.ready().await;
    let path = "/v2/models/both/infer";
    // Ten times two, plus one, times ten; and four less.
    for (client, expected) in [("scorer", 210.0), ("partner", 206.0)] {
        let mut context = context("POST", path);
        context.client = Some(client.to_owned());
        let contexts = [context.sign(&key())];
        let body = infer_body(&[2.0]);
        let answer = running.gate.send("POST", path, &contexts, body).await;
        assert_eq!(outputs(&answer), [("b".to_owned(), json!([expected]))]);
    }
    // The handler's output satisfies the ensemble's contract, but not the model's.
    let begun = backend.begun();
    let answer = infer(&running, &[6.0]).await;
    assert_eq!(backend.begun(), begun);
    let refused = (answer.status, answer.reason());
    assert_eq!(refused, (500, "handler-fault".to_owned()), "{answer:?}");
    running.stop().await;
}
