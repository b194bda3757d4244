//! `keys new`: a key that its own snippet lets in, made anew each time.

use crate::program::{Scratch, run};

#[test]
fn a_new_key_is_let_in_by_the_lines_that_come_with_it() {
    let scratch = Scratch::new();
    let made = run(&["keys", "new", "app", "--not-after", "2030-01-31"]);
    assert_eq!(made.code, 0, "{}", made.stderr);
    let key = made.stdout.trim();
    assert!(
        key.starts_with("tg_") && !made.stderr.contains(key),
        "{key}"
    );
    let snippet = made.stderr.split_once("clients:\n").unwrap().1;
    let rest = r#"
backends: {gpu: {kind: open-inference, endpoints: ["http://127.0.0.1:8001"], max_in_flight: 1, queue: 1, timeout_ms: 9}}
models:
  m:
    backend: gpu
    versions: ["1"]
    protocols: [oip-rest]
    inputs: [{name: x, datatype: FP32, shape: [2]}]
    outputs: [{name: y, datatype: FP32, shape: [2]}]
grants: [{name: g, clients: [app], models: [m], operations: [ready]}]
"#;
    let policy = scratch.file(
        "gate.yaml",
        format!("version: 1\nclients:\n{snippet}{rest}"),
    );
    let explain = |key: &str, now: &str| {
        let message = scratch.file(
            "m.http",
            format!("GET /v2/models/m/ready HTTP/1.1\r\nHost: x\r\nx-api-key: {key}\r\n\r\n"),
        );
        run(&[
            "explain".as_ref(),
            "-c".as_ref(),
            policy.as_os_str(),
            "--http".as_ref(),
            message.as_os_str(),
            "--now".as_ref(),
            now.as_ref(),
        ])
    };
    let before = explain(key, "1800000000");
    assert_eq!(before.code, 0, "{}{}", before.stdout, before.stderr);
    // 2030-02-01T00:00:00Z.
    assert_eq!(explain(key, "1896134399").code, 0);
    assert_eq!(explain(key, "1896134400").code, 1);
    assert_eq!(
        explain(&run(&["keys", "new", "app"]).stdout, "1800000000").code,
        1
    );
}

#[test]
fn json_has_the_key_and_its_digest() {
    let made = run(&["keys", "new", "app", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&made.stdout).unwrap();
    assert_eq!(value["client"], "app");
    assert_eq!(value["sha256"].as_str().unwrap().len(), 64);
    assert!(value["key"].as_str().unwrap().starts_with("tg_"));
    assert_eq!(made.stderr, "");
}

#[test]
fn a_date_of_another_form_is_bad_use() {
    for date in ["tomorrow", "2030-1-31", "2030/01/31"] {
        assert_eq!(
            run(&["keys", "new", "app", "--not-after", date]).code,
            2,
            "{date}"
        );
    }
}
