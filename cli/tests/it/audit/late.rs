//! Denials after the first line of a request, in `audit query` and `explain`; counts; IDs in part.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tensorgate_audit::record::{Amend, By, Decision, Event, Rejections, Verdict};

use super::{at, decision, run_on, start};
use crate::program::Scratch;

const MESSAGE: &str = "0b8e4a5c-0000-4000-8000-000000000001";
const OTHER: &str = "0b8e4a5c-0000-4000-8000-000000000002";
const STREAM: &str = "7f000000-0000-4000-8000-000000000003";
const CAUSE: &str = "grpc://triton:8001: backend fault: more answers than the policy allows";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A message of a stream that is denied after three answers, another one, and an answer of a
/// language model whose tokens are known at its end.
fn log(folder: &Path) -> PathBuf {
    let (audit, path) = start(folder, u64::MAX);
    let of = |id: &str, client: &str| Decision {
        request_id: Some(id.to_owned()),
        client: Some(client.to_owned()),
        grpc_status: Some(0),
        message_id: Some(format!("mine-{client}")),
        traceparent: Some(TRACE.to_owned()),
        ..decision(0)
    };
    let denied = Amend {
        request_id: MESSAGE.to_owned(),
        by: Some(By::Host),
        verdict: Some(Verdict::Deny),
        reason: Some("backend-fault".to_owned()),
        detail: Some(CAUSE.to_owned()),
        client: Some("scorer".to_owned()),
        status: 200,
        grpc_status: Some(13),
        answers: Some(3),
        ..Amend::default()
    };
    let complete = Amend {
        request_id: STREAM.to_owned(),
        verdict: Some(Verdict::Allow),
        reason: Some("ok".to_owned()),
        status: 200,
        prompt_tokens: Some(12),
        completion_tokens: Some(34),
        ..Amend::default()
    };
    let events = [
        Event::Decision(Box::new(of(MESSAGE, "scorer"))),
        Event::Decision(Box::new(of(OTHER, "other"))),
        Event::Decision(Box::new(of(STREAM, "chat"))),
        Event::Amend(denied),
        Event::Amend(complete),
    ];
    for (second, event) in (0..).zip(events) {
        audit.write(at(second), event);
    }
    audit.stop();
    path
}

#[test]
fn a_late_denial_is_one_outcome_with_its_cause() {
    let scratch = Scratch::new();
    let log = log(scratch.path());
    let query = |words: &[&str]| {
        let ran = run_on(&[&["audit", "query", "LOG"], words].concat(), &log);
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.stderr);
        ran.stdout
    };
    let row = "2026-11-20T08:00:03.000000Z deny backend-fault 200 scorer digits POST";
    let denied = query(&["--verdict", "deny"]);
    assert!(
        denied.starts_with(row) && denied.lines().count() == 1,
        "{denied}"
    );
    assert_eq!(query(&[]).matches(MESSAGE).count(), 1);
    assert_eq!(query(&["--verdict", "allow"]).lines().count(), 2);
    assert!(query(&["--verdict", "deny", "--client", "other"]).is_empty());
    // Events are listed as they are written.
    let amends = query(&["--events=amend"]);
    assert!(
        amends.lines().count() == 2 && amends.contains(CAUSE),
        "{amends}"
    );

    let wide = query(&["-o", "wide", "--verdict", "deny"]);
    let (header, row) = wide.split_once('\n').unwrap();
    let columns: Vec<&str> = header.split(' ').collect();
    let values: Vec<&str> = row.trim_end().splitn(columns.len(), ' ').collect();
    let of = |name: &str| values[columns.iter().position(|it| *it == name).unwrap()];
    for (name, expected) in [
        ("grpc-status", "13"),
        ("by", "host"),
        ("grant", "scoring"),
        ("source", "192.0.2.7"),
        ("trace-id", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("message-id", "mine-scorer"),
        ("prompt-tokens", "-"),
        ("detail", CAUSE),
    ] {
        assert_eq!(of(name), expected, "{name}: {wide}");
    }
    let lines = query(&["--json", "--verdict", "deny", "-o", "wide"]);
    let line: Value = serde_json::from_str(&lines).unwrap();
    assert_eq!(
        (&line["type"], &line["detail"]),
        (&json!("amend"), &json!(CAUSE))
    );

    let explained = run_on(&["explain", MESSAGE, "--audit", "LOG"], &log).stdout;
    for piece in [
        "It ended after 3 answers: the client got 200, grpc-status 13",
        "The sandbox host rejected it as backend-fault.",
        &format!("Cause: {CAUSE}."),
        "part of trace 4bf92f3577b34da6a3ce929d0e0e4736",
        "own id of the message is \"mine-scorer\"",
    ] {
        assert!(explained.contains(piece), "{piece}: {explained}");
    }
    let complete = run_on(&["explain", STREAM, "--audit", "LOG"], &log).stdout;
    assert!(
        complete.contains("The model read 12 tokens and generated 34."),
        "{complete}"
    );
}

