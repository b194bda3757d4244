//! Tests of which versions are verified together, of what is repeated and of what is reported.

#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use tensorgate_policy::Policy;
use tensorgate_policy::validate::validate;

use super::*;
use crate::audit::recover::{Settings, recover};
use crate::models::artifacts::status::Cause;

/// A policy with a model whose files are at this path.
fn policy(path: &str) -> Policy {
    let tensor = json!({"name": "x", "datatype": "FP32", "shape": [1]});
    let policy = json!({
        "version": 1,
        "clients": {"web": {"api_keys": [{"sha256": "01".repeat(32)}]}},
        "backends": {"gpu": {
            "kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"]
        }},
        "models": {"m": {
            "backend": "gpu", "versions": ["1", "2"], "protocols": ["oip-rest"],
            "inputs": [tensor], "outputs": [tensor],
            "artifact": {"path": path, "manifest": "m.json", "sha256": "01".repeat(32)}
        }},
        "grants": [{"name": "g", "clients": ["web"], "models": ["m"], "operations": ["infer"]}]
    });
    validate(&serde_json::from_value(policy).unwrap())
        .unwrap()
        .0
}

#[test]
fn the_metric_of_a_version_stays_when_an_earlier_policy_with_other_files_is_dropped() {
    let (artifacts, metrics) = (ModelArtifacts::default(), Metrics::new());
    let earlier = artifacts.follow(&policy("models/a"));
    let later = artifacts.follow(&policy("models/b"));
    for entry in artifacts.entries() {
        let identity = Identity {
            digest: [1; 32],
            signer: None,
        };
        entry.replace_status(Status::Verified(identity));
    }
    drop(earlier);
    let removed = artifacts.sweep();
    assert_eq!(removed.len(), 2);
    let entries = artifacts.entries();
    show_all(&removed, &entries, &metrics);
    assert_eq!(entries.len(), 2);
    for entry in &entries {
        let gauge = metrics.model_verified.get_or_create(&labels(entry));
        assert_eq!(gauge.get(), 1, "{}", entry.version);
    }
    drop(later);
}

#[test]
fn versions_that_share_their_files_are_verified_together() {
    let artifacts = ModelArtifacts::default();
    let _followed = ["models/a", "models/b"].map(|path| artifacts.follow(&policy(path)));
    let groups = by_artifact(artifacts.entries());
    let paths: Vec<_> = groups
        .iter()
        .map(|versions| versions.iter().map(|entry| entry.artifact.path()))
        .map(Iterator::collect::<Vec<_>>)
        .collect();
    assert_eq!(paths, [["models/a"; 2], ["models/b"; 2]]);
}

#[test]
fn a_repeated_check_is_reported_only_if_it_finds_something_else() {
    let folder = std::env::temp_dir().join(format!("tg-repeated-check-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let settings = Settings {
        path: folder.join("log.jsonl"),
        key_file: None,
        chain: false,
        file_bytes: 1 << 20,
        files: 2,
    };
    let recovered = recover(&settings).unwrap();
    let metrics = Arc::new(Metrics::new());
    let audit = Audit::start(recovered, settings.file_bytes, Arc::clone(&metrics)).unwrap();
    let reporter = Reporter { audit, metrics };
    let artifacts = ModelArtifacts::default();
    let _followed = artifacts.follow(&policy("models/a"));
    let entries = artifacts.entries();
    let entry = entries.first().unwrap();
    let full = Cause::Other("the disk is full".to_owned());
    let tampered = Cause::Files("tampered".to_owned());
    let now = Instant::now();
    let later = now.checked_add(Duration::from_secs(60)).unwrap();
    for (cause, reported, is_repeated) in
        [(&full, 1, true), (&full, 1, true), (&tampered, 2, false)]
    {
        reporter.apply(entry, Observation::Failed(cause.clone()));
        let rejections = &reporter.metrics.model_rejections;
        assert_eq!(rejections.get_or_create(&labels(entry)).get(), reported);
        assert!(!entry.is_due(now));
        assert_eq!(entry.is_due(later), is_repeated);
    }
    let _ = std::fs::remove_dir_all(&folder);
}
