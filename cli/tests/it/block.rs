//! `block` and `unblock`: the list that they write, and a gate that confirms it. The host is a
//! stand-in that answers with the list; Envoy and the filter are real.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::{Ran, Scratch, run, small_filters, tree};
use crate::reload::HOST;
use crate::up::{ANY, Stack};

/// Runs a verb on a list.
fn on_list(file: &Path, arguments: &[&str]) -> Ran {
    let list = ["--file", file.to_str().unwrap()];
    run(&[arguments, list.as_slice()].concat())
}

fn read(file: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn a_block_is_listed_until_it_is_lifted() {
    let scratch = Scratch::new();
    let file = scratch.path().join("blocks.json");
    let block = ["block", "web", "--for", "1h", "--reason", "odd requests"];
    let ran = on_list(&file, &block);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stdout.starts_with("web: blocked until "),
        "{}",
        ran.stdout
    );
    let first = read(&file)["blocks"][0].clone();
    assert_eq!(
        (&first["client"], &first["reason"]),
        (&json!("web"), &json!("odd requests"))
    );
    let lasts = first["until_ms"].as_u64().unwrap() - first["changed_ms"].as_u64().unwrap();
    assert_eq!(lasts, 3_600_000);

    let listed = on_list(&file, &["block", "--list", "--json"]);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(
        (&listed["client"], &listed["action"]),
        (&json!("web"), &json!("block"))
    );
    assert_eq!(on_list(&file, &["unblock", "other"]).code, 1);

    let ran = on_list(&file, &["unblock", "web", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lifted: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&lifted["state"], &lifted["until"]),
        (&json!("lifted"), &Value::Null)
    );
    let records = read(&file)["blocks"].clone();
    assert_eq!(records.as_array().unwrap().len(), 1);
    assert!(records[0]["changed_ms"].as_u64() > first["changed_ms"].as_u64());
    assert_eq!(records[0]["forget_ms"], first["forget_ms"]);
    let listed = on_list(&file, &["block", "--list"]);
    assert_eq!((listed.code, listed.stdout.as_str()), (0, ""));
    assert_eq!(on_list(&file, &["unblock", "web"]).code, 1, "it is lifted");
}

#[test]
fn invalid_input_changes_nothing() {
    let scratch = Scratch::new();
    let file = scratch.file("blocks.json", "{");
    for arguments in [
        ["block", "web", "--for", "1h"].as_slice(),
        &["block", "web", "--for", "0s"],
        &["block", "web", "--for", "31d"],
        &["block", "web"],
        &["block", "--for", "1h"],
        &["block", "--list", "web"],
        &["block", "web", "--for", "1h", "--reason", "a\nb"],
        &["unblock", "web"],
        &["unblock"],
    ] {
        let ran = on_list(&file, arguments);
        assert_eq!(ran.code, 2, "{arguments:?} {}{}", ran.stdout, ran.stderr);
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), "{");
}

#[test]
fn a_folder_without_a_gate_is_refused() {
    let scratch = Scratch::new();
    let state = scratch.path().to_str().unwrap();
    for arguments in [
        ["block", "web", "--for", "1h", "--state", state].as_slice(),
        &["block", "--list", "--state", state],
        &["unblock", "web", "--state", state],
    ] {
        let ran = run(arguments);
        assert_eq!(ran.code, 2, "{arguments:?} {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains("--state"), "{}", ran.stderr);
    }
}

#[test]
fn a_running_gate_confirms_a_block_of_a_client_that_its_policy_has() {
    // The stand-in answers with the list as the host would.
    let answer = r#"if self.path == "/blocks": said = json.dumps({"blocks": [{"block": it, "in_force": True} for it in json.load(open(beside("blocks.json")))["blocks"]]}).encode()"#;
    let respond = "        self.send_response(200)";
    let host = HOST.replace(respond, &format!("        {answer}\n{respond}"));
    let policy = tree().join("envoy/gate.yaml");
    let mut stack = Stack::start_with(&host, ANY, &policy, small_filters());
    stack.line();
    let state = stack.scratch.path().join("state");
    let state = ["--state", state.to_str().unwrap()];
    let on_gate = |arguments: &[&str]| run(&[arguments, state.as_slice()].concat());
    let ran = on_gate(&["block", "no-such-client", "--for", "1h"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("has no client"), "{}", ran.stderr);
    let ran = on_gate(&["block", "web-app", "--for", "1h", "--json"]);
    let changed: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (ran.code, &changed["confirmed"]),
        (0, &json!(true)),
        "{changed}"
    );
    let listed = on_gate(&["block", "--list"]);
    assert!(listed.stdout.starts_with("web-app: blocked until "));
    stack.signal("TERM");
    stack.wait();
    let ran = on_gate(&["block", "web-app", "--for", "1h"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("no gate runs"), "{}", ran.stderr);
}
