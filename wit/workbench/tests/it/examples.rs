//! The example handlers, as `make components` builds them, pass their cases in the host's sandbox.
//! Their output equals that of the ordinary Python stack (`examples/reference` wrote the cases),
//! and hostile input is rejected with a cause.

use std::path::PathBuf;

use tensorgate_client::run::tree;

use super::{binary, handler, lines, story, tensorgate};

/// Each example with the number of its cases that are answered, and of those that are rejected.
const EXAMPLES: [(&str, usize, usize); 8] = [
    ("audio-features", 6, 12),
    ("class-labels", 6, 2),
    ("detection", 6, 3),
    ("image-classifier", 8, 14),
    ("prompt-template", 8, 3),
    ("redaction", 5, 4),
    ("tabular", 3, 9),
    ("text-tokens", 8, 3),
];

fn component(name: &str) -> PathBuf {
    let components = binary().parent().unwrap().parent().unwrap();
    let file = format!("components/{}.wasm", name.replace('-', "_"));
    let file = components.join(file);
    assert!(
        file.is_file(),
        "no {}: run `make components`",
        file.display()
    );
    file
}

/// What `handler test` prints about each case.
fn results(name: &str, project: &std::path::Path) -> Vec<serde_json::Value> {
    let (component, project) = (component(name), project.to_str().unwrap());
    let component = component.to_str().unwrap();
    let ran = handler(&["--json", "test", "--component", component, project]);
    assert!(ran.code < 2, "{name}: {}", story(&ran));
    lines(&ran)
}

#[test]
fn every_example_matches_its_reference_and_rejects_hostile_input() {
    for (name, answered, refused) in EXAMPLES {
        let project = tree().join("examples/handlers").join(name);
        let results = results(name, &project);
        let failed: Vec<_> = results.iter().filter(|line| line["ok"] != true).collect();
        assert!(failed.is_empty(), "{name}: {failed:#?}");
        assert_eq!(results.len(), answered + refused, "{name}: {results:#?}");
        let refusals = results.iter().filter(|line| {
            let case = project.join(format!("cases/{}.json", line["case"].as_str().unwrap()));
            std::fs::read_to_string(case)
                .unwrap()
                .contains("\"refused\"")
        });
        assert_eq!(refusals.count(), refused, "{name}");
    }
}

#[test]
fn every_example_with_cases_is_listed() {
    let mut found: Vec<String> = std::fs::read_dir(tree().join("examples/handlers"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("cases").is_dir())
        .map(|entry| entry.file_name().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    assert_eq!(found, EXAMPLES.map(|(name, ..)| name));
}

#[test]
fn a_case_with_another_number_fails() {
    let scratch = tensorgate_client::run::Scratch::new();
    let from = tree().join("examples/handlers/class-labels");
    std::fs::create_dir(scratch.path().join("cases")).unwrap();
    let manifest = std::fs::read_to_string(from.join("handler.yaml")).unwrap();
    scratch.file("handler.yaml", manifest);
    let case = std::fs::read_to_string(from.join("cases/as-they-are.json")).unwrap();
    scratch.file("cases/same.json", &case);
    scratch.file(
        "cases/other.json",
        case.replace("[0.5, 0.25, 0.25]", "[0.5, 0.25, 0.26]"),
    );
    let results = results("class-labels", scratch.path());
    let ok: Vec<bool> = results.iter().map(|line| line["ok"] == true).collect();
    assert_eq!(ok, [false, true], "{results:#?}");
}

#[test]
fn the_examples_policy_has_no_fault() {
    let policy = tree().join("examples/policies/handlers/gate.yaml");
    let ran = tensorgate(&["check".as_ref(), policy.as_os_str()]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let text = std::fs::read_to_string(policy).unwrap();
    for (name, ..) in EXAMPLES {
        let file = format!("components/{}.wasm", name.replace('-', "_"));
        assert!(text.contains(&file), "{name}");
        let (_, rule) = text.split_once(&file).unwrap();
        let manifest = tree()
            .join("examples/handlers")
            .join(name)
            .join("handler.yaml");
        let manifest = std::fs::read_to_string(manifest).unwrap();
        let limits = ["fuel", "memory_bytes", "timeout_ms"].map(|key| {
            let line = rule
                .lines()
                .map(str::trim)
                .find(|line| line.starts_with(key));
            line.unwrap().to_owned()
        });
        let limits = format!("limits: {{{}}}", limits.join(", "));
        assert!(manifest.contains(&limits), "{name}: {limits}");
    }
}
