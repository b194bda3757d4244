//! Tests of one check: the digest of a version, when files are read, and what a failure is about.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use tensorgate_artifact::model_signing::{Exclusions, Pieces, Rules, write_statement};
use tensorgate_policy::{Policy, hex};
use tensorgate_policy_compiler::validate::validate;

use super::*;

fn manifest(files: &[(&str, u8)]) -> Manifest {
    let files = files.iter();
    let resources = files.map(|(path, digest)| Resource::file((*path).to_owned(), [*digest; 32]));
    manifest_of(resources.collect())
}

fn manifest_of(resources: Vec<Resource>) -> Manifest {
    let rules = Rules {
        pieces: Pieces::Files,
        follow_links: false,
        exclusions: Exclusions::new([]).unwrap(),
    };
    Manifest::new("m".to_owned(), rules, resources).unwrap()
}

#[test]
fn a_new_version_in_a_folder_does_not_change_the_others() {
    let digest = |files: &[(&str, u8)]| version_digest(&manifest(files), "1");
    let first = digest(&[("1/a", 1), ("config", 2)]);
    assert_eq!(first, digest(&[("1/a", 1), ("2/a", 3), ("config", 2)]));
    assert_ne!(first, digest(&[("1/a", 3), ("config", 2)]));
    assert_ne!(first, digest(&[("1/a", 1), ("1/b", 1), ("config", 2)]));
    // Without a folder of the version, all files count.
    assert_ne!(digest(&[("a", 1)]), digest(&[("a", 2)]));
    assert_ne!(digest(&[("10/a", 1)]), digest(&[("10/a", 2)]));
}

/// A policy with a model in the folder `m`, whose manifest `m.json` has this digest.
fn policy(sha256: &str) -> Policy {
    let tensor = json!({"name": "x", "datatype": "FP32", "shape": [1]});
    let policy = json!({
        "version": 1,
        "clients": {"web": {"api_keys": [{"sha256": "01".repeat(32)}]}},
        "backends": {"gpu": {"kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"]}},
        "models": {"m": {
            "backend": "gpu", "versions": ["1"], "protocols": ["oip-rest"],
            "inputs": [tensor], "outputs": [tensor],
            "artifact": {"path": "m", "manifest": "m.json", "sha256": sha256}
        }},
        "grants": [{"name": "g", "clients": ["web"], "models": ["m"], "operations": ["infer"]}]
    });
    let policy = serde_json::from_value(policy).unwrap();
    validate(&policy).unwrap().0
}

#[test]
fn files_are_read_in_a_later_tick_than_they_were_looked_at() {
    let folder = std::env::temp_dir().join(format!("tg-check-tick-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("m")).unwrap();
    std::fs::write(folder.join("m/a"), "a").unwrap();
    let statement = write_statement(&manifest(&[("a", 1)])).unwrap();
    std::fs::write(folder.join("m.json"), &statement).unwrap();
    let first_digests = FirstDigests::new(folder.join("model-versions.json"));
    let checker = Checker::new(folder.clone(), Err("none".to_owned()), first_digests);
    let policy = policy(&hex(&Sha256::digest(&statement)));
    let (_, _, artifact) = policy.artifacts().next().unwrap();
    // Without a wait, one of so many short checks ends in the tick in which it started.
    for _ in 0..20 {
        let start = clock_gettime(ClockId::RealtimeCoarse);
        let (observation, checked) = checker.check(artifact);
        assert!(matches!(observation, Status::Rejected(_)));
        assert!(checked.manifest.is_some(), "{observation:?}");
        assert_ne!(clock_gettime(ClockId::RealtimeCoarse), start);
    }
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn only_a_verdict_on_the_files_stands_until_they_change() {
    let folder = std::env::temp_dir().join(format!("tg-check-cause-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("m")).unwrap();
    std::fs::write(folder.join("m/a"), "a").unwrap();
    let first_digests = FirstDigests::new(folder.join("model-versions.json"));
    let checker = Checker::new(folder.clone(), Err("none".to_owned()), first_digests);
    let failure = |statement: Option<&[u8]>| {
        if let Some(statement) = statement {
            std::fs::write(folder.join("m.json"), statement).unwrap();
        }
        let policy = policy(&hex(&Sha256::digest(statement.unwrap_or_default())));
        let (_, _, artifact) = policy.artifacts().next().unwrap();
        match checker.check(artifact).0 {
            Status::Rejected(cause) => cause,
            other => panic!("{other:?}"),
        }
    };
    let signed = |digest| {
        let resources = vec![Resource::file("a".to_owned(), digest)];
        write_statement(&manifest_of(resources)).unwrap()
    };
    let is_repeated = |cause: Cause, part: &str| {
        assert!(cause.text().contains(part), "{cause:?}");
        !matches!(cause, Cause::Files(_))
    };
    assert!(is_repeated(failure(None), "cannot read the manifest"));
    let other_content = failure(Some(&signed([1; 32])));
    assert!(!is_repeated(other_content, "\"a\" has other content"));
    let without_scanner = failure(Some(&signed(Sha256::digest("a").into())));
    assert!(is_repeated(without_scanner, "cannot be scanned: none"));
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn a_model_has_nothing_that_its_manifest_leaves_out_but_gits_own_files() {
    let folder = std::env::temp_dir().join(format!("tg-check-ignored-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("m/.git/hooks")).unwrap();
    std::fs::write(folder.join("m/.git/hooks/pre-commit"), "#!/bin/sh\n").unwrap();
    std::fs::write(folder.join("m/a"), "a").unwrap();
    let left_out = ["cache", ".gitweights", "model.sig"];
    let rules = Rules {
        pieces: Pieces::Files,
        follow_links: false,
        exclusions: Exclusions::new(left_out.map(str::to_owned)).unwrap(),
    };
    let resources = vec![Resource::file("a".to_owned(), Sha256::digest("a").into())];
    let statement = write_statement(&Manifest::new("m".to_owned(), rules, resources).unwrap());
    let statement = statement.unwrap();
    std::fs::write(folder.join("m.json"), &statement).unwrap();
    let first_digests = FirstDigests::new(folder.join("model-versions.json"));
    let checker = Checker::new(folder.clone(), Err("none".to_owned()), first_digests);
    let policy = policy(&hex(&Sha256::digest(&statement)));
    let (_, _, artifact) = policy.artifacts().next().unwrap();
    let check = |expected: &str| match checker.check(artifact).0 {
        Status::Rejected(cause) => assert!(cause.text().contains(expected), "{cause:?}"),
        other => panic!("{other:?}"),
    };
    // Everything is compared, and the next step is the scan.
    check("cannot be scanned: none");
    // A name that only begins as one of git's is none, and a signature is no folder.
    for (name, file) in [
        ("cache", "weights.bin"),
        (".gitweights", "model.py"),
        ("model.sig", "model.py"),
    ] {
        let left_out = folder.join("m").join(name);
        std::fs::create_dir(&left_out).unwrap();
        std::fs::write(left_out.join(file), "x").unwrap();
        check(&format!("\"{name}/"));
        std::fs::remove_dir_all(left_out).unwrap();
    }
    // A file that the statement does not leave out is no ignored one.
    std::fs::write(folder.join("m/.gitmodules"), "x").unwrap();
    check("\".gitmodules\" is not signed");
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn a_larger_model_has_more_time() {
    assert_eq!(time_limit(1_000), Duration::from_secs(120));
    assert_eq!(time_limit(20_000_000_000), Duration::from_secs(1_120));
}
