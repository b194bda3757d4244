//! Projects that are made in a scratch folder, really built, really run in the host's sandbox, and
//! measured.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

mod arena;
mod cases;
mod components;
mod configure;
mod development;
mod examples;
mod fuse;
mod hostile;
mod image;
mod js;
mod kit;
mod logs;
mod mistakes;
mod pictures;
mod ported;
mod python;
mod reach;
mod replay;
mod runtime;
mod rust;
mod setup;
mod sign;
mod snapshot;
mod untrusted;
mod versions;
mod watch;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;
use tensorgate_client::run::{Ran, Scratch, tree};

/// The program.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tensorgate-handler"))
}

/// Runs the `tensorgate` beside the program, which judges policies.
fn tensorgate<I: AsRef<std::ffi::OsStr>>(arguments: &[I]) -> Ran {
    let file = binary().with_file_name("tensorgate");
    assert!(
        file.is_file(),
        "{} is missing: run `make build` first",
        file.display()
    );
    Ran::from_command(Command::new(file).args(arguments).env("NO_COLOR", "1"))
}

/// Runs the program without a network: every connection attempt fails.
fn handler<I: AsRef<std::ffi::OsStr>>(arguments: &[I]) -> Ran {
    handler_with(arguments, &[])
}

/// The same with further environment variables.
fn handler_with<I: AsRef<std::ffi::OsStr>>(arguments: &[I], environment: &[(&str, &str)]) -> Ran {
    let proxies = ["http_proxy", "https_proxy", "ALL_PROXY"];
    let mut command = Command::new(binary());
    command
        .args(arguments)
        .env("NO_COLOR", "1")
        .envs(proxies.map(|name| (name, "http://127.0.0.1:9")))
        // One folder for all projects of these tests, so that their dependencies are compiled once.
        .env("CARGO_TARGET_DIR", target())
        .envs(environment.iter().copied());
    Ran::from_command(&mut command)
}

fn target() -> PathBuf {
    binary()
        .ancestors()
        .nth(2)
        .unwrap()
        .join("handler-projects")
}

/// The JSON of each line.
fn lines(ran: &Ran) -> Vec<serde_json::Value> {
    let lines = ran.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// A description of the run, for a test that fails.
fn story(ran: &Ran) -> String {
    format!("exit {}\n{}\n{}", ran.code, ran.stdout, ran.stderr)
}

/// Held by the test whose Rust project is in [`rust_folder`].
static RUST_FOLDER: Mutex<()> = Mutex::new(());

/// The one folder of all Rust projects. The folder is a part of the compiler's flags, so in any
/// other one each dependency is compiled again.
fn rust_folder() -> PathBuf {
    target().join("project")
}

/// Dates the handler library in a project like the program that wrote it, so that cargo compiles it
/// once for all projects, and again for another program.
fn date_handler_library(folder: &Path) {
    let written = std::fs::metadata(binary()).unwrap().modified().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            date_handler_library(&path);
        } else {
            let file = std::fs::File::open(path).unwrap();
            file.set_modified(written).unwrap();
        }
    }
}

/// A new project, built.
struct Project {
    folder: PathBuf,
    name: &'static str,
    /// The folder is removed with it.
    _scratch: Option<Scratch>,
    /// For a Rust project in the folder of all: no other test has one until this is dropped.
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Project {
    fn new(name: &'static str, lang: &str, world: &str) -> Self {
        let project = Self::unbuilt(name, lang, world);
        project.succeed("build");
        project
    }

    /// The same, not built yet. A test can have one Rust project at a time.
    fn unbuilt(name: &'static str, lang: &str, world: &str) -> Self {
        if lang != "rust" {
            return Self::elsewhere(name, lang, world);
        }
        let turn = RUST_FOLDER.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = rust_folder();
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(target()).unwrap();
        Self::create(name, lang, world, folder, None, Some(turn))
    }

    /// The same, in a folder of its own.
    fn elsewhere(name: &'static str, lang: &str, world: &str) -> Self {
        let scratch = Scratch::new();
        let folder = scratch.path().join(name);
        Self::create(name, lang, world, folder, Some(scratch), None)
    }

    fn create(
        name: &'static str,
        lang: &str,
        world: &str,
        folder: PathBuf,
        scratch: Option<Scratch>,
        turn: Option<MutexGuard<'static, ()>>,
    ) -> Self {
        let into = folder.to_str().unwrap();
        let ran = handler(&[
            "new", "--lang", lang, "--world", world, "--into", into, name,
        ]);
        assert_eq!(ran.code, 0, "{}", story(&ran));
        if lang == "rust" {
            date_handler_library(&folder.join("wit"));
        }
        Self {
            folder,
            name,
            _scratch: scratch,
            _turn: turn,
        }
    }

    fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path beside the project's folder.
    fn beside(&self, name: &str) -> PathBuf {
        self.folder.with_file_name(name)
    }

    fn component(&self) -> PathBuf {
        self.folder().join(format!("build/{}.wasm", self.name))
    }

    /// Runs a verb on the project's folder.
    fn verb(&self, verb: &str, more: &[&str]) -> Ran {
        self.verb_with(verb, more, &[])
    }

    /// The same with further environment variables.
    fn verb_with(&self, verb: &str, more: &[&str], environment: &[(&str, &str)]) -> Ran {
        let folder = self.folder();
        let mut arguments = vec!["--json", verb];
        arguments.extend(more);
        arguments.push(folder.to_str().unwrap());
        handler_with(&arguments, environment)
    }

    /// Runs a verb that must succeed.
    fn succeed(&self, verb: &str) {
        let ran = self.verb(verb, &[]);
        assert_eq!(ran.code, 0, "{}", story(&ran));
    }

    /// Builds it. The component.
    fn built(&self) -> Vec<u8> {
        self.succeed("build");
        std::fs::read(self.component()).unwrap()
    }

    /// Builds it, and compiles the component into the folder of compiled code. A sandbox of this
    /// process then finds it there. The program compiles only functions that are in no other
    /// component, and a runtime of Python has 12,000.
    fn compiled(&self) -> Vec<u8> {
        let component = self.built();
        self.succeed("inspect");
        component
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.folder().join(file), text).unwrap();
    }

