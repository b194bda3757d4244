//! `configure` puts a tokenizer into a component. Its cases are the results of the ordinary Python
//! stack (`examples/reference` wrote them). Files that are not tokenizers, or are hostile, are
//! rejected with a cause.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tensorgate_client::run::{Ran, Scratch, tree};

use super::{binary, handler, lines, story, tensorgate};

fn builtin() -> PathBuf {
    let components = binary().parent().unwrap().parent().unwrap();
    let file = components.join("components/text_classifier.wasm");
    assert!(
        file.is_file(),
        "no {}: run `make components`",
        file.display()
    );
    file
}

fn project(kind: &str) -> PathBuf {
    tree().join("examples/handlers/text-classifier").join(kind)
}

/// Configures a component with a file; returns the run and the path of the new component.
fn configure(scratch: &Scratch, component: &Path, file: &str, more: &[&str]) -> (Ran, PathBuf) {
    let made = scratch.path().join("made.wasm");
    let (component, output) = (component.to_str().unwrap(), made.to_str().unwrap());
    let mut arguments = vec![
        "--json",
        "configure",
        component,
        "--file",
        file,
        "-o",
        output,
    ];
    arguments.extend(more);
    (handler(&arguments), made)
}

fn hex(bytes: &[u8]) -> String {
    tensorgate_policy::hex(&Sha256::digest(bytes))
}

