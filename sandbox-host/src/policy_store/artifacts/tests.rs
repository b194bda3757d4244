//! Tests of records about loaded and rejected artifacts, and of their number.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use tensorgate_audit::record::{MAX_DETAIL_BYTES, MAX_NAME_BYTES};

use super::*;

fn artifacts(policy: &str, handlers: &[(&str, u8, Option<&str>)]) -> Artifacts {
    let content = |byte: u8, signer: Option<&str>| Content {
        digest: [byte; 32],
        signer: signer.map(str::to_owned),
    };
    let handlers = handlers.iter().map(|(name, byte, signer)| {
        let key = (ArtifactKind::Handler, (*name).to_owned());
        (key, content(*byte, *signer))
    });
    let policy = (
        (ArtifactKind::Policy, policy.to_owned()),
        content(0xff, None),
    );
    Artifacts(handlers.chain([policy]).collect())
}

/// Action, kind, name, first digit of the digest, and signer.
fn words(records: &[ArtifactRecord]) -> Vec<String> {
    let word = |record: &ArtifactRecord| {
        let digest = record.digest.as_deref().unwrap_or("-");
        let signer = record.signer.as_deref().unwrap_or("-");
        let (action, kind) = (record.action.name(), record.kind.name());
        format!("{action} {kind} {} {} {signer}", record.name, &digest[..1])
    };
    records.iter().map(word).collect()
}

#[test]
fn each_artifact_with_other_content_has_a_record() {
    let first = artifacts("a", &[("h", 0x11, Some("k1")), ("same", 0x22, None)]);
    assert_eq!(
        words(&first.changes_since(&Artifacts::default())),
        [
            "loaded handler h 1 k1",
            "loaded handler same 2 -",
            "loaded policy a f -"
        ]
    );
    let next = artifacts(
        "b",
        &[
            ("h", 0x33, Some("k1")),
            ("more", 0x44, None),
            ("same", 0x22, None),
        ],
    );
    assert_eq!(
        words(&next.changes_since(&first)),
        [
            "unloaded handler h 1 k1",
            "unloaded policy a f -",
            "loaded handler h 3 k1",
            "loaded handler more 4 -",
            "loaded policy b f -"
        ]
    );
    assert!(next.changes_since(&next.clone()).is_empty());
    // Another key has signed the same component.
    let resigned = artifacts("a", &[("h", 0x11, Some("k2")), ("same", 0x22, None)]);
    assert_eq!(
        words(&resigned.changes_since(&first)),
        ["unloaded handler h 1 k1", "loaded handler h 1 k2"]
    );
}

fn other_digest(handler: &str) -> PolicyFault {
    PolicyFault::Load(LoadFault::Digest {
        handler: handler.to_owned(),
        expected: "aa".repeat(32),
        found: "bb".repeat(32),
    })
}

#[test]
fn a_rejected_bundle_has_its_faults_and_the_handlers_that_were_not_verified() {
    let faults = [
        other_digest("h"),
        other_digest("h"),
        PolicyFault::Loading("no thread".to_owned()),
    ];
    let texts = faults.iter().map(ToString::to_string).collect::<Vec<_>>();
    let records = rejections((Some("a"), Some(&[0xcc; 32])), &faults, &texts);
    assert_eq!(
        words(&records),
        ["rejected policy a c -", "rejected handler h b -"]
    );
    let detail = records[0].detail.as_deref().unwrap();
    assert!(detail.contains("sha256 is bb") && detail.ends_with("no thread"));
    let unreadable = rejections((None, None), &[], &["half a bundle".to_owned()]);
    assert_eq!(words(&unreadable), ["rejected policy unreadable - -"]);
}

#[test]
fn records_of_a_hostile_bundle_are_few_short_and_clean() {
    let name = format!("\u{1b}[2J\n{}", "n".repeat(10_000));
    let faults: Vec<_> = (0..1_000)
        .map(|number| other_digest(&format!("{number}{name}")))
        .collect();
    let texts = faults.iter().map(ToString::to_string).collect::<Vec<_>>();
    let records = rejections((Some(name.as_str()), None), &faults, &texts);
    assert_eq!(records.len(), MAX_PER_BUNDLE);
    for record in records {
        let detail = record.detail.unwrap();
        assert!(record.name.len() <= 3 * MAX_NAME_BYTES);
        assert!(detail.len() <= 3 * MAX_DETAIL_BYTES);
        assert!(!(record.name + &detail).contains(['\u{1b}', '\n']));
    }
}

#[test]
fn rejections_in_a_loop_have_a_bounded_number_of_records() {
    let limiter = RejectionLimiter::default();
    let start = Instant::now();
    let rejected = |name: &str| {
        ArtifactRecord::new(ArtifactAction::Rejected, ArtifactKind::Policy, name)
            .with_detail("cause")
    };
    let admitted = |name: &str, after_s: u64| {
        let now = start.checked_add(Duration::from_secs(after_s)).unwrap();
        limiter.admit(vec![rejected(name)], now)
    };
    assert_eq!(admitted("a", 0), [rejected("a")]);
    // The same again, until the window is over.
    assert!(admitted("a", 59).is_empty());
    assert_eq!(admitted("a", 60), [rejected("a")]);
    for number in 1..MAX_REJECTIONS {
        assert_eq!(admitted(&number.to_string(), 61).len(), 1, "{number}");
    }
    assert!(admitted("b", 61).is_empty());
    assert!(admitted("c", 61).is_empty());
    let later = admitted("d", 120);
    assert_eq!(
        later[0].detail.as_deref(),
        Some("(2 earlier rejections were not recorded) cause")
    );
    assert_eq!(admitted("e", 120), [rejected("e")]);
}
