//! Tests of which versions are verified together, of what is repeated and of what is reported.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use serde_json::json;
use tensorgate_audit::recover::{Settings, recover};
use tensorgate_policy::{FileException, Policy};
use tensorgate_policy_compiler::validate::validate;

use super::*;
use crate::first_digests::FirstDigests;
use crate::load_state::LoadEvent;
use crate::reporter::labels;
use crate::servers::ModelServers;
use crate::status::{Accepted, Identity};

/// A policy with a model whose files are at this path.
fn policy(path: &str) -> Policy {
    policy_with(path, &"01".repeat(32))
}

/// The same, with this digest of the manifest.
fn policy_with(path: &str, sha256: &str) -> Policy {
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
            "artifact": {"path": path, "manifest": "m.json", "sha256": sha256}
        }},
        "grants": [{"name": "g", "clients": ["web"], "models": ["m"], "operations": ["infer"]}]
    });
    validate(&serde_json::from_value(policy).unwrap())
        .unwrap()
        .0
}

/// Follows a policy whose models have one server.
fn follow(artifacts: &ModelArtifacts, policy: &Policy) -> crate::registry::Followed {
    let followed = artifacts.follow(policy, |model| ModelServers {
        model: model.name().to_owned(),
        addresses: vec!["http://127.0.0.1:8001".to_owned()],
        load_only_verified: false,
    });
    for entry in artifacts.entries() {
        entry.mark_looked(artifacts.now_ms(), false);
    }
    followed
}

fn identity() -> Identity {
    Identity {
        digest: [1; 32],
        signer: None,
        accepted: Accepted::default(),
    }
}

