//! Versions in shadow: their answers are counted and logged, and have no effect on clients.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tonic::Code;

use crate::composition::{counted, infer_as, with_versions};
use crate::support::backend::{Act, Backend};
use crate::support::{Running, start, until};

fn copies(running: &Running, outcome: &str) -> u64 {
    let series = format!(
        "tensorgate_host_copies_total{{model=\"vec\",version=\"6\",outcome=\"{outcome}\"}}"
    );
    counted(&running.metrics(), &series)
}

async fn shadowed(backend: &Backend, rule: Value) -> Running {
    let versions = json!({"7": {"weight": 1}, "6": rule});
    let running = start(with_versions(backend, versions)).await;
    running.ready().await;
    running
}

/// Checks that one mirrored request has this outcome, and that the log says the same.
async fn check(act: Act, rule: Value, outcome: &str, detail: Option<&str>) {
    let backend = Backend::start(Act::For("6", Box::new(act)));
    let running = shadowed(&backend, rule).await;
    let (id, answer) = infer_as(&running.gate, 1).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["model_version"], "7");
    assert_eq!(answer.json()["outputs"][0]["data"], json!([1.0, 2.0]));
    until("the copy is counted", || copies(&running, outcome) == 1).await;
    let line = || {
        let lines = running.audited();
        lines.into_iter().find(|line| line["type"] == "copy")
    };
    until("the copy is told", || line().is_some()).await;
    let line = line().unwrap();
    assert_eq!(line["request_id"], id);
    assert_eq!(
        (&line["model"], &line["version"]),
        (&json!("vec"), &json!("6"))
    );
    assert_eq!(line["outcome"], outcome, "{line}");
    let told = line["detail"].as_str().unwrap_or_default();
    assert!(told.contains(detail.unwrap_or_default()), "{line}");
    assert_eq!(line["detail"].is_null(), detail.is_none(), "{line}");
    let requests = "tensorgate_host_requests_total{model=\"vec\",verdict=\"allow\",reason=\"\"}";
    assert_eq!(counted(&running.metrics(), requests), 1);
    running.stop().await;
}

/// Adds to the first float of the answer.
fn off_by(more: f32) -> Act {
    Act::Change(Box::new(move |answer| {
        let mut data = answer.raw_output_contents[0].to_vec();
        let first = f32::from_le_bytes(data[..4].try_into().unwrap());
        data[..4].copy_from_slice(&(first + more).to_le_bytes());
        answer.raw_output_contents[0] = data.into();
    }))
}

#[tokio::test]
async fn a_shadow_versions_answer_is_compared_with_the_clients_answer() {
    let rule = || json!({"shadow": true});
    check(Act::Answer, rule(), "agree", None).await;
    check(off_by(0.0005), rule(), "agree", None).await;
    let first = Some("tensor \"y\": element 0 differs");
    check(off_by(0.5), rule(), "differ", first).await;
    check(
        off_by(0.5),
        json!({"shadow": true, "tolerance": 0.5}),
        "agree",
        None,
    )
    .await;
    let nan = "breaks the contract: not-finite";
    check(off_by(f32::NAN), rule(), "fail", Some(nan)).await;
    check(Act::Refuse(Code::Internal), rule(), "fail", Some("backend")).await;
    let other = Act::Change(Box::new(|answer| answer.id = "another".to_owned()));
    check(other, rule(), "fail", Some("answers request")).await;
}

#[tokio::test]
async fn a_shadow_version_that_hangs_delays_no_request() {
    let backend = Backend::start(Act::For("6", Box::new(Act::Never)));
    let running = shadowed(&backend, json!({"shadow": true})).await;
    let began = Instant::now();
    // One slot at the backend: a mirrored request that took it would keep the next request waiting.
    for number in 0..12 {
        let (_, answer) = infer_as(&running.gate, number).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "no request waits"
    );
    until("the first ones hang", || backend.inside() == 4).await;
    until("the others are dropped", || {
        copies(&running, "dropped") == 8
    })
    .await;
    assert_eq!(backend.begun(), 12 + 4);
    running.stop().await;
}

#[tokio::test]
async fn a_failing_shadow_version_ejects_no_server() {
    let backend = Backend::start(Act::For("6", Box::new(Act::Refuse(Code::Unavailable))));
    let mut policy = with_versions(&backend, json!({"7": {"weight": 1}, "6": {"shadow": true}}));
    policy["backends"]["b"]["circuit_breaker"] = json!({"consecutive_failures": 2});
    let running = start(policy).await;
    running.ready().await;
    for number in 0..10 {
        let (_, answer) = infer_as(&running.gate, number).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let failed = u64::from(number) + 1;
        until("the copy failed", || copies(&running, "fail") == failed).await;
    }
    assert!(running.models_ready());
    let open = "tensorgate_host_backend_circuit_openings_total{backend=\"b\"}";
    assert_eq!(counted(&running.metrics(), open), 0);
    running.stop().await;
}

#[tokio::test]
async fn a_shadow_version_that_does_not_match_its_contract_gets_no_requests() {
    let mut said = crate::support::backend::truth();
    said.versions = vec!["7".to_owned()];
    let backend = Backend::start_saying(Act::Answer, "127.0.0.1:0".parse().unwrap(), Ok(said));
    let running = shadowed(&backend, json!({"shadow": true})).await;
    for number in 0..3 {
        let (_, answer) = infer_as(&running.gate, number).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    until("none is sent", || copies(&running, "fail") == 3).await;
    assert_eq!(backend.begun(), 3);
    running.stop().await;
}

#[tokio::test]
async fn rejected_or_unsampled_requests_are_not_mirrored() {
    let backend = Backend::start(Act::For("7", Box::new(Act::Refuse(Code::Internal))));
    let running = shadowed(&backend, json!({"shadow": true})).await;
    let (_, answer) = infer_as(&running.gate, 1).await;
    assert_eq!(answer.status, 502);
    backend.set(Act::Answer);
    running.stop().await;
    let begun = backend.begun();
    let running = shadowed(&backend, json!({"shadow": true, "percent": 25})).await;
    for number in 0..40 {
        let (_, answer) = infer_as(&running.gate, number).await;
        assert_eq!(answer.status, 200);
        // One mirrored request at a time: none is dropped.
        until("it is over", || backend.inside() == 0).await;
    }
    let copied = || copies(&running, "agree") + copies(&running, "dropped");
    until("some are copied", || copied() > 3).await;
    assert_eq!(begun, 1);
    assert!(copied() < 20, "{}", copied());
    running.stop().await;
}
