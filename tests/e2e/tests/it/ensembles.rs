//! Ensembles on a real Envoy: several models answer one request. And handlers that apply to one
//! grant's clients only.

use std::time::Instant;

use serde_json::{Value, json};
use tensorgate_client::Reply;
use tensorgate_client::http1::{self, Framing};
use tensorgate_policy_compiler::raw::{ModelLimits, Policy};
use tensorgate_tests::backend::{Mode, SECRET};
use tensorgate_tests::{Lease, Stack, ask, policy};

fn composed() -> Policy {
    policy::vectors_policy("composed.json")
}

async fn infer(stack: &Stack, client: &str, model: &str, body: &Value) -> Reply {
    let path = format!("/v2/models/{model}/infer");
    let fields = ask::fields(&policy::key(client));
    let body = body.to_string();
    http1::send(
        stack.gate,
        "POST",
        &path,
        &fields,
        body.as_bytes(),
        Framing::Length,
    )
    .await
    .unwrap()
}

fn good() -> Value {
    serde_json::from_str(ask::VALID).unwrap()
}

/// The backend's requests so far: model, version, and the names of the inputs.
fn asked(stack: &Stack) -> Vec<(String, String, Vec<String>)> {
    let seen = stack.backend.seen().into_iter().map(|seen| {
        let inputs = seen.message.inputs.into_iter().map(|input| input.name);
        let (model, version) = (seen.message.model_name, seen.message.model_version);
        (model, version, inputs.collect())
    });
    seen.collect()
}

fn step(model: &str, version: &str, inputs: &[&str]) -> (String, String, Vec<String>) {
    let inputs = inputs.iter().map(|name| (*name).to_owned()).collect();
    (model.to_owned(), version.to_owned(), inputs)
}

fn names(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{reply:?}");
    let outputs = reply.json().unwrap()["outputs"].as_array().unwrap().clone();
    let names = outputs.iter().map(|it| it["name"].as_str().unwrap().into());
    names.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ensembles_models_all_answer_or_the_request_fails() {
    let stack = Lease::of(composed()).await;
    let reply = infer(&stack, "scorer", "both", &good()).await;
    assert_eq!(names(&reply), ["a", "z"]);
    let answer = reply.json().unwrap();
    let told = (&answer["model_name"], &answer["model_version"]);
    assert_eq!(told, (&json!("both"), &json!("1")));
    let both = [
        step("first", "1", &["x"]),
        step("second", "2", &["made", "x"]),
    ];
    assert_eq!(asked(&stack), both);
    // Neither model may be called directly, with the ensemble or beside it.
    for model in ["first", "second", "second/versions/2"] {
        let reply = infer(&stack, "scorer", model, &good()).await;
        assert_eq!(
            (reply.status, reply.reason().as_deref()),
            (403, Some("not-granted"))
        );
    }
    // When the first model fails, the second is not called.
    for (mode, status, reason) in [
        (Mode::Fails, 502, "backend-fault"),
        (Mode::BreaksTheContract, 502, "backend-fault"),
        (Mode::NotFinite, 502, "backend-fault"),
    ] {
        let before = asked(&stack).len();
        stack.backend.set(mode);
        let reply = infer(&stack, "scorer", "both", &good()).await;
        let got = (reply.status, reply.reason());
        assert_eq!(got, (status, Some(reason.to_owned())), "{mode:?}");
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        for inner in [SECRET, "first", "second", "step"] {
            assert!(!text.contains(inner), "{mode:?}: {text}");
        }
        assert_eq!(asked(&stack)[before..], [step("first", "1", &["x"])]);
    }
    let told = || {
        let log = stack.log("audit/decisions.jsonl");
        log.matches("step 0, model \\\"first\\\"").count() == 3
    };
    ask::met("the audit log tells which step failed", told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ensembles_calls_use_their_models_slots() {
    let mut policy = composed();
    policy.listen.limits.timeout_ms = 60_000.into();
    policy.listen.limits.stream_ms = 120_000.into();
    policy.backends.get_mut("backend").unwrap().timeout_ms = 60_000.into();
    policy.models.get_mut("second").unwrap().limits = Some(ModelLimits {
        concurrency: Some(1.into()),
        in_flight_bytes: None,
    });
    let stack = Lease::of(policy).await;
    stack.backend.set(Mode::Hangs);
    let other = async {
        ask::met("the first is at its model", || !asked(&stack).is_empty()).await;
        // A request that waits at `first` already holds its slot at `second`.
        let reply = infer(&stack, "scorer", "both", &good()).await;
        let refused = (reply.status, reply.reason());
        assert_eq!(refused, (429, Some("concurrency".to_owned())));
        assert_eq!(asked(&stack).len(), 1);
    };
    let body = good();
    tokio::select! {
        reply = infer(&stack, "scorer", "both", &body) => panic!("{reply:?}"),
        () = other => {}
    }
    // The caller has left.
    stack.backend.set(Mode::Zeros);
    let started = Instant::now();
    loop {
        let reply = infer(&stack, "scorer", "both", &good()).await;
        if reply.status == 200 {
            break;
        }
        let refused = (reply.status, reply.reason());
        assert_eq!(refused, (429, Some("concurrency".to_owned())));
        assert!(
            started.elapsed() < ask::PATIENCE,
            "the place never came back"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_handlers_of_a_grant_apply_to_its_clients() {
    let stack = Lease::of(composed()).await;
    let image = json!({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": vec![0.5; 64]}]});
    for (client, outputs) in [
        ("scorer", &["probabilities"][..]),
        ("reader", &["label", "confidence"]),
    ] {
        let reply = infer(&stack, client, "digits", &image).await;
        assert_eq!(names(&reply), outputs, "{client}");
    }
    let reply = infer(&stack, "reader", "digits", &image).await;
    let label = &reply.json().unwrap()["outputs"][0];
    assert_eq!(label["data"], json!(["0"]), "the first of equal scores");
}
