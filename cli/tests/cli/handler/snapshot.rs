//! What a handler makes before its first call is made while it is built: a table costs a call nothing, whatever its size.

use super::{Project, lines, story};

/// Entries of a small table and of a large one.
const SIZES: [u32; 2] = [10, 100_000];

/// Looks three words up.
const CASE: &str = r#"{"input": {"tensors": []}, "expect": {"tensors": [{"name": "found", "datatype": "INT64", "shape": [3], "data": [0, 7, -1]}]}}"#;

/// Fuel of a first call, with as many entries in its table.
fn fuel(project: &Project, file: &str, source: &str, entries: u32) -> u64 {
    // As long in both: a source is in the component, too.
    let entries = format!("{entries:>6}");
    project.write(file, &source.replace("ENTRIES", &entries));
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let ran = project.verb("test", &["--only", "found"]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    lines(&ran).remove(0)["fuel"].as_u64().unwrap()
}

fn project(name: &'static str, lang: &str) -> Project {
    let project = Project::unbuilt(name, lang, "preprocess");
    // On a busy machine, too.
    let given = match lang {
        "rust" => "timeout_ms: 50",
        "js" => "timeout_ms: 200",
        _ => "timeout_ms: 500",
    };
    project.edit("handler.yaml", given, "timeout_ms: 20000");
    project.write("cases/found.json", CASE);
    project
}

/// Fuel with each size.
fn both(project: &Project, file: &str, source: &str) -> [u64; 2] {
    SIZES.map(|entries| fuel(project, file, source, entries))
}

const RUST: &str = r#"use std::collections::BTreeMap;
use std::sync::LazyLock;

use tensorgate_handler::ndarray::Array1;
use tensorgate_handler::{Error, Payload, Preprocess, Tensor, export_init, export_preprocess};

/// Of one depth whatever its size: a map's fuel is its depth's.
static WORDS: LazyLock<Vec<Option<String>>> =
    LazyLock::new(|| (0..ENTRIES).map(|n| Some(format!("word {n}"))).collect());
static FEW: LazyLock<BTreeMap<String, i64>> =
    LazyLock::new(|| (0..10).map(|n| (format!("word {n}"), n)).collect());

fn init() {
    LazyLock::force(&WORDS);
    LazyLock::force(&FEW);
}

struct Handler;

impl Preprocess for Handler {
    fn preprocess(_: Payload) -> Result<Vec<Tensor>, Error> {
        if WORDS.get(7).is_none_or(|word| word.as_deref() != Some("word 7")) {
            return Err(Error::fault("no table"));
        }
        let found = ["word 0", "word 7", "none"].map(|word| FEW.get(word).copied().unwrap_or(-1));
        Ok(vec![Tensor::from_array("found", Array1::from(found.to_vec()))?])
    }
}

export_preprocess!(Handler);
export_init!(init);
"#;

#[test]
fn a_table_in_rust_costs_a_call_nothing() {
    let project = project("table-rs", "rust");
    project.edit("handler.yaml", "fuel: 10000000", "fuel: 1000000000");
    let [few, many] = both(&project, "src/lib.rs", RUST);
    assert_eq!(few, many);
    // Without it the first call makes the table: what is saved is what the test is about.
    let without = RUST.replace("export_init!(init);", "const _: fn() = init;");
    let [few, many] = both(
        &project,
        "src/lib.rs",
        &without.replace("export_init, ", ""),
    );
    assert!(many > 100 * few, "{few} and {many}");
}

#[test]
fn what_fails_while_a_handler_in_rust_is_built_says_why() {
    let project = project("fails-rs", "rust");
    for (body, says) in [
        (r#"panic!("no such vocabulary")"#, "no such vocabulary"),
        (
            r#"drop(tensorgate_handler::config("vocabulary"))"#,
            "tensorgate:handler/config@0.1.0",
        ),
    ] {
        project.write(
            "src/lib.rs",
            &RUST.replace("ENTRIES", "10").replace(
                "    LazyLock::force(&WORDS);\n    LazyLock::force(&FEW);",
                body,
            ),
        );
        let ran = project.verb("build", &[]);
        assert_eq!(ran.code, 1, "{}", story(&ran));
        assert!(ran.stderr.contains(says), "{}", ran.stderr);
        assert!(ran.stderr.contains("export_init!"), "{}", ran.stderr);
    }
}

const PYTHON: &str = r#"from tensorgate import Tensor, array

TABLE = {f"word {n}": n for n in range(ENTRIES)}


def preprocess(_):
    return [Tensor.of("found", array([TABLE.get(word, -1) for word in ("word 0", "word 7", "none")], "INT64"))]
"#;

#[test]
fn a_table_in_python_costs_a_call_nothing() {
    let project = project("table-py", "python");
    let [few, many] = both(&project, "handler.py", PYTHON);
    // Where a word lies in a dict is another matter than how many there are: a collision is some hundreds of fuel.
    assert!(many.abs_diff(few) * 50 < few, "{few} and {many}");
}

const JS: &str = r#"import { Tensor } from "./tensorgate.js";

const table = new Map(Array.from({ length: ENTRIES }, (_, n) => [`word ${n}`, BigInt(n)]));

export const preprocess = () => [Tensor.of("found", "INT64", [3], ["word 0", "word 7", "none"].map((word) => table.get(word) ?? -1n))];
"#;

#[test]
fn a_table_in_javascript_costs_a_call_nothing() {
    let project = project("table-js", "js");
    let [few, many] = both(&project, "handler.js", JS);
    assert!(many.abs_diff(few) * 100 < few, "{few} and {many}");
}
