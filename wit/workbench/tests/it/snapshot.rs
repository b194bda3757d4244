//! Data that a handler in Rust makes before its first call is made while it is built. A table then
//! costs a call nothing, whatever its size. `reach` has the other languages.

use super::{Project, lines, story};

/// Entries of a small table and of a large one.
const SIZES: [u32; 2] = [10, 100_000];

/// Looks up three words.
const CASE: &str = r#"{"input": {"tensors": []}, "expect": {"tensors": [{"name": "found", "datatype": "INT64", "shape": [3], "data": [0, 7, -1]}]}}"#;

/// The fuel of a first call with so many entries in its table.
fn fuel(project: &Project, source: &str, entries: u32) -> u64 {
    project.write(
        "src/lib.rs",
        &source.replace("ENTRIES", &entries.to_string()),
    );
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let ran = project.verb("test", &["--only", "found"]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    lines(&ran).remove(0)["fuel"].as_u64().unwrap()
}

fn project(name: &'static str) -> Project {
    let project = Project::unbuilt(name, "rust", "preprocess");
    // Enough time on a busy machine.
    project.edit("handler.yaml", "timeout_ms: 50", "timeout_ms: 20000");
    project.write("cases/found.json", CASE);
    project
}

/// The fuel with each size.
fn both(project: &Project, source: &str) -> [u64; 2] {
    SIZES.map(|entries| fuel(project, source, entries))
}

const RUST: &str = r#"use std::collections::BTreeMap;
use std::sync::LazyLock;

use tensorgate_handler::ndarray::Array1;
use tensorgate_handler::{Error, Payload, Preprocess, Tensor, export_init, export_preprocess};

/// A vector has one depth whatever its size; a map's fuel grows with its depth.
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
    let project = project("table-rs");
    project.edit("handler.yaml", "fuel: 10000000", "fuel: 1000000000");
    let [few, many] = both(&project, RUST);
    assert_eq!(few, many);
    // Without it the first call makes the table. The difference is what the test measures.
    let without = RUST.replace("export_init!(init);", "const _: fn() = init;");
    let [few, many] = both(&project, &without.replace("export_init, ", ""));
    assert!(many > 100 * few, "{few} and {many}");
}

#[test]
fn a_failing_initialisation_in_rust_is_reported_by_the_build() {
    let project = project("fails-rs");
    for (body, cause) in [
        (r#"panic!("no such vocabulary")"#, "no such vocabulary"),
        (
            r#"drop(tensorgate_handler::config("vocabulary"))"#,
            "tensorgate:handler/config@0.2.0",
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
        assert!(ran.stderr.contains(cause), "{}", ran.stderr);
        assert!(ran.stderr.contains("export_init!"), "{}", ran.stderr);
    }
}
