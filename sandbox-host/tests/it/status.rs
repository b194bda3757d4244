//! The admin server's `/status`: what happened in the last minutes, and what is wrong now.

use std::time::Duration;

use serde_json::json;
use tensorgate_watch::conditions::ConditionKind;
use tensorgate_watch::gate_status::GateStatus;
use tensorgate_watch::recent_outcomes::OutcomeCounts;

use crate::blocks::{FILE, HOUR_MS, file, record};
use crate::support::backend::{Act, Backend};
use crate::support::{PATIENCE, Running, admin, policy, start};

/// The status with the changes after a number, once it is as wanted.
async fn until_status(
    running: &Running,
    after: u64,
    is_wanted: impl Fn(&GateStatus) -> bool,
) -> GateStatus {
    let path = format!("/status?after={after}");
    let wanted = async {
        loop {
            let (code, text) = admin(running.host.admin(), &path).await;
            assert_eq!(code, 200, "{text}");
            let status: GateStatus = serde_json::from_str(&text).unwrap();
            if is_wanted(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wanted).await.unwrap()
}

/// The changes: whether each begins, its kind and its subject.
fn changes(status: &GateStatus) -> Vec<(bool, ConditionKind, &str)> {
    let changes = status.changes.iter();
    changes
        .map(|it| (it.begins, it.condition.kind, it.condition.subject.as_str()))
        .collect()
}

#[tokio::test]
async fn a_model_that_is_not_ready_and_is_again_is_one_change_each() {
    let mut backend = Backend::start(Act::Answer);
    let (uri, address) = (backend.uri(), backend.address);
    let running = start(policy(&uri, json!({}), json!({}))).await;
    running.ready().await;
    assert_eq!(running.gate.infer(&[1.0]).await.status, 200);
    assert_eq!(running.gate.infer(&[1_000.0]).await.status, 400);
    let counted = |status: &GateStatus| {
        let OutcomeCounts { allow, deny, .. } = status.counts;
        (allow, deny) == (1, 1) && status.last_policy_change.is_some()
    };
    let status = until_status(&running, 0, counted).await;
    assert!(status.changes.is_empty(), "{:?}", status.changes);
    assert_eq!(status.counts.reasons[0].reason, "out-of-range");
    let changed = status.last_policy_change.unwrap();
    assert_eq!(
        changed.generation,
        running.host.app().policy_versions.newest().name()
    );
    assert_eq!(changed.was, None);

    backend.die();
    // Its prober looks again at once.
    running.gate.infer(&[1.0]).await;
    let away = until_status(&running, 0, |status| status.changes.len() == 2).await;
    let (model, server) = (
        r#"model "vec" version "7""#,
        format!("backend \"b\" at {uri}"),
    );
    let expected = [
        (true, ConditionKind::BackendAway, server.as_str()),
        (true, ConditionKind::ModelUnready, model),
    ];
    assert_eq!(changes(&away), expected);
    assert_eq!(away.holding.len(), 2, "{:?}", away.holding);
    assert_eq!(away.run, status.run);

    let _backend = Backend::start_at(Act::Answer, address);
    let back = until_status(&running, 2, |status| status.changes.len() == 2).await;
    let expected = [
        (false, ConditionKind::BackendAway, server.as_str()),
        (false, ConditionKind::ModelUnready, model),
    ];
    assert_eq!(changes(&back), expected);
    assert!(back.holding.is_empty(), "{:?}", back.holding);
    running.stop().await;
}

#[tokio::test]
async fn a_blocked_client_is_shown_with_its_block() {
    let running = start(policy("http://127.0.0.1:9", json!({}), json!({}))).await;
    running.replace(FILE, &file(&record(HOUR_MS, None)));
    let has_block = |status: &GateStatus| {
        let mut holding = status.holding.iter().map(|it| &it.condition);
        holding.any(|it| {
            it.kind == ConditionKind::ClientBlocked
                && it.client.as_deref() == Some("scorer")
                && it.detail.contains("by user 1000: odd requests")
        })
    };
    until_status(&running, 0, has_block).await;
    running.stop().await;
}
