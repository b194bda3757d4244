//! `handler test` and changes of a project's files, with a component that needs no build.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tensorgate_client::run::{Scratch, tree};

use super::{binary, handler, story};

const MANIFEST: &str =
    "name: a\nlanguage: python\nworld: preprocess\nlimits: {timeout_ms: 10000}\n";

/// A case of a component that returns its input: a tensor of 1 in, and one of this value out.
fn case(expected: f32) -> String {
    let tensor =
        |value: f32| json!({"name": "t", "datatype": "FP32", "shape": [1], "data": [value]});
    let expect = json!({"tensors": [tensor(expected)]});
    json!({"input": {"tensors": [tensor(1.0)]}, "expect": expect}).to_string()
}

/// The command lines of a process' children.
fn children(parent: u32) -> Vec<String> {
    let of_parent = format!("\nPPid:\t{parent}\n");
    let read = |file: PathBuf| std::fs::read_to_string(file).unwrap_or_default();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .map(|entry| entry.path())
        .filter(|process| read(process.join("status")).contains(&of_parent))
        .map(|process| {
            let words = read(process.join("cmdline"));
            words.trim_end_matches('\0').replace('\0', " ")
        })
        .collect()
}

#[test]
fn cases_run_again_after_each_change_even_if_the_last_run_failed() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path().join("cases")).unwrap();
    scratch.file("handler.yaml", MANIFEST);
    scratch.file("cases/one.json", case(1.0));
    let mut child = Command::new(binary())
        .args(["--json", "test", "--watch", "--component"])
        .arg(tree().join("target/components/passthrough.wasm"))
        .arg(scratch.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The verdicts of one run.
    let mut verdicts = || -> Vec<bool> {
        let values = (lines.by_ref())
            .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap())
            .take_while(|value| value["waiting"].is_null());
        values.filter_map(|value| value["ok"].as_bool()).collect()
    };
    assert_eq!(verdicts(), [true]);
    scratch.file("cases/one.json", case(2.0));
    assert_eq!(verdicts(), [false]);
    scratch.file("cases/two.json", case(1.0));
    assert_eq!(verdicts(), [false, true]);
    scratch.file("handler.yaml", "name: a\n");
    assert_eq!(verdicts(), [false; 0], "a fault of the manifest");
    scratch.file("handler.yaml", MANIFEST);
    assert_eq!(verdicts(), [false, true]);
    // The rounds had one compiler, in a process of its own.
    let compilers = children(child.id());
    assert_eq!(compilers.len(), 1, "{compilers:?}");
    assert!(
        compilers[0].ends_with(" compiler-supervisor reusing"),
        "{compilers:?}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn cases_of_an_older_build_run_with_a_warning() {
    let scratch = Scratch::new();
    for folder in ["build", "cases"] {
        std::fs::create_dir(scratch.path().join(folder)).unwrap();
    }
    scratch.file("cases/one.json", case(1.0));
    let manifest = scratch.file("handler.yaml", MANIFEST);
    let source = scratch.file("handler.py", "");
    let component = scratch.path().join("build/a.wasm");
    std::fs::copy(
        tree().join("target/components/passthrough.wasm"),
        &component,
    )
    .unwrap();
    let warning = format!(
        "warning: a source is newer than {}: the cases run the older build; run `tensorgate handler build` first\n",
        component.display()
    );
    let later = SystemTime::now()
        .checked_add(Duration::from_secs(60))
        .unwrap();
    for (changed, expected) in [
        (None, false),
        (Some(&manifest), false),
        (Some(&source), true),
    ] {
        if let Some(file) = changed {
            let file = std::fs::File::open(file).unwrap();
            file.set_modified(later).unwrap();
        }
        let ran = handler(&["test", scratch.path().to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{}", story(&ran));
        assert_eq!(ran.stderr.contains(&warning), expected, "{}", story(&ran));
    }
}