#[test]
fn the_metric_of_a_version_stays_when_an_earlier_policy_with_other_files_is_dropped() {
    let (artifacts, metrics) = (ModelArtifacts::default(), Metrics::new());
    let earlier = follow(&artifacts, &policy("models/a"));
    let later = follow(&artifacts, &policy("models/b"));
    for entry in artifacts.entries() {
        entry.observe(&Status::Verified(identity()), 1);
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
    let (folder, work) = work("shared-files");
    let _followed = ["models/a", "models/b"].map(|path| follow(&work.artifacts, &policy(path)));
    let mut taken = Vec::new();
    while let Some(check) = work.take_turn() {
        let paths = check.versions.iter();
        let paths = paths.map(|entry| entry.artifact.path().to_owned());
        taken.push(paths.collect::<Vec<_>>());
        // The same model has one check at a time.
        assert!(work.take_turn().is_none());
        for entry in &check.versions {
            work.apply(entry, &Status::Verified(identity()));
        }
    }
    taken.sort_unstable();
    assert_eq!(taken, [["models/a"; 2], ["models/b"; 2]]);
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn a_check_that_panics_is_repeated_and_holds_up_no_other() {
    let (folder, work) = work("check-panics");
    let _followed = follow(&work.artifacts, &policy("models/a"));
    assert!(work.check_next(|_| panic!("a fault")));
    let entries = work.artifacts.entries();
    let later = Instant::now().checked_add(Duration::from_secs(60)).unwrap();
    for entry in &entries {
        let failed = Cause::Other(PANICKED.to_owned());
        assert_eq!(entry.status(), Status::Rejected(failed));
        assert!(entry.is_due(later));
        work.apply(
            entry,
            &Status::Checking {
                changed: Some("a".to_owned()),
            },
        );
    }
    let mut checked = 0;
    assert!(work.check_next(|versions| checked = versions.len()));
    assert_eq!(checked, entries.len());
    let _ = std::fs::remove_dir_all(&folder);
}

/// The work of threads in a folder of its own, which is deleted by the caller.
fn work(name: &str) -> (std::path::PathBuf, Work) {
    let name = format!("tg-{name}-{}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    drop(std::fs::remove_dir_all(&folder));
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
    let first_digests = FirstDigests::new(folder.join("model-versions.json"));
    let work = Work {
        artifacts: Arc::default(),
        checker: Checker::new(folder.clone(), Err("none".to_owned()), first_digests),
        reporter: Reporter { audit, metrics },
        turns: Mutex::new(CheckTurns::new(LEAST_CHECKERS)),
        looks: Mutex::default(),
    };
    (folder, work)
}

fn rejections(work: &Work, entry: &Entry) -> u64 {
    let rejections = &work.reporter.metrics.model_rejections;
    rejections.get_or_create(&labels(entry)).get()
}

#[test]
fn a_repeated_check_is_reported_only_if_it_finds_something_else() {
    let (folder, work) = work("repeated-check");
    let _followed = follow(&work.artifacts, &policy("models/a"));
    let entries = work.artifacts.entries();
    let entry = entries.first().unwrap();
    let full = Cause::Other("the disk is full".to_owned());
    let tampered = Cause::Files("tampered".to_owned());
    let now = Instant::now();
    let later = now.checked_add(Duration::from_secs(60)).unwrap();
    for (cause, reported, is_repeated) in
        [(&full, 1, true), (&full, 1, true), (&tampered, 2, false)]
    {
        work.apply(entry, &Status::Rejected(cause.clone()));
        assert_eq!(rejections(&work, entry), reported);
        assert!(!entry.is_due(now));
        assert_eq!(entry.is_due(later), is_repeated);
    }
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn files_that_are_put_back_are_alerted_and_await_a_load_across_a_restart() {
    let (folder, work) = work("put-back");
    let policy = policy("models/a");
    let followed = follow(&work.artifacts, &policy);
    let entries = work.artifacts.entries();
    let entry = entries.first().unwrap();
    let passed = Status::Verified(identity());
    work.apply(entry, &passed);
    assert!(entry.is_served());
    work.apply(
        entry,
        &Status::Checking {
            changed: Some("a".to_owned()),
        },
    );
    work.apply(entry, &passed);
    assert!(!entry.is_served());
    assert_eq!(rejections(&work, entry), 1);
    // Another policy, or a host that is restarted, knows only what is kept.
    let restarted = ModelArtifacts::default();
    let _followed = follow(&restarted, &policy);
    let same = restarted.entries();
    let same = same
        .iter()
        .find(|same| same.version == entry.version)
        .unwrap();
    let (reporter, checker) = (&work.reporter, &work.checker);
    reporter.apply(&restarted, checker, same, &passed);
    assert!(!same.is_served());
    let wait = same.wait().unwrap();
    let confirmed = |digest: u8, wait: u64| {
        let confirmation = Confirmation {
            model: "m".to_owned(),
            version: same.version.clone(),
            digest: tensorgate_policy::hex(&[digest; 32]),
            wait,
            by: "me".to_owned(),
            unix_ms: 1,
        };
        reporter.confirm(&restarted, checker, same, &confirmation, true);
        same.is_served()
    };
    assert!(!confirmed(2, wait));
    assert!(!confirmed(1, wait.saturating_add(1)));
    assert!(confirmed(1, wait));
    // What was confirmed counts once.
    reporter.apply(
        &restarted,
        checker,
        same,
        &Status::Checking {
            changed: Some("a".to_owned()),
        },
    );
    reporter.apply(&restarted, checker, same, &passed);
    assert!(!confirmed(1, wait));
    // The other versions have nothing to await.
    let others = entries
        .iter()
        .filter(|other| other.version != entry.version);
    for other in others {
        work.apply(other, &passed);
        assert!(other.is_served());
    }
    let loads = LoadEvent::LoadsSeen(&[None]);
    assert!(!entry.apply_load(loads, work.artifacts.now_ms()).0.is_served);
    drop(followed);
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn health_checks_tell_of_a_load() {
    use crate::endpoint_loads::Sighting::{Absent, Present};
    let (folder, work) = work("load-seen");
    let _followed = follow(&work.artifacts, &policy("models/a"));
    let entries = work.artifacts.entries();
    let entry = entries.first().unwrap();
    let address = "http://127.0.0.1:8001";
    let passed = Status::Verified(identity());
    work.apply(entry, &passed);
    assert!(!work.artifacts.awaits_load_at(address));
    work.apply(
        entry,
        &Status::Checking {
            changed: Some("a".to_owned()),
        },
    );
    work.apply(entry, &passed);
    assert!(work.artifacts.awaits_load_at(address));
    assert!(!work.artifacts.awaits_load_at("http://127.0.0.1:8002"));
    let late_ms = work.artifacts.now_ms().saturating_add(1_000);
    for (sighting, is_served) in [(Present, false), (Absent, false), (Present, true)] {
        let see = |model: &str, version: &str| {
            assert_eq!(model, "m");
            assert!(["1", "2"].contains(&version));
            sighting
        };
        work.artifacts.record_sightings(address, late_ms, see);
        let loads = entry.servers().loads();
        let (artifacts, checker) = (&work.artifacts, &work.checker);
        work.reporter.see_loads(artifacts, checker, entry, &loads);
        assert_eq!(entry.is_served(), is_served);
    }
    let _ = std::fs::remove_dir_all(&folder);
}

/// A folder `models/a` with a file, and the manifest `m.json`, which is none.
fn write_model(folder: &std::path::Path) -> std::path::PathBuf {
    let model = folder.join("models/a");
    std::fs::create_dir_all(&model).unwrap();
    std::fs::write(model.join("weights"), "x").unwrap();
    std::fs::write(folder.join("m.json"), "{}").unwrap();
    model
}

/// Swaps a file and puts it back, in a later tick of the clock.
fn swap(model: &std::path::Path) {
    tensorgate_models::files::file_state::wait_for_next_tick();
    let (weights, aside) = (model.join("weights"), model.join("aside"));
    std::fs::rename(&weights, &aside).unwrap();
    std::fs::write(&weights, "y").unwrap();
    std::fs::rename(&aside, &weights).unwrap();
}

#[test]
fn a_look_that_fails_is_no_change() {
    let (folder, work) = work("look-fails");
    let model = write_model(&folder);
    let _followed = follow(&work.artifacts, &policy("models/a"));
    let entries = work.artifacts.entries();
    work.look_at(&entries);
    let entry = entries.first().unwrap();
    let passed = Status::Verified(identity());
    work.apply(entry, &passed);
    work.look_at(&entries);
    assert!(entry.is_served());
    for is_swapped in [false, true] {
        // A folder that is away keeps its states.
        let away = folder.join("away");
        std::fs::rename(folder.join("models"), &away).unwrap();
        work.look_at(&entries);
        assert_eq!(entry.status(), Status::Checking { changed: None });
        assert!(entry.has_trusted_loads());
        // A check meanwhile fails, and keeps the states from before.
        work.check(&entries);
        assert!(matches!(entry.status(), Status::Rejected(Cause::Other(_))));
        assert!(entry.has_trusted_loads());
        std::fs::rename(&away, folder.join("models")).unwrap();
        if is_swapped {
            swap(&model);
        }
        work.look_at(&entries);
        // It is due at once.
        assert!(entry.is_due(Instant::now()));
        assert_eq!(entry.has_trusted_loads(), !is_swapped);
        work.apply(entry, &passed);
        assert_eq!(entry.is_served(), !is_swapped);
    }
    assert_eq!(rejections(&work, entry), 3, "two failed checks, one alert");
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn an_exception_that_ends_makes_its_model_unready_and_needs_no_load() {
    let (folder, work) = work("exception-ends");
    write_model(&folder);
    let _followed = follow(&work.artifacts, &policy("models/a"));
    let entries = work.artifacts.entries();
    work.look_at(&entries);
    let entry = entries.first().unwrap();
    for (until, is_served) in [("2999-12-31", true), ("2020-01-31", false)] {
        let mut identity = identity();
        let exception = FileException::new("a", "known", until).unwrap();
        identity.accepted.add_excepted(&exception);
        work.apply(entry, &Status::Verified(identity));
        assert!(entry.is_served());
        work.look_at(&entries);
        assert_eq!(entry.is_served(), is_served, "{until}");
        assert!(entry.has_trusted_loads());
    }
    // The check finds the same. Only the policy or another file changes that.
    assert!(entry.is_due(Instant::now()));
    let ended = Cause::Ended("its exception ended".to_owned());
    work.apply(entry, &Status::Rejected(ended));
    let later = Instant::now().checked_add(Duration::from_secs(60)).unwrap();
    assert!(!entry.is_due(later));
    assert!(entry.has_trusted_loads());
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn a_change_before_the_first_check_is_found() {
    let (folder, work) = work("first-look");
    let model = write_model(&folder);
    let _followed = follow(&work.artifacts, &policy("models/a"));
    let entries = work.artifacts.entries();
    let entry = entries.first().unwrap();
    work.look_at(&entries);
    // No signature or manifest is trusted yet: no change.
    work.check(&entries);
    assert!(matches!(
        entry.status(),
        Status::Rejected(Cause::Untrusted(_))
    ));
    work.check(&entries);
    assert!(entry.has_trusted_loads());
    // Other keys, and the same files: a look under the policy before is known.
    for digest in ["02", "03"] {
        let later = policy_with("models/a", &digest.repeat(32));
        let followed = follow(&work.artifacts, &later);
        let (_, version, artifact) = later.artifacts().next().unwrap();
        let entries = work.artifacts.entries();
        let is_later = |it: &&Arc<Entry>| it.version == version && it.artifact == *artifact;
        let entry = entries.iter().find(is_later).unwrap();
        assert!(entry.has_trusted_loads());
        assert!(entry.baseline().is_known());
        if digest == "03" {
            swap(&model);
            work.check(std::slice::from_ref(entry));
            assert!(!entry.has_trusted_loads());
        }
        drop(followed);
    }
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn a_file_that_claims_more_bytes_than_any_disk_has_is_not_read() {
    let (folder, work) = work("sparse");
    let model = write_model(&folder);
    let sparse = std::fs::File::create(model.join("weights")).unwrap();
    sparse.set_len(3 << 40).unwrap();
    let _followed = follow(&work.artifacts, &policy("models/a"));
    let entries = work.artifacts.entries();
    work.check(&entries);
    let status = entries.first().unwrap().status();
    let Status::Rejected(Cause::Files(cause)) = &status else {
        panic!("{status:?}");
    };
    assert!(cause.contains("more than 2199023255552"), "{cause}");
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn an_owner_is_looked_at_by_one_thread_at_a_time() {
    let (folder, work) = work("looks");
    let work = Arc::new(work);
    let _followed = follow(&work.artifacts, &policy("models/a"));
    let (send, looks) = channel();
    work.plan_looks(&send);
    let look = looks.try_recv().unwrap();
    assert_eq!(look.versions.len(), 2);
    work.plan_looks(&send);
    assert!(looks.try_recv().is_err());
    drop(look);
    work.plan_looks(&send);
    assert!(looks.try_recv().is_ok());
    let _ = std::fs::remove_dir_all(&folder);
}