#[test]
fn a_query_shows_what_is_only_counted() {
    let scratch = Scratch::new();
    let (audit, log) = start(scratch.path(), u64::MAX);
    let summary = Rejections {
        count: 52_173,
        reasons: [("locked-out".to_owned(), 32_277)].into(),
        ..Rejections::default()
    };
    audit.write(at(0), Event::Rejections(Box::new(summary)));
    audit.stop();
    for (words, number) in [
        (&["--count-by", "reason"][..], Some("52173")),
        (&["--verdict", "deny"], Some("52173")),
        (&["--reason", "locked-out"], Some("32277")),
        (&["--verdict", "allow"], None),
        (&["--client", "scorer"], None),
        (&["--events=rejections"], None),
    ] {
        let ran = run_on(&[&["audit", "query", "LOG"], words].concat(), &log);
        let expected = number.map(|number| format!("note: {number} more rejected requests"));
        match expected {
            Some(expected) => assert!(ran.stderr.contains(&expected), "{words:?}: {}", ran.stderr),
            None => assert_eq!(ran.stderr, "", "{words:?}"),
        }
    }
    let ran = run_on(&["explain", STREAM, "--audit", "LOG"], &log);
    let counted = "52173 rejected requests of unknown callers are only counted";
    assert!(
        ran.code == 1 && ran.stderr.contains(counted),
        "{}",
        ran.stderr
    );
}

#[test]
fn requests_are_counted_by_fields() {
    let scratch = Scratch::new();
    let log = log(scratch.path());
    let query = |words: &[&str]| run_on(&[&["audit", "query", "LOG"], words].concat(), &log);
    let table = query(&["--count-by", "reason,model"]).stdout;
    assert_eq!(
        table,
        "count  reason         model\n2      ok             digits\n1      backend-fault  digits\n"
    );
    let table = query(&["--count-by", "grpc-status"]).stdout;
    assert!(table.starts_with("count  grpc-status\n"), "{table}");
    let lines = query(&[
        "--count-by",
        "client,grpc-status",
        "--verdict",
        "deny",
        "--json",
    ]);
    let line: Value = serde_json::from_str(&lines.stdout).unwrap();
    assert_eq!(
        line,
        json!({"count": 1, "client": "scorer", "grpc_status": "13"})
    );
    for words in [
        &["--count-by", "path"][..],
        &["--count-by", "client", "--follow"],
        &["--count-by", "client", "--events"],
        &["--count-by", "client", "-o", "wide"],
        &["-o", "tall"],
    ] {
        assert_eq!(query(words).code, 2, "{words:?}");
    }
}

#[test]
fn the_start_of_an_id_is_enough_if_it_is_one_requests() {
    let scratch = Scratch::new();
    let log = log(scratch.path());
    let explain = |id: &str| run_on(&["explain", id, "--audit", "LOG"], &log);
    let one = explain("7f0000");
    assert!(
        one.code == 0 && one.stdout.contains("client \"chat\""),
        "{}",
        one.stderr
    );
    let several = explain("0b8e4a5c");
    assert_eq!(several.code, 2, "{}", several.stdout);
    assert!(
        several.stderr.contains(MESSAGE) && several.stderr.contains(OTHER),
        "{}",
        several.stderr
    );
    let both = run_on(&["audit", "query", "LOG", "--request-id", "0b8e4a5c"], &log);
    assert_eq!(both.stdout.lines().count(), 2);
    // The client's own id of a message.
    let own = explain("mine-other");
    assert!(own.stdout.contains("client \"other\""), "{}", own.stdout);
}
