//! Tests of sealed lines: what changes one is found, and records fit in one.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use tensorgate_base::egress_log::EgressRecord;
use tensorgate_policy::denial::{MAX_SHADOW_DETAIL_BYTES, MAX_SHADOWED, Shadowed};

use super::*;
use crate::record::{
    ArtifactAction, ArtifactKind, ArtifactRecord, Decision, MAX_DETAIL_BYTES, MAX_NAME_BYTES,
    MAX_PATH_BYTES,
};
use crate::sequence::SequenceTracker;

fn key() -> SigningKey {
    SigningKey::from_seed([7; 32])
}

fn sealed(event: Event) -> (String, Hash) {
    let line = line(5, std::time::UNIX_EPOCH, event);
    seal(&line, Hash([9; 32]), &Seal::Chain(key())).unwrap()
}

fn decision() -> Event {
    Event::Decision(Box::new(Decision {
        reason: "ok".into(),
        path: Some("/a\",\"hash\":\"b".into()),
        ..Decision::default()
    }))
}

#[test]
fn a_line_opens_as_it_was_sealed() {
    for (event, signed) in [
        (decision(), false),
        (Event::Stop, true),
        (
            Event::Checkpoint {
                decisions: 3,
                dropped: 0,
                heard: Default::default(),
            },
            true,
        ),
    ] {
        let (text, hash) = sealed(event.clone());
        let opened = open(text.as_bytes()).unwrap();
        assert_eq!(
            (opened.seq, opened.prev, opened.hash),
            (5, Hash([9; 32]), hash)
        );
        assert_eq!(opened.signed_by(&key().public()), signed, "{text}");
        let line: Line = serde_json::from_str(&text).unwrap();
        assert_eq!(line.event, event);
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["type"],
            opened.kind
        );
    }
}

#[test]
fn a_line_behind_others_is_the_line_by_itself() {
    let line = line(5, std::time::UNIX_EPOCH, decision());
    for by in [Seal::Chain(key()), Seal::None] {
        let (alone, hash) = seal(&line, Hash([9; 32]), &by).unwrap();
        let mut behind = b"{}\n".to_vec();
        assert_eq!(
            append(&mut behind, &line, Hash([9; 32]), &by).unwrap(),
            hash
        );
        assert_eq!(behind, format!("{{}}\n{alone}").into_bytes());
    }
}

#[test]
fn no_byte_of_a_line_can_be_changed() {
    let (text, _) = sealed(decision());
    for at in 0..text.len() {
        for byte in [b'0', b'1', b'a', b'"', b'}', b' '] {
            let mut bytes = text.clone().into_bytes();
            if bytes[at] != byte {
                bytes[at] = byte;
                assert!(open(&bytes).is_err(), "{at}");
            }
        }
    }
    assert_eq!(open(b"{}").unwrap_err(), LineFault::Form);
    assert_eq!(
        open(&text.as_bytes()[..text.len() - 1]).unwrap_err(),
        LineFault::Form
    );
    let unsealed = line(1, std::time::UNIX_EPOCH, Event::Stop);
    let (text, _) = seal(&unsealed, Hash::default(), &Seal::None).unwrap();
    assert_eq!(open(text.as_bytes()).unwrap_err(), LineFault::Unsealed);
    let newer = text.replace("\"v\":1", "\"v\":2");
    assert_eq!(open(newer.as_bytes()).unwrap_err(), LineFault::Version);
}

fn artifact() -> ArtifactRecord {
    ArtifactRecord::new(ArtifactAction::Loaded, ArtifactKind::Handler, "resize")
        .with_digest(&[0xab; 32])
        .with_signer("release")
}

fn artifact_line(record: ArtifactRecord) -> String {
    let line = line(1, std::time::UNIX_EPOCH, Event::Artifact(record));
    seal(&line, Hash::default(), &Seal::None).unwrap().0
}

#[test]
fn a_record_of_an_artifact_has_stable_names_and_omits_what_is_absent() {
    let digest = "ab".repeat(32);
    let expected = format!(
        r#"{{"v":1,"seq":1,"time":"1970-01-01T00:00:00.000000Z","type":"artifact","action":"loaded","kind":"handler","name":"resize","digest":"{digest}","signer":"release"}}"#
    );
    assert_eq!(artifact_line(artifact()), expected);
    let line: Line = serde_json::from_str(&expected).unwrap();
    assert_eq!(line.event, Event::Artifact(artifact()));
}

