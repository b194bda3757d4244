//! Policies that are held, because they would make a model unready that is ready: what holds one,
//! what does not, and how it comes into force.

use std::time::Duration;

use serde_json::{Value, json};
use tensorgate_host::policy_store::policy_versions::{Attempt, LoadOutcome};

use super::support::backend::{Act, Backend, described, truth};
use super::support::{GENERATION, policy, start, until};
use super::{NEXT, THIRD, beside, check, mute, two};

const MOVED: &str = "3333333333333333";
const TIGHTER: &str = "4444444444444444";

/// A policy with this datatype of the model's input, at a server that is often probed.
fn typed(backend: &Backend, datatype: &str) -> Value {
    let probed_often = json!({"health_check": {"interval_s": 1}});
    let mut policy = policy(&backend.uri(), json!({}), probed_often);
    policy["models"]["vec"]["inputs"][0]["datatype"] = json!(datatype);
    policy
}

fn check_attempt(attempt: &Attempt, outcome: LoadOutcome, cause: &str) {
    assert_eq!(attempt.outcome, outcome, "{attempt:?}");
    let found = attempt.faults.iter().any(|fault| fault.contains(cause));
    assert!(found || cause.is_empty(), "{attempt:?}");
}

#[tokio::test]
async fn a_policy_that_breaks_a_ready_model_waits_until_its_server_fits_or_it_is_accepted() {
    let backend = Backend::start(Act::Answer);
    let first = typed(&backend, "FP32");
    let running = start(first.clone()).await;
    running.ready().await;
    let broken = typed(&backend, "INT32");
    let attempt = running.reload_or_hold(NEXT, &broken, &[]).await;
    let cause = r#""FP32" there, INT32 in the contract"#;
    check_attempt(&attempt, LoadOutcome::Unready, cause);
    let status = running.generations().await;
    assert_eq!(status["serving"], GENERATION);
    assert_eq!(status["last"]["outcome"], "unready");
    assert_eq!(status["waiting_policy"]["generation"], NEXT);
    let answer = running.infer_as("scorer", GENERATION, &[1.0]).await;
    check(&answer, 200, "");

    // A server that is away for a moment does not let it in.
    backend.says(Err(tonic::Code::Unavailable));
    until("the model is not ready", || !running.models_ready()).await;
    let attempt = running.reload_or_hold(NEXT, &broken, &[]).await;
    check_attempt(&attempt, LoadOutcome::Unready, r#"model "vec" version "7""#);
    let mut fits = truth();
    fits.inputs = vec![described("x", "INT32", &[-1])];
    backend.says(Ok(fits));
    let mut status = running.generations().await;
    while status["waiting_policy"]["unready"] != json!([]) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        status = running.generations().await;
    }
    let attempt = running.reload_or_hold(NEXT, &broken, &[]).await;
    check_attempt(&attempt, LoadOutcome::Loaded, "");
    let status = running.generations().await;
    assert_eq!(status.get("waiting_policy"), None);

    let attempt = running.reload_or_hold(THIRD, &first, &[]).await;
    let cause = r#""INT32" there, FP32 in the contract"#;
    check_attempt(&attempt, LoadOutcome::Unready, cause);
    let attempt = running.reload(THIRD, &first).await;
    check_attempt(&attempt, LoadOutcome::Loaded, "");
    assert!(!running.models_ready(), "it was accepted as it is");
    running.stop().await;
}

#[tokio::test]
async fn only_models_that_were_ready_and_do_not_only_tighten_hold_a_policy() {
    let backend = Backend::start(Act::Answer);
    let first = typed(&backend, "FP32");
    let running = start(first.clone()).await;
    running.ready().await;
    // A new model at a server that never answers is only named.
    let more = beside(first, &mute(1).await);
    let attempt = running.reload_or_hold(NEXT, &more, &[]).await;
    check_attempt(&attempt, LoadOutcome::Loaded, "");
    // It was not ready before, and still is not.
    let mut again = more;
    again["backends"]["b0"]["timeout_ms"] = json!(10_000);
    let attempt = running.reload_or_hold(THIRD, &again, &[]).await;
    check_attempt(&attempt, LoadOutcome::Loaded, "");
    // A ready model that moves to that server holds the policy, within the time of a probe.
    let mut moved = again.clone();
    moved["models"]["vec"]["backend"] = json!("b0");
    let attempt = running.reload_or_hold(MOVED, &moved, &[]).await;
    check_attempt(&attempt, LoadOutcome::Unready, r#"backend "b0""#);
    assert!(attempt.took_ms < 6_000, "{attempt:?}");
    // A model whose contract only tightens, as the writer of the bundle says, does not.
    let mut tighter = again;
    tighter["models"]["vec"]["outputs"][1]["shape"] = json!([2]);
    let attempt = running.reload_or_hold(TIGHTER, &tighter, &[]).await;
    let cause = "1 in dim 0 there, 2 in the contract";
    check_attempt(&attempt, LoadOutcome::Unready, cause);
    let attempt = running.reload_or_hold(TIGHTER, &tighter, &["vec"]).await;
    check_attempt(&attempt, LoadOutcome::Loaded, "");
    running.stop().await;
}

#[tokio::test]
async fn a_client_that_a_waiting_policy_removes_is_rejected_at_once() {
    let backend = Backend::start(Act::Answer);
    let running = start(two(&backend, &["scorer", "other"], 100.0)).await;
    running.ready().await;
    let mut next = two(&backend, &["scorer"], 100.0);
    next["models"]["vec"]["inputs"][0]["datatype"] = json!("INT32");
    let attempt = running.reload_or_hold(NEXT, &next, &[]).await;
    check_attempt(&attempt, LoadOutcome::Unready, "INT32 in the contract");
    let removed = running.infer_as("other", GENERATION, &[1.0]).await;
    check(&removed, 401, "unauthenticated");
    let kept = running.infer_as("scorer", GENERATION, &[1.0]).await;
    check(&kept, 200, "");
    running.stop().await;
}
