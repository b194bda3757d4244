//! Tests of collected lines: what lies between them changes nothing, and what was done to them is
//! found.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::time::UNIX_EPOCH;

use super::*;
use crate::key::SigningKey;
use crate::line::{Seal, line, seal};
use crate::record::{Decision, Open};

/// The host's own line about a client's text that looks like a record.
const HOST_LINE: &str = r#"{"timestamp":"2026-11-26T22:00:00Z","level":"INFO","message":"{\"v\":1,\"seq\":9,\"type\":\"stop\"}\n{\"v\":1}","seq":4}"#;

/// The lines of a log: an opening line, some requests and the line of a stop.
fn log(id: &str, requests: usize) -> Vec<String> {
    let key = SigningKey::from_seed([id.as_bytes()[0]; 32]);
    let open = Event::Open(Open {
        log: id.repeat(32),
        why: "start".into(),
        key: Some(key.public().to_hex()),
        oldest_seq: 1,
        ..Open::default()
    });
    let request = Event::Decision(Box::new(Decision {
        reason: "ok".into(),
        status: 200,
        ..Decision::default()
    }));
    let by = Seal::Chain(key);
    let events = std::iter::once(open).chain(std::iter::repeat_n(request, requests));
    let mut last = Hash::default();
    let mut lines = Vec::new();
    for (seq, event) in (1..).zip(events.chain([Event::Stop])) {
        let (text, hash) = seal(&line(seq, UNIX_EPOCH, event), last, &by).unwrap();
        last = hash;
        lines.push(text);
    }
    lines
}

fn verified(lines: &[String]) -> Vec<CollectedLog> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    verify_collected(&mut text.as_bytes(), None).unwrap()
}

/// The kinds of faults of the only log.
fn faults(lines: &[String]) -> Vec<(Kind, Option<u64>)> {
    let logs = verified(lines);
    assert_eq!(logs.len(), 1, "{logs:?}");
    let faults = logs[0].report.faults.iter();
    faults.map(|fault| (fault.kind, fault.seq)).collect()
}

#[test]
fn lines_between_those_of_a_log_change_nothing() {
    let mut lines = log("a", 3);
    for at in [5, 3, 1, 0] {
        lines.insert(at, HOST_LINE.to_owned());
        lines.insert(
            at,
            "[2026-11-26 22:00:00.000][7][warning][wasm] {\"v\":1}".to_owned(),
        );
    }
    let logs = verified(&lines);
    let report = &logs[0].report;
    assert_eq!((logs.len(), report.lines, report.decisions), (1, 5, 3));
    assert_eq!(report.signed_seq, Some(5));
    assert!(
        report.faults.is_empty() && report.notes.is_empty(),
        "{report:?}"
    );
}