#[test]
fn a_configured_tokenizer_is_part_of_the_component_and_adds_no_fuel_to_a_call() {
    let mut digests = Vec::new();
    for (kind, greatest) in [("wordpiece", 1069), ("byte-level", 901)] {
        let scratch = Scratch::new();
        let file = project(kind).join("tokenizer.json");
        let (ran, made) = configure(&scratch, &builtin(), file.to_str().unwrap(), &[]);
        assert_eq!(ran.code, 0, "{kind}: {}", story(&ran));
        let result = lines(&ran).remove(0);
        let bytes = std::fs::read(&made).unwrap();
        assert_eq!(result["sha256"], hex(&bytes).as_str());
        assert!(
            result["said"]
                .to_string()
                .contains(&format!("[0, {greatest}]")),
            "{result}"
        );

        // `inspect` shows what the component was made of.
        let ran = handler(&["--json", "inspect", made.to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{}", story(&ran));
        let seen = lines(&ran).remove(0);
        let given = std::fs::read(&file).unwrap();
        let origin = json!({
            "sha256": hex(&std::fs::read(builtin()).unwrap()),
            "files": [{"name": "tokenizer.json", "bytes": given.len(), "sha256": hex(&given)}]
        });
        assert_eq!(seen["configured"], origin);
        assert_eq!(result["of"], origin);

        // A second run gives the same component.
        let (again, _) = configure(&scratch, &builtin(), file.to_str().unwrap(), &[]);
        assert_eq!(lines(&again).remove(0)["sha256"], result["sha256"]);

        let (made, project) = (made.to_str().unwrap(), project(kind));
        let ran = handler(&[
            "--json",
            "test",
            "--component",
            made,
            project.to_str().unwrap(),
        ]);
        let cases = lines(&ran);
        assert_eq!(cases.len(), 11, "{}", story(&ran));
        assert!(
            cases.iter().all(|case| case["ok"] == true),
            "{kind}: {}",
            story(&ran)
        );
        // Parsing the file would take millions.
        let fuel = cases.iter().find(|case| case["case"] == "nothing").unwrap()["fuel"].as_u64();
        assert!(fuel.unwrap() < 300_000, "{kind}: {fuel:?}");
        digests.push(result["sha256"].clone());
    }
    assert_ne!(digests[0], digests[1]);
}

#[test]
fn an_unconfigured_component_is_rejected_with_the_command_to_run() {
    let ran = handler(&["--json", "inspect", builtin().to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    let why = lines(&ran).remove(0)["why_not"].to_string();
    assert!(why.contains("tensorgate handler configure"), "{why}");

    let scratch = Scratch::new();
    let sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let policy = scratch.file(
        "gate.yaml",
        format!("version: 1\nhandlers:\n  text:\n    component: builtin:text-classifier\n    sha256: \"{sha256}\"\n"),
    );
    let ran = tensorgate(&["check".as_ref(), policy.as_os_str()]);
    let printed = format!("{}{}", ran.stdout, ran.stderr);
    assert_eq!(ran.code, 2, "{printed}");
    for part in [
        "gate.yaml:4:",
        "has no tokenizer: it must be configured first",
        "tensorgate handler configure builtin:text-classifier --file tokenizer.json -o text.wasm",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
}

/// A tokenizer with one change.
fn changed(change: impl Fn(&mut Value)) -> String {
    let text = std::fs::read_to_string(project("byte-level").join("tokenizer.json")).unwrap();
    let mut file: Value = serde_json::from_str(&text).unwrap();
    change(&mut file);
    file.to_string()
}

#[test]
fn invalid_or_hostile_tokenizers_are_rejected_with_a_cause() {
    let scratch = Scratch::new();
    let nested = format!("{}{}", "{\"normalizer\":".repeat(200_000), "1".repeat(100));
    let steps = changed(|file| {
        let mut nest = json!({"type": "NFC"});
        for _ in 0..20 {
            nest = json!({"type": "Sequence", "normalizers": [nest]});
        }
        file["normalizer"] = json!({"type": "Sequence", "normalizers": vec![nest; 40]});
    });
    for (name, text, cause) in [
        ("nothing", String::new(), "EOF"),
        ("nested", nested, "recursion"),
        ("nested steps", steps, "steps"),
        (
            "an id twice",
            changed(|file| file["model"]["vocab"]["film!"] = json!(7)),
            "id 7",
        ),
        (
            "an id far off",
            changed(|file| file["model"]["vocab"]["film!"] = json!(u32::MAX)),
            "ids go up to",
        ),
        (
            "merges in a circle",
            changed(|file| {
                file["model"]["vocab"][""] = json!(950);
                file["model"]["merges"] = json!([["", "a"], ["a", ""]]);
            }),
            "of nothing",
        ),
        (
            "a regular expression",
            changed(
                |file| file["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "(a*)*$"}, "behavior": "Isolated", "invert": false}),
            ),
            "Split",
        ),
        (
            "Unigram",
            changed(|file| {
                file["model"] = json!({"type": "Unigram", "unk_id": 0, "vocab": [["a", -1.0]]})
            }),
            "Unigram",
        ),
    ] {
        let file = scratch.file("tokenizer.json", text);
        let (ran, made) = configure(&scratch, &builtin(), file.to_str().unwrap(), &[]);
        assert_eq!(ran.code, 2, "{name}: {}", story(&ran));
        assert!(ran.stderr.contains(cause), "{name}: {}", ran.stderr);
        assert!(ran.stderr.len() < 2000, "{name}");
        assert!(!made.exists(), "{name}");
    }
}

#[test]
fn unusable_inputs_of_configure_are_rejected_with_a_cause() {
    let scratch = Scratch::new();
    let file = project("wordpiece").join("tokenizer.json");
    let file = file.to_str().unwrap();
    let refused = |component: &Path, file: &str, more: &[&str], code: i32, cause: &str| {
        let (ran, made) = configure(&scratch, component, file, more);
        assert_eq!(ran.code, code, "{cause}: {}", story(&ran));
        assert!(ran.stderr.contains(cause), "{cause}: {}", ran.stderr);
        assert!(!made.exists(), "{cause}");
    };
    let other = scratch.file("vocab.txt", "[PAD]");
    let large = scratch.file("large.json", vec![b' '; (32 << 20) + 1]);
    let bytes = scratch.file("bytes.json", [0xff, 0xfe]);
    refused(
        &builtin(),
        other.to_str().unwrap(),
        &[],
        2,
        "no tokenizer.json",
    );
    refused(&builtin(), large.to_str().unwrap(), &[], 2, "larger than");
    refused(&builtin(), bytes.to_str().unwrap(), &[], 2, "not text");
    refused(&builtin(), "missing.json", &[], 2, "cannot read");
    refused(&builtin(), file, &["--file", file], 2, "two files");
    refused(
        &builtin(),
        file,
        &["--sha256", &"0".repeat(64)],
        2,
        "sha256 is",
    );
    refused(Path::new("builtin:../text"), file, &[], 2, "builtin");
    let labels = builtin().with_file_name("class_labels.wasm");
    refused(&labels, file, &[], 2, "nothing to configure");
    let renamed = scratch.file("t.json", std::fs::read(file).unwrap());
    let renamed = format!("tokenizer.json={}", renamed.display());
    let (ran, made) = configure(&scratch, &builtin(), &renamed, &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let done = scratch.path().join("done.wasm");
    std::fs::rename(made, &done).unwrap();
    refused(&done, file, &[], 2, "already configured");
}

#[test]
fn a_component_that_misreports_its_result_is_rejected() {
    let scratch = Scratch::new();
    let file = project("wordpiece").join("tokenizer.json");
    for (name, made, keep, cause) in [
        (
            "an address beyond its memory",
            "(i32.const -4)",
            "(i32.const 0)",
            "out of bounds",
        ),
        (
            "more than is kept",
            "(i32.store offset=8 (i32.const 0) (i32.const -1)) (i32.const 0)",
            "(i32.const 0)",
            "are allowed",
        ),
        (
            "room beyond its memory",
            "(i32.store (i32.const 0) (i32.const 1)) (i32.store offset=8 (i32.const 0) (i32.const 8)) (i32.const 0)",
            "(i32.const 65535)",
            "out of bounds",
        ),
        ("a trap", "unreachable", "(i32.const 0)", "unreachable"),
        (
            "no handler",
            "(i32.store (i32.const 0) (i32.const 1)) (i32.const 0)",
            "(i32.const 0)",
            "not a handler",
        ),
    ] {
        let module = format!(
            r#"(component (core module (memory (export "memory") 1)
            (func (export "tensorgate-configure"))
            (func (export "tensorgate-made") (result i32) {made})
            (func (export "tensorgate-keep") (param i32) (result i32) {keep})))"#
        );
        let component = scratch.file("lies.wasm", wat::parse_str(module).unwrap());
        let (ran, made) = configure(&scratch, &component, file.to_str().unwrap(), &[]);
        assert!([1, 2].contains(&ran.code), "{name}: {}", story(&ran));
        assert!(ran.stderr.contains(cause), "{name}: {}", ran.stderr);
        assert!(!made.exists(), "{name}");
    }
}
