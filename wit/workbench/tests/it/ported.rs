//! What handlers with numpy give: public ones in their own form, with the results of CPython on the
//! machine of their authors, and each mode of one that makes mistakes and attacks its sandbox
//! (`tests/handlers`).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tensorgate_base::payload::Payload;
use tensorgate_cli_common::user_folders;
use tensorgate_client::run::Scratch;
use tensorgate_sandbox::{CompilerConfig, HandlerError, LoadedHandler, Sandbox, SandboxConfig};

use super::hostile::load_with;
use super::{Project, handler, lines, story};

fn handlers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/handlers")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let into = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &into);
        } else {
            std::fs::copy(path, into).unwrap();
        }
    }
}

/// A copy of a handler with the files that a new project has.
fn project(handler: &Path, new: &Project, scratch: &Scratch) -> PathBuf {
    let folder = scratch.path().join(handler.file_name().unwrap());
    copy(handler, &folder);
    for own in ["tensorgate", "wit"] {
        copy(&new.folder().join(own), &folder.join(own));
    }
    folder
}

#[test]
fn public_handlers_give_what_cpython_gives() {
    let (new, scratch) = (
        Project::unbuilt("new", "python", "preprocess"),
        Scratch::new(),
    );
    let mut seen = 0;
    for entry in std::fs::read_dir(handlers().join("python")).unwrap() {
        let folder = project(&entry.unwrap().path(), &new, &scratch);
        let folder = folder.to_str().unwrap();
        let built = handler(&["--json", "build", folder]);
        assert_eq!(built.code, 0, "{}", story(&built));
        let tested = handler(&["--json", "test", folder]);
        assert_eq!(tested.code, 0, "{}", story(&tested));
        seen += lines(&tested).len();
    }
    assert!(seen >= 40, "only {seen} cases");
}

/// What came out of a call: its kind, a fault's cause, and the text that says more.
fn outcome(
    handler: &LoadedHandler,
    runtime: &tokio::runtime::Runtime,
) -> (&'static str, String, String) {
    let called = handler.preprocess("request", Payload::Tensors(vec![]));
    match runtime.block_on(called) {
        Ok(output) => {
            let data = output
                .tensors
                .iter()
                .map(|tensor| tensor.data.as_ref().unwrap().to_vec());
            let text: Vec<u8> = data.flatten().collect();
            let text = String::from_utf8_lossy(&text).into_owned();
            ("answer", String::new(), text)
        }
        Err(HandlerError::Rejected { text, .. }) => ("rejected", String::new(), text),
        Err(HandlerError::Fault { cause, detail, .. }) => ("fault", cause.to_string(), detail),
        Err(other) => ("other", String::new(), format!("{other:?}")),
    }
}

#[test]
fn each_mode_of_a_handler_with_numpy_ends_as_expected() {
    let new = Project::unbuilt("new-modes", "python", "preprocess");
    let (scratch, source) = (Scratch::new(), handlers().join("python-modes"));
    let folder = project(&source, &new, &scratch);
    let built = handler(&["--json", "build", folder.to_str().unwrap()]);
    assert_eq!(built.code, 0, "{}", story(&built));
    let inspected = handler(&["--json", "inspect", folder.to_str().unwrap()]);
    assert_eq!(inspected.code, 0, "{}", story(&inspected));
    let component = std::fs::read(folder.join("build/python-modes.wasm")).unwrap();
    let expected = std::fs::read(source.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let sandbox = Sandbox::new(SandboxConfig {
        compiler: CompilerConfig {
            folder: user_folders::compiled_code(),
            runtimes: user_folders::runtimes().into_iter().collect(),
            ..CompilerConfig::default()
        },
        // A busy machine may have no core for a call at once.
        queue_wait_ms: 60_000,
        ..SandboxConfig::default()
    });
    let sandbox = sandbox.unwrap();
    let load = |mode: &str, arg: &str| {
        let mut rule = expected["limits"].clone();
        rule["config"] = json!({"mode": mode, "arg": arg});
        load_with(&sandbox, &component, rule)
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Keeps the compiled code, and shows that no mode harms another call.
    let neighbour = load("sum", "");
    let mut wrong = Vec::new();
    for row in expected["outcomes"].as_array().unwrap() {
        let text = |name: &str| row[name].as_str().unwrap_or_default();
        let (mode, arg) = (text("mode"), text("arg"));
        let handler = load(mode, arg);
        let (kind, cause, detail) = outcome(&handler, &runtime);
        let causes = row["causes"].as_array();
        let is_expected = text("kind") == "any"
            || kind == text("kind")
                && causes.is_none_or(|causes| causes.iter().any(|one| one == cause.as_str()))
                && detail.contains(text("text"));
        if !is_expected {
            wrong.push(format!(
                "{mode} {arg:.40}: {kind} {cause} {detail:.300}, not {row}"
            ));
        }
        let after = outcome(&neighbour, &runtime);
        assert_eq!(after.0, "answer", "the neighbour, after {mode}: {after:?}");
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
