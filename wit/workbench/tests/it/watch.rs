//! `handler test --watch`, with a component that needs no build.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tensorgate_client::run::{Scratch, tree};

use super::binary;

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
    let manifest = "name: a\nlanguage: python\nworld: preprocess\nlimits: {timeout_ms: 10000}\n";
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path().join("cases")).unwrap();
    scratch.file("handler.yaml", manifest);
    let tensor =
        |value: f32| json!({"name": "t", "datatype": "FP32", "shape": [1], "data": [value]});
    let case = |expected: f32| {
        let expect = json!({"tensors": [tensor(expected)]});
        json!({"input": {"tensors": [tensor(1.0)]}, "expect": expect}).to_string()
    };
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
    scratch.file("handler.yaml", manifest);
    assert_eq!(verdicts(), [false, true]);
    // The rounds had one compiler, in a process of its own.
    let compilers = children(child.id());
    assert_eq!(compilers.len(), 1, "{compilers:?}");
    assert!(
        compilers[0].ends_with(" compiler-supervisor"),
        "{compilers:?}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
}