    /// Cases of a handler that returns the items of a tensor, rejects a raw body, and fails without
    /// a tensor. `fault`: what the failure says.
    fn write_own_cases(&self, fault: &str) {
        let tensor = json!({"name": "t", "datatype": "BYTES", "shape": [2], "data": ["a", "bc"]});
        let tensors = json!({"tensors": [tensor]});
        let raw = json!({"raw": {"content_type": "text/plain", "text": "abc"}});
        let rejected = json!({"refused": "bad-input", "says": "text/plain 3"});
        let failed = json!({"refused": "reported", "says": fault});
        for (name, input, expect) in [
            ("given", tensors.clone(), tensors),
            ("body", raw, rejected),
            ("thrown", json!({"tensors": []}), failed),
        ] {
            let case = json!({"input": input, "expect": expect});
            self.write(&format!("cases/own-{name}.json"), &case.to_string());
        }
    }

    /// Replaces one text in a file by another.
    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.folder().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}: {text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Raises the time limit of calls: on a busy machine a call may wait long for a core, and long
    /// calls run at a lower priority.
    fn give_time(&self) {
        let line = limits_of(self.folder());
        let (before, _) = line.split_once("timeout_ms:").unwrap();
        let longer = format!("{before}timeout_ms: {PATIENCE_MS}}}");
        self.edit("handler.yaml", &line, &longer);
    }

    /// The cases that failed, in a run of the selected ones.
    fn failed(&self, only: &str) -> Vec<String> {
        let ran = self.verb("test", &["--only", only]);
        let results = lines(&ran);
        assert!(!results.is_empty(), "{}", story(&ran));
        let failed = results.iter().filter(|line| line["ok"] != true);
        failed.map(ToString::to_string).collect()
    }

    /// Why a case failed; `None` if it passed.
    fn fault(&self, case: &str) -> Option<String> {
        let ran = self.verb("test", &["--only", case]);
        let results = lines(&ran);
        let [line] = results.as_slice() else {
            panic!("{}", story(&ran));
        };
        let faults: Vec<&str> = line["faults"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|fault| fault.as_str())
            .collect();
        assert_eq!(ran.code == 0, faults.is_empty(), "{}", story(&ran));
        (!faults.is_empty()).then(|| faults.join("; "))
    }
}

