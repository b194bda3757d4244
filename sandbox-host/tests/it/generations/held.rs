//! Policies that are held, because they would make a model unready that is ready: what holds one,
//! what does not, and how it comes into force.

use serde_json::{Value, json};
use tensorgate_host::policy_store::policy_versions::{Attempt, LoadOutcome};

use super::support::backend::{Act, Backend, truth};
use super::support::{GENERATION, policy, start, until};
use super::{NEXT, THIRD, beside, check, mute};

/// The policy with a contract that the server's description breaks: it has a second input.
fn broken(backend: &Backend) -> Value {
    let mut broken = policy(&backend.uri(), json!({}), json!({}));
    let inputs = broken["models"]["vec"]["inputs"].as_array_mut().unwrap();
    inputs.push(json!({"name": "mask", "datatype": "INT32", "shape": [1]}));
    broken
}

fn says(attempt: &Attempt, outcome: LoadOutcome, cause: &str) {
    assert_eq!(attempt.outcome, outcome, "{attempt:?}");
    let found = attempt.faults.iter().any(|fault| fault.contains(cause));
    assert!(found || cause.is_empty(), "{attempt:?}");
}

#[tokio::test]
async fn a_policy_that_breaks_a_ready_model_is_held_until_its_server_fits_or_it_is_accepted() {
    let backend = Backend::start(Act::Answer);
    let first = policy(&backend.uri(), json!({}), json!({}));
    let running = start(first.clone()).await;
    running.ready().await;
    let broken = broken(&backend);
    let attempt = running.reload_or_hold(NEXT, &broken, &[]).await;
    says(&attempt, LoadOutcome::Held, r#"it has no input "mask""#);
    let status = running.generations().await;
    assert_eq!(status["serving"], GENERATION);
    assert_eq!(status["last"]["outcome"], "held");
    assert_eq!(status["held_policy"]["generation"], NEXT);
    let answer = running.infer_as("scorer", GENERATION, &[1.0]).await;
    check(&answer, 200, "");

    // A server that describes nothing for a moment lets it in no sooner.
    let mut fits = truth();
    fits.inputs
        .push(super::support::backend::described("mask", "INT32", &[1]));
    backend.says(Err(tonic::Code::Unavailable));
    until("the model is not ready", || !running.models_ready()).await;
    let attempt = running.reload_or_hold(NEXT, &broken, &[]).await;
    says(&attempt, LoadOutcome::Held, r#"model "vec" version "7""#);
    backend.says(Ok(fits));
    let mut status = running.generations().await;
    while status["held_policy"]["unready"] != json!([]) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        status = running.generations().await;
    }
    let attempt = running.reload_or_hold(NEXT, &broken, &[]).await;
    says(&attempt, LoadOutcome::Loaded, "");
    assert_eq!(running.generations().await.get("held_policy"), None);

    let attempt = running.reload_or_hold(THIRD, &first, &[]).await;
    says(
        &attempt,
        LoadOutcome::Held,
        r#"input "mask" is not in the contract"#,
    );
    let attempt = running.reload(THIRD, &first).await;
    says(&attempt, LoadOutcome::Loaded, "");
    assert!(!running.models_ready(), "it was accepted as it is");
    running.stop().await;
}

#[tokio::test]
async fn only_models_that_were_ready_and_do_not_only_tighten_hold_a_policy() {
    let backend = Backend::start(Act::Answer);
    let first = policy(&backend.uri(), json!({}), json!({}));
    let running = start(first.clone()).await;
    running.ready().await;
    // A new model at a server that never answers is only named.
    let frozen = mute(1).await;
    let more = beside(first.clone(), &frozen);
    let attempt = running.reload_or_hold(NEXT, &more, &[]).await;
    says(&attempt, LoadOutcome::Loaded, "");
    // It was not ready before, and still is not.
    let mut again = more.clone();
    again["backends"]["b0"]["timeout_ms"] = json!(10_000);
    let attempt = running.reload_or_hold(THIRD, &again, &[]).await;
    says(&attempt, LoadOutcome::Loaded, "");
    // A ready model that moves to that server is held, within the time of one probe.
    let mut moved = again.clone();
    moved["models"]["vec"]["backend"] = json!("b0");
    let attempt = running.reload_or_hold(NEXT_BUT_ONE, &moved, &[]).await;
    says(&attempt, LoadOutcome::Held, r#"backend "b0""#);
    assert!(attempt.took_ms < 6_000, "{attempt:?}");
    // A contract that only tightens is in force although the server breaks it.
    let mut tighter = again;
    tighter["models"]["vec"]["outputs"][1]["shape"] = json!([2]);
    let attempt = running.reload_or_hold(TIGHTER, &tighter, &[]).await;
    says(
        &attempt,
        LoadOutcome::Held,
        "1 in dim 0 there, 2 in the contract",
    );
    let attempt = running.reload_or_hold(TIGHTER, &tighter, &["vec"]).await;
    says(&attempt, LoadOutcome::Loaded, "");
    running.stop().await;
}

const NEXT_BUT_ONE: &str = "3333333333333333";
const TIGHTER: &str = "4444444444444444";
