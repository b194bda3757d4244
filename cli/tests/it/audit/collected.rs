//! `audit verify -` and `audit query -`: lines that `kubectl logs` has printed.

use serde_json::Value;

use super::log;
use crate::program::{Scratch, run, run_with};

/// What a pod's container has printed: the lines of the log between lines of the host.
fn printed(prefix: &str) -> String {
    let scratch = Scratch::new();
    let text = std::fs::read_to_string(log(scratch.path())).unwrap();
    let host =
        r#"{"timestamp":"2026-11-20T08:00:00Z","level":"INFO","seq":1,"message":"{\"v\":1}"}"#;
    let lines = text.lines();
    lines
        .map(|line| format!("{prefix}{host}\n{prefix}{line}\n"))
        .collect()
}

#[test]
fn collected_lines_are_verified_between_those_of_the_host() {
    let verify = |input: &str| run_with(&["audit", "verify", "-"], input);
    let text = printed("");
    let ok = verify(&text);
    assert_eq!(ok.code, 0, "{}{}", ok.stdout, ok.stderr);
    assert!(
        ok.stdout.contains("ok: 14 lines, 10 requests"),
        "{}",
        ok.stdout
    );

    let bad = verify(&text.replace("\"status\":429", "\"status\":200"));
    assert_eq!(bad.code, 1, "{}", bad.stdout);
    assert!(
        bad.stdout.contains("-:22: seq 11: edited:"),
        "{}",
        bad.stdout
    );

    // Two pods, one after the other, each with a chain of its own.
    let pods = ["[pod/gate-1/host] ", "[pod/gate-2/host] "]
        .map(printed)
        .concat();
    let both = run_with(&["audit", "verify", "-", "--json"], &pods);
    assert_eq!(both.code, 0, "{}", both.stdout);
    let reports: Vec<Value> = (both.stdout.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(reports.len(), 2);
    assert_eq!(reports[1]["source"], "pod/gate-2/host");
    assert_eq!(reports[1]["decisions"], 10);

    let none = verify("no line of a log\n");
    assert_eq!(none.code, 2, "{}", none.stdout);
    assert!(
        none.stderr.contains("standard input has no line"),
        "{}",
        none.stderr
    );
}

#[test]
fn collected_lines_are_searched_like_a_log() {
    let scratch = Scratch::new();
    let file = log(scratch.path());
    let conditions = ["--client", "odd", "--json"];
    let words = ["audit", "query", file.to_str().unwrap()];
    let of_file = run(&[&words, &conditions[..]].concat());
    assert_eq!(of_file.stdout.lines().count(), 5, "{}", of_file.stdout);
    let text = printed("[pod/gate-1/host] ");
    let collected = run_with(&[&["audit", "query", "-"], &conditions[..]].concat(), &text);
    assert_eq!(collected.code, 0, "{}", collected.stderr);
    let requests = |text: &str| -> Vec<Value> {
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines
            .map(|line: Value| line["request_id"].clone())
            .collect()
    };
    assert_eq!(requests(&collected.stdout), requests(&of_file.stdout));
}
