//! A change that would make a ready model unready: `up` holds it, its removals take effect, and it
//! comes into force when it is accepted, when its models are ready, or when the policy says so. The
//! host and Envoy are stand-ins; the host's own tests show when it holds a policy.

use std::process::Command;

use serde_json::{Value, json};

use crate::program::{Ran, Scratch, binary, run, small_filters, tree};
use crate::reload::{generation, in_force, rename_over, willing_envoy};
use crate::up::{ANY, Stack};

/// A host that holds every policy that it may hold, until a file `ready` is beside the bundle.
const HOST: &str = r#"#!/usr/bin/env python3
import http.server, json, os, signal, sys
def argument(name): return sys.argv[sys.argv.index(name) + 1]
# After a header of 24 bytes: the version, a digest, the number of the target and its two options.
def bundle():
    fields = open(argument("--bundle"), "rb").read()[24:]
    generation, fields = fields[1:1 + fields[0]].decode(), fields[33 + fields[0]:]
    tightens, hold = fields[1], fields[2 + (1 + fields[2] if fields[1] else 0)]
    return {"generation": generation, "tightens": tightens, "hold": hold}
def beside(name): return os.path.join(os.path.dirname(argument("--bundle")), name)
state = {"serving": bundle()["generation"], "attempts": 0, "last": None, "waiting_policy": None}
def again(*_):
    new = bundle()
    name = new["generation"]
    if new["hold"] and name != state["serving"] and not os.path.exists(beside("ready")):
        why = ['model "scores" version "1": it has no input "mask"']
        state["last"] = {"outcome": "unready", "generation": name, "faults": why}
        state["waiting_policy"] = {"generation": name, "unready": why}
    else: state["serving"] = name
    state["attempts"] += 1
signal.signal(signal.SIGHUP, again)
class Admin(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if state["waiting_policy"] and os.path.exists(beside("ready")): state["waiting_policy"]["unready"] = []
        said = json.dumps({**state, **json.load(open(beside("sources.json")))}).encode()
        self.send_response(200); self.send_header("content-length", str(len(said))); self.end_headers()
        self.wfile.write(said)
    def log_message(self, *_): pass
address, port = argument("--admin").split(":")
http.server.HTTPServer((address, int(port)), Admin).serve_forever()
"#;

/// The models that the host's policy may make unready, if it is held back for others.
fn holds(stack: &Stack) -> Option<Vec<String>> {
    in_force(stack).target.host().unwrap().hold
}

/// The command that is shown, up to the version.
const ACCEPT: &str = "tensorgate reload --accept ";

#[test]
fn a_change_that_makes_a_ready_model_unready_waits_until_it_is_accepted_or_its_models_are_ready() {
    let mine = Scratch::new();
    let text = std::fs::read_to_string(tree().join("envoy/gate.yaml")).unwrap();
    let key = "7d2a01c45dbd39db4fbeaf28ef2a8cd52b26b3efb2d2f4d46c4aa3b6f1f1b0e7";
    let leaver = format!("  leaver: {{api_keys: [{{sha256: {key}}}]}}\n");
    let with_leaver = text.replace("clients:\n", &format!("clients:\n{leaver}"));
    let policy = mine.file("gate.yaml", &with_leaver);
    let limited = |quota: &str| text.replace("quota: 600", &format!("quota: {quota}"));
    let mut stack = Stack::start_under(Some(&willing_envoy()), HOST, ANY, &policy, small_filters());
    let first = generation(&stack.line());
    let state = stack.scratch.path().join("state");
    let reload = |arguments: &[&str]| {
        let state = state.to_str().unwrap();
        let command = ["reload", "--state", state];
        run(&[command.as_slice(), arguments].concat())
    };

    rename_over(&policy, &limited("60"));
    let tightened = stack.line();
    let was = format!(" instead of {first} ");
    assert!(
        tightened.starts_with("tightened: ") && tightened.contains(&was),
        "{tightened}{}",
        stack.terminal_text()
    );
    stack.until_printed("not reloaded", 1);
    let text = stack.terminal_text();
    assert!(text.contains(r#"it has no input "mask""#), "{text}");
    let shown = text.lines().find(|line| line.starts_with("held: "));
    let shown = shown.and_then(|line| line.split_once(ACCEPT)).unwrap().1;
    let waiting: String = shown.chars().take(16).collect();
    assert!(shown.contains("--state"), "{shown}");

    let plain_and_another: [&[&str]; 2] = [&[], &["--accept", "0000000000000000"]];
    for arguments in plain_and_another {
        let ran = reload(arguments);
        assert_eq!(ran.code, 1, "{arguments:?}{}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains(&waiting), "{}", ran.stdout);
        assert!(ran.stdout.contains("has no input"), "{}", ran.stdout);
    }
    // The gate is found by its policy alone.
    let ran = Ran::from_command(
        Command::new(binary())
            .args(["reload", "--accept", waiting.as_str(), "--json"])
            .arg(&policy)
            .env("XDG_STATE_HOME", stack.scratch.path().join("user")),
    );
    stack.check_succeeded(&ran);
    let outcome: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&outcome["reloaded"], &outcome["generation"]),
        (&json!(true), &json!(waiting))
    );
    let line = stack.line();
    let was = generation(&tightened);
    assert!(
        line.starts_with(&format!("reloaded: policy {waiting} instead of {was} ")),
        "{line}"
    );
    assert_eq!(holds(&stack), None, "accepted as it is");

    // The acceptance was for that version alone.
    rename_over(&policy, &limited("61"));
    let is_waiting = |line: &&str| line.starts_with("held: ");
    stack.until("it waits twice", || {
        stack.terminal_text().lines().filter(is_waiting).count() >= 2
    });
    std::fs::write(state.join("policy/ready"), "").unwrap();
    let line = stack.line();
    let was = format!(" instead of {waiting} ");
    assert!(
        line.starts_with("reloaded: ") && line.contains(&was),
        "{line}{}",
        stack.terminal_text()
    );

    std::fs::remove_file(state.join("policy/ready")).unwrap();
    rename_over(
        &policy,
        &format!("{}\nreload: {{hold: off}}\n", limited("62")),
    );
    let line = stack.line();
    assert!(
        line.starts_with("reloaded: "),
        "{line}{}",
        stack.terminal_text()
    );
    assert_eq!(holds(&stack), None);
    stack.signal("TERM");
    stack.wait();
    let ran = reload(&[]);
    assert_eq!(ran.code, 1, "{}", ran.stdout);
    assert!(ran.stderr.contains("no gate is up"), "{}", ran.stderr);
}