#[test]
fn what_was_done_to_the_lines_is_found() {
    let check = |tamper: &dyn Fn(&mut Vec<String>), expected: &[(Kind, Option<u64>)]| {
        let mut lines = log("a", 4);
        tamper(&mut lines);
        assert_eq!(faults(&lines), expected, "{lines:#?}");
    };
    check(&|_| {}, &[]);
    check(&|lines| drop(lines.remove(2)), &[(Kind::Removed, Some(3))]);
    check(
        &|lines| lines[2] = lines[2].replace("\"status\":200", "\"status\":403"),
        &[(Kind::Edited, Some(3))],
    );
    check(&|lines| lines.swap(2, 3), &[(Kind::Swapped, Some(3))]);
    // A line of an attacker, who has neither the key nor the hash of the line before.
    let forged = r#"{"v":1,"seq":4,"type":"decision","verdict":"allow"}"#;
    check(
        &|lines| lines.insert(3, forged.to_owned()),
        &[(Kind::Edited, Some(4))],
    );
    // A line that excuses a gap has no hash, so it excuses nothing.
    let id = "a".repeat(32);
    let lost = format!(r#"{{"v":1,"type":"export-lost","log":"{id}","first":3,"count":1}}"#);
    check(
        &|lines| lines[2] = lost.clone(),
        &[(Kind::Removed, Some(3))],
    );
}

#[test]
fn lines_may_begin_anywhere_and_arrive_twice() {
    let mut lines = log("a", 4);
    lines.drain(..2);
    assert!(faults(&lines).is_empty());
    let notes = &verified(&lines)[0].report.notes;
    assert!(notes[0].contains("begins with line 3"), "{notes:?}");
    // After a restart an exporter sends its last batch again.
    let mut lines = log("a", 4);
    for at in [2, 3] {
        lines.insert(4, lines[at].clone());
    }
    assert!(faults(&lines).is_empty());
    let notes = &verified(&lines)[0].report.notes;
    assert!(notes[0].contains("2 lines arrived twice"), "{notes:?}");
}

#[test]
fn each_pod_has_a_chain_of_its_own() {
    let (first, second) = (log("a", 2), log("b", 3));
    let mixed = |prefixes: [&str; 2]| {
        let mut lines = Vec::new();
        for at in 0..5 {
            for (prefix, log) in prefixes.iter().zip([&first, &second]) {
                lines.extend(log.get(at).map(|line| format!("{prefix}{line}")));
            }
        }
        verified(&lines)
    };
    let prefixes = [
        "[pod/gate-1/host] ",
        "[pod/gate-2/host] 2026-11-26T22:00:00.5Z ",
    ];
    for prefixes in [["", ""], prefixes] {
        let logs = mixed(prefixes);
        let decisions: Vec<_> = logs.iter().map(|log| log.report.decisions).collect();
        assert_eq!(decisions, [2, 3], "{logs:?}");
        assert!(
            logs.iter().all(|log| log.report.faults.is_empty()),
            "{logs:?}"
        );
    }
    let sources: Vec<_> = mixed(prefixes).into_iter().map(|log| log.source).collect();
    assert_eq!(sources, ["pod/gate-1/host", "pod/gate-2/host"]);
}

#[test]
fn a_key_from_elsewhere_decides_who_wrote_the_lines() {
    let lines = log("a", 1).join("\n");
    for (seed, forged) in [(b'a', false), (b'b', true)] {
        let key = SigningKey::from_seed([seed; 32]).public();
        let logs = verify_collected(&mut lines.as_bytes(), Some(&key)).unwrap();
        let faults = &logs[0].report.faults;
        assert!(logs[0].report.key_given);
        assert_eq!(
            faults.iter().any(|it| it.kind == Kind::Forged),
            forged,
            "{faults:?}"
        );
    }
}

/// The kinds of faults of each log.
fn kinds(logs: &[CollectedLog]) -> Vec<Vec<Kind>> {
    let faults = logs.iter().map(|log| &log.report.faults);
    faults
        .map(|faults| faults.iter().map(|fault| fault.kind).collect())
        .collect()
}

#[test]
fn a_piece_with_a_source_of_its_own_hides_no_gap() {
    let pods = ["[pod/gate-1/host] ", "[pod/gate-2/host] "];
    // The fourth line is removed, and the lines after it have the name of another pod.
    let pieces = |log: Vec<String>, next: Vec<String>| -> Vec<String> {
        let first = log.into_iter().take(3);
        let first = first.map(|line| format!("{}{line}", pods[0]));
        let next = next.into_iter().skip(4);
        first
            .chain(next.map(|line| format!("{}{line}", pods[1])))
            .collect()
    };
    let split = pieces(log("a", 5), log("a", 5));
    assert_eq!(kinds(&verified(&split)), [vec![], vec![Kind::Foreign]]);
    let key = SigningKey::from_seed([b'a'; 32]).public();
    let text = split.join("\n");
    let logs = verify_collected(&mut text.as_bytes(), Some(&key)).unwrap();
    assert_eq!(kinds(&logs), [vec![], vec![Kind::Foreign]]);
    // Both have an opening line of the log.
    let open = log("a", 0).remove(0);
    let text = format!("{}{open}\n{}{open}", pods[0], pods[1]);
    let logs = verify_collected(&mut text.as_bytes(), None).unwrap();
    assert_eq!(kinds(&logs), [[Kind::Foreign], [Kind::Foreign]]);
    // Another pod may begin anywhere.
    let others = pieces(log("a", 5), log("b", 5));
    assert!(kinds(&verified(&others)).iter().all(Vec::is_empty));
}

#[test]
fn an_input_without_a_complete_or_signed_line_proves_nothing() {
    let lost = r#"{"v":1,"type":"export-lost","log":"a","first":1,"count":9}"#;
    for text in ["{\"v\":1,\"seq\":1,\"ti", lost] {
        let logs = verify_collected(&mut text.as_bytes(), None).unwrap();
        assert_eq!(kinds(&logs), [[Kind::Truncated]], "{text}");
    }
    // Complete lines that need no key: their chain is right, and none is signed.
    let text = log("a", 5)[1..6].join("\n");
    let key = SigningKey::from_seed([b'a'; 32]).public();
    let logs = verify_collected(&mut text.as_bytes(), Some(&key)).unwrap();
    assert_eq!(kinds(&logs), [[Kind::Forged]]);
    let text = format!("{lost}\n").repeat(MAX_NOTES + 9);
    let logs = verify_collected(&mut text.as_bytes(), None).unwrap();
    assert_eq!(logs[0].report.notes.len(), MAX_NOTES + 1);
}
