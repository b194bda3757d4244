//! Memory that a handler in Rust has from its start: what `bench` reports, and how it is used.

use super::{Project, handler, lines, story};

/// Asks for zeroed memory three times, counts bytes that are not zero, and leaves something behind.
/// It also keeps as much memory from its initialisation.
const SOURCE: &str = r#"use std::hint::black_box;

use tensorgate_handler::ndarray::Array1;
use tensorgate_handler::{Error, Payload, Preprocess, Tensor, export_init, export_preprocess};

const BYTES: usize = 300 << 10;

fn written() -> i64 {
    let mut found = 0;
    for _ in 0..3 {
        let mut bytes = black_box(vec![0_u8; BYTES]);
        found += i64::try_from(bytes.iter().filter(|byte| **byte != 0).count()).unwrap_or(-1);
        bytes.fill(0xff);
        black_box(&mut bytes);
    }
    found
}

fn init() {
    written();
    black_box(vec![7_u8; BYTES].leak());
}

struct Handler;

impl Preprocess for Handler {
    fn preprocess(_: Payload) -> Result<Vec<Tensor>, Error> {
        Ok(vec![Tensor::from_array("found", Array1::from(vec![written()]))?])
    }
}

export_preprocess!(Handler);
const _: fn() = init;
"#;

/// The expected count is zero.
const CASE: &str = r#"{"input": {"tensors": []}, "expect": {"tensors": [{"name": "found", "datatype": "INT64", "shape": [1], "data": [0]}]}}"#;

/// How many times memory grew in a call, by how much, and what `bench` advises.
fn grown(project: &Project) -> (u64, u64, String) {
    for verb in ["build", "test"] {
        let ran = project.verb(verb, &[]);
        assert_eq!(ran.code, 0, "{}", story(&ran));
    }
    let ran = project.verb("bench", &["--seconds", "1"]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let results = lines(&ran);
    let bytes = results[0]["memory_grown_bytes"].as_u64().unwrap();
    assert_eq!(results[1]["arena_bytes"].as_u64(), Some(bytes));
    let folder = project.folder();
    let ran = handler(&["bench", "--seconds", "1", folder.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let times = results[0]["memory_grows"].as_u64().unwrap();
    (times, bytes, ran.stdout)
}

#[test]
fn memory_growth_per_call_is_reported_and_an_arena_avoids_it() {
    let project = Project::unbuilt("room", "rust", "preprocess");
    project.edit("handler.yaml", "timeout_ms: 50", "timeout_ms: 20000");
    project.edit("handler.yaml", "fuel: 10000000", "fuel: 1000000000");
    std::fs::remove_dir_all(project.folder().join("cases")).unwrap();
    std::fs::create_dir(project.folder().join("cases")).unwrap();
    project.write("cases/zeros.json", CASE);
    project.write("src/lib.rs", SOURCE);
    let (times, bytes, text) = grown(&project);
    assert_eq!((times, bytes), (1, 5 << 16), "{text}");
    assert!(
        text.contains("grows once by 320 KiB")
            && text.contains("`export_preprocess!(…, arena: 320 << 10)`"),
        "{text}"
    );

    // Memory of the initialisation does not use it up.
    for init in ["const _: fn() = init;", "export_init!(init);"] {
        let source = SOURCE
            .replace("(Handler);", "(Handler, arena: BYTES);")
            .replace("const _: fn() = init;", init);
        project.write("src/lib.rs", &source);
        let (times, bytes, text) = grown(&project);
        assert_eq!((times, bytes), (0, 0), "{text}");
        assert!(!text.contains("arena:"), "{text}");
    }

    // It counts like any other memory: a policy that allows less than an instance starts with
    // rejects it.
    project.edit(
        "handler.yaml",
        "memory_bytes: 16MiB",
        "memory_bytes: 512KiB",
    );
    let ran = project.verb("test", &[]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    assert!(
        ran.stderr.contains("bytes of memory at its start"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_crate_may_have_an_allocator_of_its_own() {
    let project = Project::unbuilt("own", "rust", "preprocess");
    let source = std::fs::read_to_string(project.folder().join("src/lib.rs")).unwrap();
    let own = "#[global_allocator]\nstatic OWN: std::alloc::System = std::alloc::System;\n";
    project.write("src/lib.rs", &format!("{source}\n{own}"));
    let ran = project.verb("build", &[]);
    assert_eq!(ran.code, 1, "{}", story(&ran));
    let source = source.replace("!(Handler)", "!(Handler, allocator: own)");
    project.write("src/lib.rs", &format!("{source}\n{own}"));
    for verb in ["build", "test"] {
        let ran = project.verb(verb, &[]);
        assert_eq!(ran.code, 0, "{}", story(&ran));
    }
}
