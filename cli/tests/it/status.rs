//! `status`: a gate that runs, one that holds a change, and none. The host is a stand-in; Envoy and
//! the filter are real.

use std::path::Path;

use serde_json::{Value, json};

use crate::program::{Ran, Scratch, free_port, run, small_filters, tree};
use crate::reload::{HOST, generation, until_said};
use crate::up::{ANY, Stack};

/// The stand-in, with a model that is not ready.
fn host() -> String {
    let ready =
        r#"if self.path == "/readyz": said = b'ready\nmodel "scores" version "1": no server\n'"#;
    let respond = "        self.send_response(200)";
    HOST.replace(respond, &format!("        {ready}\n{respond}"))
}

fn status(state: &Path, more: &[&str]) -> Ran {
    let command = ["status", "--state", state.to_str().unwrap()];
    run(&[command.as_slice(), more].concat())
}

fn report(state: &Path, code: i32) -> Value {
    let ran = status(state, &["--json"]);
    assert_eq!(ran.code, code, "{}{}", ran.stdout, ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn a_running_gate_shows_its_version_its_models_and_a_held_change() {
    let mine = Scratch::new();
    let text = std::fs::read_to_string(tree().join("envoy/gate.yaml")).unwrap();
    let policy = mine.file("gate.yaml", &text);
    let mut stack = Stack::start_with(&host(), ANY, &policy, small_filters());
    let line = stack.line();
    let version = generation(&line);
    let state = stack.scratch.path().join("state");
    let said = report(&state, 0);
    let expected =
        json!([{"model": "scores", "version": "1", "ready": false, "why": ["no server"]}]);
    assert_eq!(said["models"], expected, "{said}");
    assert_eq!((&said["up"], &said["ready"]), (&json!(true), &json!(true)));
    assert_eq!(said["version"], version.as_str());
    assert_eq!(said["admin"], format!("http://{}", stack.admin()));
    assert!(
        line.contains(&format!("{} ", said["listen"].as_str().unwrap())),
        "{said}"
    );
    assert_eq!(said["held"], json!([]));

    // As through a port-forward to a pod, whose folders and policy are not here.
    let admin = format!("http://{}", stack.admin());
    let ran = run(&["status", "--admin", &admin, "--json"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let forwarded: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(forwarded["version"], version.as_str());
    assert_eq!(
        forwarded["why"],
        json!([r#"model "scores" version "1": no server"#])
    );
    assert_eq!(forwarded.get("state"), None);

    mine.file("gate.yaml", text.replace("listen:", "lisen:"));
    stack.signal("HUP");
    until_said(&stack, "not reloaded");
    let said = report(&state, 0);
    assert_eq!(said["version"], version.as_str());
    assert_eq!(said["held"][0]["file"], policy.to_str().unwrap());
    let why = said["held"][0]["why"].as_str().unwrap();
    assert!(why.starts_with("line ") && why.contains("lisen"), "{why}");
    let shown = status(&state, &[policy.to_str().unwrap()]);
    assert_eq!(shown.code, 0, "{}", shown.stdout);
    for part in [
        "gate: ready (pid ",
        "held: ",
        "model scores version 1: not ready: no server",
    ] {
        assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
    }
    let other = status(&state, &[tree().join("envoy/gate.yaml").to_str().unwrap()]);
    assert_eq!(other.code, 1);
    assert!(other.stdout.contains("not running"), "{}", other.stdout);

    // The start has listed the model, and a reload lists it again.
    mine.file("gate.yaml", text.replace("quota: ", "quota: 1"));
    stack.signal("HUP");
    let line = stack.line();
    assert!(line.starts_with("reloaded: policy "), "{line}");
    let warning = r#"warning: not ready: model "scores" version "1": no server"#;
    let began = std::time::Instant::now();
    while stack.said().matches(warning).count() < 2 {
        assert!(began.elapsed().as_secs() < 60, "{}", stack.said());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }

    stack.signal("TERM");
    stack.wait();
    let said = report(&state, 1);
    assert_eq!(
        (&said["up"], &said["ready"]),
        (&json!(false), &json!(false))
    );
}

#[test]
fn without_a_gate_the_exit_code_is_one() {
    let scratch = Scratch::new();
    for state in [scratch.path().to_owned(), scratch.path().join("none")] {
        let ran = status(&state, &[]);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stdout.contains("gate: not running"), "{}", ran.stdout);
    }
    let closed = format!("127.0.0.1:{}", free_port());
    let ran = run(&["status", "--admin", &closed]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stdout.contains("does not answer"), "{}", ran.stdout);
    assert_eq!(run(&["status", "--admin", "https://x"]).code, 2);
}
