//! `tensorgate-host ask-servers`: what the servers of a policy say against its models, without a
//! host that serves.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::backend::{Act, Backend};
use crate::support::{GENERATION, folder, policy, write_bundle};

/// What the servers of a policy say against its models, as text and line by line.
fn findings(policy: &Value) -> (String, Vec<Value>) {
    let folder = folder();
    write_bundle(&folder, GENERATION, policy);
    let ran = Command::new(env!("CARGO_BIN_EXE_tensorgate-host"))
        .arg("ask-servers")
        .arg(folder.join("bundle.bin"))
        .arg(&folder)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    std::fs::remove_dir_all(folder).unwrap();
    let text = String::from_utf8(ran.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let lines: Vec<Value> = lines.collect();
    (text, lines)
}

#[test]
fn a_server_that_does_not_know_a_model_is_a_plain_sentence_with_a_cure() {
    let backend = Backend::start(Act::Answer);
    backend.says(Err(tonic::Code::NotFound));
    let (text, lines) = findings(&policy(&backend.uri(), json!({}), json!({})));
    assert_eq!(lines.len(), 1, "{text}");
    let cause = lines[0]["cause"].as_str().unwrap();
    let plain = "the server does not have this model and version: load it there, or correct";
    assert!(cause.starts_with(plain), "{text}");
    assert!(cause.contains(" (NotFound: "), "{text}");
    assert_eq!(lines[0]["reached"], true);
}

#[test]
fn each_model_that_does_not_fit_its_server_is_named() {
    let backend = Backend::start(Act::Answer);
    let nothing = Backend::start(Act::Answer).uri();
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    let mut other = policy["models"]["vec"].clone();
    other["inputs"][0]["datatype"] = json!("INT32");
    policy["models"]["other"] = other;
    let mut away = policy["models"]["vec"].clone();
    away["backend"] = json!("gone");
    policy["models"]["away"] = away;
    policy["backends"]["gone"] = policy["backends"]["b"].clone();
    policy["backends"]["gone"]["endpoints"] = json!([nothing]);
    // It runs only beside `tensorgate up`.
    policy["backends"]["cpu"] = json!({"kind": "embedded", "max_in_flight": 1, "queue": 1, "timeout_ms": 1000, "models": "models"});
    let (text, lines) = findings(&policy);
    let named: Vec<_> = lines
        .iter()
        .map(|line| (line["model"].as_str().unwrap(), line["reached"] == true))
        .collect();
    assert_eq!(named.len(), 2, "{text}");
    assert!(named.contains(&("other", true)), "{text}");
    assert!(named.contains(&("away", false)), "{text}");
    assert!(text.contains("INT32 in the contract"), "{text}");
    assert!(text.contains("is the server up?"), "{text}");
}