#[test]
fn hostile_texts_of_an_artifact_are_cleaned_and_fit_in_a_line() {
    for name in [
        "\u{1b}[2J\n{\"type\":\"stop\"}\u{202e}",
        &"\u{1}".repeat(10_000),
    ] {
        let record = ArtifactRecord::new(ArtifactAction::Rejected, ArtifactKind::Model, name)
            .with_version(name)
            .with_signer(name)
            .with_detail(name)
            .with_digest(&[0; 32]);
        let texts = [&record.version, &record.signer, &record.detail];
        let texts = texts.into_iter().flatten().chain([&record.name]);
        for text in texts {
            assert!(
                !text.contains(['\u{1b}', '\n', '\u{202e}', '\u{1}']),
                "{text:?}"
            );
        }
        let text = artifact_line(record);
        assert!(
            text.len() < MAX_LINE_BYTES && !text.contains('\n'),
            "{text}"
        );
    }
}

/// A text of the most bytes that cleaning leaves of it: a quote takes two bytes in JSON, and what
/// stands for a hidden character three.
fn longest(most: usize) -> String {
    crate::record::path(&"\u{1}".repeat(most))
}

#[test]
fn the_longest_record_of_a_request_fits_in_a_line_and_names_what_was_cut() {
    let (name, quotes) = (longest(MAX_NAME_BYTES), "\"".repeat(MAX_DETAIL_BYTES));
    let shadowed = Shadowed {
        reason: name.clone(),
        detail: longest(MAX_SHADOW_DETAIL_BYTES),
    };
    let reached = EgressRecord {
        handler: name.clone(),
        host: "h".repeat(253),
        ..EgressRecord::default()
    };
    let text = || Some(name.clone());
    let decision = Decision {
        request_id: text(),
        client_request_id: text(),
        message_id: text(),
        traceparent: Some("f".repeat(55)),
        client: text(),
        credential: text(),
        method: text(),
        path: Some(longest(MAX_PATH_BYTES)),
        model: text(),
        version: text(),
        rule: text(),
        detail: Some(quotes),
        shadow: vec![shadowed; MAX_SHADOWED],
        reached: vec![reached; 65],
        envoy: text(),
        ..Decision::default()
    };
    for (seal_by, reached) in [(Seal::Chain(key()), 65), (Seal::None, 1)] {
        let mut decision = decision.clone();
        decision.reached.truncate(reached);
        let event = Event::Decision(Box::new(decision.clone()));
        let line = line(u64::MAX, std::time::UNIX_EPOCH, event);
        let (text, _) = seal(&line, Hash([9; 32]), &seal_by).unwrap();
        assert!(text.len() < MAX_WRITTEN_BYTES, "{} bytes", text.len());
        let Event::Decision(written) = serde_json::from_str::<Line>(&text).unwrap().event else {
            panic!("{text}");
        };
        assert_eq!(written.cut[..2], ["reached", "shadow"], "{text}");
        assert_eq!(written.client, decision.client);
        let opened = open(text.as_bytes());
        assert_eq!(opened.is_ok(), matches!(seal_by, Seal::Chain(_)));
    }
}

#[test]
fn a_list_of_a_long_record_keeps_what_fits() {
    let reached = EgressRecord {
        handler: "h".repeat(MAX_NAME_BYTES),
        ..EgressRecord::default()
    };
    let decision = Decision {
        reason: "ok".into(),
        detail: Some("cause".into()),
        reached: vec![reached; 65],
        ..Decision::default()
    };
    let (text, _) = sealed(Event::Decision(Box::new(decision.clone())));
    let Event::Decision(written) = serde_json::from_str::<Line>(&text).unwrap().event else {
        panic!("{text}");
    };
    assert_eq!(written.cut, ["reached"]);
    assert_eq!(written.detail, decision.detail);
    assert!(
        (30..65).contains(&written.reached.len()),
        "{}",
        written.reached.len()
    );
}

#[test]
fn the_most_vms_fit_in_a_line() {
    let mut heard = SequenceTracker::default();
    for vm in 0..1_000 {
        heard.set(&format!("{vm:016x}"), u64::MAX);
    }
    let checkpoint = Event::Checkpoint {
        decisions: u64::MAX,
        dropped: u64::MAX,
        heard: heard.marks(),
    };
    assert!(sealed(checkpoint).0.len() < MAX_WRITTEN_BYTES);
}
