//! What `inspect` prints about components that this project did not build.

use std::os::unix::fs::MetadataExt as _;

use tensorgate_client::run::{Scratch, tree};
use tensorgate_sandbox::{CompilerConfig, Sandbox, SandboxConfig};

use super::hostile::load;
use super::{handler, handler_with, lines, story};

#[test]
fn a_component_with_foreign_imports_is_rejected_by_name() {
    let scratch = Scratch::new();
    for (text, accepted, why, authority) in [
        (
            r#"(component (import "wasi:sockets/tcp@0.2.9" (instance)))"#,
            false,
            "wasi:sockets/tcp@0.2.9",
            "network",
        ),
        (
            r#"(component (import "acme:gpu/device" (instance)))"#,
            false,
            "acme:gpu/device",
            "unknown to this version",
        ),
        ("(component)", false, "preprocess", ""),
        (
            r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)))"#,
            false,
            "core module",
            "files",
        ),
    ] {
        let file = scratch.file("c.wasm", wat::parse_str(text).unwrap());
        let ran = handler(&["--json", "inspect", file.to_str().unwrap()]);
        assert_eq!(ran.code, 1, "{text}: {}", story(&ran));
        let report = lines(&ran).remove(0);
        assert_eq!(report["accepted"], accepted, "{report}");
        assert!(
            report["why_not"].as_str().unwrap().contains(why),
            "{report}"
        );
        let imports = report["imports"].to_string();
        assert!(imports.contains(authority), "{report}");
        assert!(!imports.contains("\"given\":true"), "{report}");
    }
}

#[test]
fn a_file_that_is_not_webassembly_is_bad_input() {
    let scratch = Scratch::new();
    let file = scratch.file("c.wasm", "text");
    for path in [file.to_str().unwrap(), "no-such-file.wasm"] {
        let ran = handler(&["inspect", path]);
        assert_eq!(ran.code, 2, "{}", story(&ran));
    }
}

#[test]
fn inspect_names_what_a_policy_must_grant() {
    let scratch = Scratch::new();
    let text = r#"(component (import "tensorgate:handler/fetch@0.1.0" (instance)))"#;
    let file = scratch.file("c.wasm", wat::parse_str(text).unwrap());
    let ran = handler(&["--json", "inspect", file.to_str().unwrap()]);
    let report = lines(&ran).remove(0);
    assert_eq!(report["needs"], serde_json::json!(["fetch"]), "{report}");
    let both = r#"(component (import "tensorgate:handler/fetch@0.1.0" (instance)) (import "tensorgate:handler/lookup@0.1.0" (instance)))"#;
    let both = scratch.file("both.wasm", wat::parse_str(both).unwrap());
    let ran = handler(&["--json", "inspect", both.to_str().unwrap()]);
    let report = lines(&ran).remove(0);
    assert_eq!(report["needs"], serde_json::json!(["fetch", "lookups"]));
    let ran = handler(&["inspect", file.to_str().unwrap()]);
    assert!(ran.stdout.contains("needs    fetch"), "{}", story(&ran));
}

#[test]
fn compiled_code_is_kept_and_used_only_if_it_is_authentic() {
    let scratch = Scratch::new();
    let cache = scratch.path().to_str().unwrap();
    let file = tree().join("target/components/passthrough.wasm");
    let accepted_with = |more: (&str, &str)| {
        let arguments = ["--json", "inspect", file.to_str().unwrap()];
        let ran = handler_with(&arguments, &[("XDG_CACHE_HOME", cache), more]);
        assert_eq!(ran.code, 0, "{}", story(&ran));
        assert_eq!(lines(&ran).remove(0)["accepted"], true);
    };
    let accepted = || accepted_with(("WASMTIME_BACKTRACE_DETAILS", "0"));
    accepted();
    let folder = scratch.path().join("tensorgate/compiled");
    let compiled = std::fs::read_dir(&folder).unwrap();
    let compiled = compiled.map(|entry| entry.unwrap().path());
    let [code] = compiled
        .filter(|path| path.extension().is_some_and(|it| it == "cwasm"))
        .collect::<Vec<_>>()
        .try_into()
        .unwrap();
    let kept = std::fs::read(&code).unwrap();
    // Code that is compiled again gets another file.
    let number = std::fs::metadata(&code).unwrap().ino();
    accepted();
    accepted_with(("WASMTIME_BACKTRACE_DETAILS", "1"));
    assert_eq!(std::fs::metadata(&code).unwrap().ino(), number);
    // A host has more threads, and the same code.
    let host = Sandbox::new(SandboxConfig {
        compiler: CompilerConfig {
            folder: Some(folder),
            ..CompilerConfig::default()
        },
        ..SandboxConfig::default()
    });
    let host = host.unwrap();
    drop(load(&host, &std::fs::read(&file).unwrap(), "any"));
    assert_eq!(host.compilations(), 0);
    let mut changed = kept;
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(&code, &changed).unwrap();
    accepted();
    assert_ne!(std::fs::read(&code).unwrap(), changed, "compiled again");
}
