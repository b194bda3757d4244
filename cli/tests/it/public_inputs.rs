//! Requests of public bug reports, written anew: what clients, SDKs and attackers really send, and
//! what `explain` answers. `tests/public/cases.jsonl` names the source of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use tensorgate_client::run::{Ran, tree};

use crate::program::run;

/// Time at which the tokens of the messages are valid, Unix seconds.
const NOW: &str = "1796000000";

/// A message and what the gate answers to it.
#[derive(Deserialize)]
struct Case {
    /// File below `tests/public`; its folder has the name of its policy.
    message: PathBuf,
    title: String,
    /// `allow`, or the reason of the rejection.
    expect: String,
}

fn public() -> PathBuf {
    tree().join("tests/public")
}

fn cases() -> Vec<Case> {
    let lines = std::fs::read_to_string(public().join("cases.jsonl")).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Runs `explain` under a policy of `tests/public`.
fn explain(policy: &str, arguments: &[&str]) -> Ran {
    let policy = public().join(policy);
    let mut all = vec![
        "explain",
        "--json",
        "--now",
        NOW,
        "-c",
        policy.to_str().unwrap(),
    ];
    all.extend(arguments);
    run(&all)
}

/// The found reason or `allow`, and the detail, of a line of `explain`.
fn found(line: &Value) -> (String, String) {
    let reason = line["reason"].as_str().unwrap_or("allow").to_owned();
    (
        reason,
        line["detail"].as_str().unwrap_or_default().to_owned(),
    )
}

/// The answer of each file of a folder, by its name.
fn of_folder(folder: &str) -> BTreeMap<String, (String, String)> {
    let messages = public().join(folder);
    let ran = explain(
        &format!("{folder}.yaml"),
        &["--http-dir", messages.to_str().unwrap()],
    );
    let lines = ran.stdout.lines().map(|line| {
        let line: Value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("{error}: {line} {}", ran.stderr));
        let file = Path::new(line["file"].as_str().unwrap());
        (
            file.file_name().unwrap().to_str().unwrap().to_owned(),
            found(&line),
        )
    });
    lines.collect()
}

/// The answer to a message with a token, whose issuer's key set lies beside it.
fn with_key_set(folder: &str, message: &Path, key_set: &Path) -> (String, String) {
    let message = public().join(message);
    let key_set = format!("idp={}", key_set.display());
    let ran = explain(
        &format!("{folder}.yaml"),
        &["--http", message.to_str().unwrap(), "--jwks", &key_set],
    );
    let line = serde_json::from_str(&ran.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", ran.stdout, ran.stderr));
    found(&line)
}

#[test]
fn explain_answers_public_inputs_as_their_reports_ask() {
    let mut folders = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in cases() {
        let folder = case.message.parent().unwrap().to_str().unwrap().to_owned();
        let file = case.message.file_name().unwrap().to_str().unwrap();
        let key_set = public().join(&case.message).with_extension("jwks.json");
        let (reason, detail) = if key_set.is_file() {
            with_key_set(&folder, &case.message, &key_set)
        } else {
            let answers: &BTreeMap<_, _> = folders
                .entry(folder.clone())
                .or_insert_with(|| of_folder(&folder));
            answers
                .get(file)
                .expect("every message is explained")
                .clone()
        };
        if reason != case.expect {
            wrong.push(format!(
                "{} ({}): {reason} ({detail}), not {}",
                case.message.display(),
                case.title,
                case.expect
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
