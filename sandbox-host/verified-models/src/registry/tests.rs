//! Tests of which files count as looked at, and of servers that a policy adds.

#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use tensorgate_policy_compiler::validate::validate;

use super::*;
use crate::endpoint_loads::Load;
use crate::status::{Accepted, Identity};

/// A policy with two models that have files.
fn policy() -> Policy {
    let tensor = json!({"name": "x", "datatype": "FP32", "shape": [1]});
    let model = |path: &str| {
        json!({
            "backend": "gpu", "versions": ["1"], "protocols": ["oip-rest"],
            "inputs": [tensor], "outputs": [tensor],
            "artifact": {"path": path, "manifest": "m.json", "sha256": "01".repeat(32)}
        })
    };
    let policy = json!({
        "version": 1,
        "clients": {"web": {"api_keys": [{"sha256": "01".repeat(32)}]}},
        "backends": {"gpu": {"kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"]}},
        "models": {"a": model("models/a"), "b": model("models/b")},
        "grants": [{"name": "g", "clients": ["web"], "models": ["a", "b"], "operations": ["infer"]}]
    });
    validate(&serde_json::from_value(policy).unwrap())
        .unwrap()
        .0
}

fn follow(artifacts: &ModelArtifacts, policy: &Policy, addresses: &[&str]) -> Followed {
    artifacts.follow(policy, |model| ModelServers {
        model: model.name().to_owned(),
        addresses: addresses.iter().map(|it| (*it).to_owned()).collect(),
        load_only_verified: false,
    })
}

fn passed() -> Status {
    Status::Verified(Identity {
        digest: [1; 32],
        signer: None,
        accepted: Accepted::default(),
    })
}

#[test]
fn files_that_no_thread_looks_at_make_only_their_own_model_unready() {
    let mut artifacts = ModelArtifacts::default();
    let policy = policy();
    let _followed = follow(&artifacts, &policy, &["a"]);
    let age = MAX_AGE.saturating_add(Duration::from_secs(1));
    artifacts.start = artifacts.start.checked_sub(age).unwrap();
    for entry in artifacts.entries() {
        assert!(entry.stale(artifacts.now_ms()).is_some());
        entry.observe(&passed(), 1);
        let looked_ms = if entry.model == "a" {
            artifacts.now_ms()
        } else {
            0
        };
        entry.mark_looked(looked_ms, false);
    }
    for (model, is_ready) in [("a", true), ("b", false)] {
        let mut models = policy.models().iter();
        let known = models.find(|known| known.name() == model).unwrap();
        assert_eq!(artifacts.unready(known, "1").is_none(), is_ready, "{model}");
    }
}

#[test]
fn a_server_that_was_away_while_a_load_was_awaited_needs_one() {
    let artifacts = ModelArtifacts::default();
    let policy = policy();
    let _followed = follow(&artifacts, &policy, &["a", "b"]);
    let entries = artifacts.entries();
    let entry = entries.first().unwrap();
    entry.observe(&passed(), 1);
    entry.observe(
        &Status::Checking {
            changed: Some("x".to_owned()),
        },
        2,
    );
    entry.observe(&passed(), 3);
    let _reloaded = follow(&artifacts, &policy, &["a"]);
    let load = |began_ms| {
        Some(Load {
            began_ms,
            seen_ms: began_ms,
        })
    };
    entry.apply_load(LoadEvent::LoadsSeen(&[load(4)]), 5);
    assert!(entry.is_served());
    let _reloaded = follow(&artifacts, &policy, &["a"]);
    assert!(entry.is_served());
    let _again = follow(&artifacts, &policy, &["a", "b"]);
    assert!(!entry.is_served());
    let loads = entry.servers().loads();
    assert!(matches!(loads.as_slice(), [Some(_), None]), "{loads:?}");
    entry.apply_load(LoadEvent::LoadsSeen(&loads), artifacts.now_ms());
    assert!(!entry.is_served());
    let loads = [loads.first().copied().flatten(), load(u64::MAX)];
    entry.apply_load(LoadEvent::LoadsSeen(&loads), artifacts.now_ms());
    assert!(entry.is_served());
}
