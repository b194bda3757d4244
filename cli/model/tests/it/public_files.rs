//! Files of public bug reports, written anew: what tools and attackers really write, and the
//! verdict of `model scan`. `tests/public/models.jsonl` names the source of each.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::program::{Scratch, run_in};

/// A folder of files.
#[derive(Deserialize)]
struct Case {
    title: String,
    source: String,
    /// The content of each file, in base64, and its verdict.
    files: BTreeMap<String, (String, String)>,
}

/// The cases, in the order of the file.
fn cases() -> Vec<Case> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/public/models.jsonl");
    let lines = std::fs::read_to_string(file).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn public_files_have_the_verdicts_that_their_reports_ask_for() {
    let scratch = Scratch::new();
    let cases = cases();
    for (number, case) in cases.iter().enumerate() {
        for (name, (content, _)) in &case.files {
            let file = scratch.path().join(number.to_string()).join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, STANDARD.decode(content).unwrap()).unwrap();
        }
    }
    let ran = run_in(scratch.path(), &["scan", "--json", "."]);
    let reports: BTreeMap<String, Value> = ran
        .stdout
        .lines()
        .map(|line| {
            let report: Value = serde_json::from_str(line).unwrap();
            let path = report["path"].as_str().unwrap().trim_start_matches("./");
            (path.to_owned(), report)
        })
        .collect();
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        for (name, (_, expected)) in &case.files {
            let report = &reports[&format!("{number}/{name}")];
            if report["verdict"] != expected.as_str() {
                let (title, source) = (&case.title, &case.source);
                wrong.push(format!(
                    "{name}: {report}, not {expected}: {title} ({source})"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", ran.stderr, wrong.join("\n"));
}