/// Checks a project whose example was just built. It passes its cases, the host accepts it, and
/// `bench` can measure it. The policy lines that it prints are valid.
fn works(project: &Project) {
    project.give_time();
    let ran = project.verb("test", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    assert!(lines(&ran).len() >= 2, "{}", story(&ran));
    let ran = project.verb("inspect", &[]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let report = lines(&ran).remove(0);
    assert_eq!(report["accepted"], true);
    let imports = report["imports"].as_array().unwrap();
    assert!(
        imports.iter().all(|import| import["given"] == true),
        "{report}"
    );
    measured(project, report["sha256"].as_str().unwrap());
}

/// The time limit for a call on a busy machine, ms.
const PATIENCE_MS: u64 = 10_000;

/// The line of a project's manifest with the limits of a call.
fn limits_of(folder: &Path) -> String {
    let manifest = std::fs::read_to_string(folder.join("handler.yaml")).unwrap();
    let mut lines = manifest.lines();
    let line = lines.find(|line| line.starts_with("limits:"));
    line.unwrap().to_owned()
}

/// The lines that `bench` prints are about this component, and a policy with them has no fault. The
/// handler passes its cases within those limits.
fn measured(project: &Project, sha256: &str) {
    let folder = project.folder();
    project.give_time();
    let line = limits_of(folder);
    let ran = project.verb("bench", &["--seconds", "1"]);
    assert_eq!(ran.code, 0, "{}", story(&ran));
    let proposed = lines(&ran).pop().unwrap();
    let policy = proposed["yaml"].as_str().unwrap();
    assert!(policy.contains(sha256), "{policy}");
    let gate = folder.join("build/gate.yaml");
    std::fs::write(&gate, format!("version: 1\n{policy}\n")).unwrap();
    let checked = tensorgate(&["check".as_ref(), gate.as_os_str()]);
    assert_eq!(checked.code, 0, "{policy}\n{}", story(&checked));
    let limit = |name: &str| proposed["policy"][name].as_u64().unwrap();
    let limits = format!(
        "limits: {{fuel: {}, memory_bytes: {}, timeout_ms: {}}}",
        limit("fuel"),
        limit("memory_bytes"),
        limit("timeout_ms").max(PATIENCE_MS)
    );
    project.edit("handler.yaml", &limits_of(folder), &limits);
    let ran = project.verb("test", &[]);
    assert_eq!(ran.code, 0, "{limits}\n{}", story(&ran));
    project.edit("handler.yaml", &limits, &line);
}

/// `tensorgate handler --help` prints this file where the program is missing.
#[test]
fn the_help_in_the_command_is_that_of_the_program() {
    let ran = handler(&["--help"]);
    let printed: Vec<&str> = ran.stdout.trim_end().lines().map(str::trim_end).collect();
    let file = "cli/src/verbs/handler/help.txt";
    let stored = std::fs::read_to_string(tree().join(file)).unwrap();
    assert!(
        printed == stored.lines().collect::<Vec<_>>(),
        "{file} is old; write this into it:\n{}",
        printed.join("\n")
    );
}

#[test]
fn tensorgate_runs_the_program_and_completes_its_verbs() {
    let help = handler(&["new", "--help"]);
    assert!(
        help.stdout.contains("Usage: tensorgate handler new "),
        "{}",
        story(&help)
    );
    for arguments in [["handler", "new", "--help"], ["help", "handler", "new"]] {
        let ran = tensorgate(&arguments);
        assert_eq!((ran.code, &ran.stdout), (0, &help.stdout), "{arguments:?}");
    }
    let ran = tensorgate(&["--json", "handler", "inspect", "no-such-file.wasm"]);
    assert_eq!(ran.code, 2, "{}", story(&ran));
    let script = tensorgate(&["completions", "bash"]).stdout;
    for text in ["--any-component", "preprocess postprocess", "--json"] {
        assert!(script.contains(text), "{text}: {script}");
    }
    assert!(!script.contains("command-tree"), "{script}");
}

#[test]
fn the_compilers_arguments_are_not_verbs() {
    for word in ["compile", "compiler"] {
        let ran = handler(&[word]);
        assert_eq!(ran.code, 2, "{word}: {}", story(&ran));
        assert!(ran.stderr.contains("unrecognized"), "{}", story(&ran));
    }
}

#[test]
fn a_new_project_needs_a_name_and_a_free_folder() {
    let scratch = Scratch::new();
    let taken = scratch.file("notes", "");
    for (arguments, text) in [
        (
            ["--lang", "rust", "Upper"].as_slice(),
            "not a valid handler name",
        ),
        (&["--lang", "rust", "syn"], "another"),
        (
            &["--lang", "rust", "--into", taken.to_str().unwrap(), "scale"],
            "already exists",
        ),
        (
            &[
                "--lang",
                "rust",
                "--into",
                scratch.path().to_str().unwrap(),
                "scale",
            ],
            "already exists",
        ),
        (&["--lang", "cobol", "scale"], "possible values"),
    ] {
        let ran = handler(&[&["new"], arguments].concat());
        assert_eq!(ran.code, 2, "{}", story(&ran));
        assert!(ran.stderr.contains(text), "{}", ran.stderr);
    }
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
}

#[test]
fn a_fault_of_a_manifest_is_reported_at_its_line() {
    let scratch = Scratch::new();
    for (text, expected) in [
        ("", "handler.yaml"),
        (
            "name: a\nlanguage: rust\nworld: preprocess\nlimit: {}\n",
            "4:1",
        ),
        ("name: a\nlanguage: rust\nworld: sideways\n", "3:8"),
        (
            "name: a\nlanguage: rust\nworld: preprocess\nlimits: {fuel: 0}\n",
            "fuel",
        ),
        (
            "name: ../a\nlanguage: rust\nworld: preprocess\n",
            "not a valid handler name",
        ),
    ] {
        scratch.file("handler.yaml", text);
        let ran = handler(&["test", scratch.path().to_str().unwrap()]);
        assert_eq!(ran.code, 2, "{text}: {}", story(&ran));
        assert!(ran.stderr.contains(expected), "{text}: {}", ran.stderr);
    }
}

fn without_project(verb: &str, folder: &Path) -> Ran {
    handler(&[verb, folder.to_str().unwrap()])
}

#[test]
fn a_folder_that_is_not_a_project_is_reported_as_such() {
    let scratch = Scratch::new();
    for verb in ["build", "test", "bench"] {
        let ran = without_project(verb, scratch.path());
        assert_eq!(ran.code, 2, "{verb}: {}", story(&ran));
        assert!(
            ran.stderr.contains("tensorgate handler new"),
            "{}",
            ran.stderr
        );
    }
}
