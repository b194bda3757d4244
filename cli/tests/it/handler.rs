//! `handler` becomes the program `tensorgate-handler`, and `model` becomes `tensorgate-model`.
//! These tests have a script in their place.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{Ran, Scratch, binary};

/// Prints its arguments, one a line, and fails.
const PRINTS: &str = "#!/bin/sh\nprintf '%s\\n' \"$@\"\nexit 7\n";

/// A folder with `tensorgate` and nothing else.
struct Installed {
    scratch: Scratch,
    tensorgate: PathBuf,
}

impl Installed {
    fn new() -> Self {
        // A link costs nothing, and needs the same file system.
        let scratch = Scratch::below(binary().parent().unwrap());
        let tensorgate = scratch.path().join("tensorgate");
        std::fs::hard_link(binary(), &tensorgate).unwrap();
        Self {
            scratch,
            tensorgate,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.tensorgate);
        command.args(arguments).env("PATH", "");
        command.current_dir(self.scratch.path());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::from_command(&mut self.command(arguments))
    }
}

/// Writes the program of `handler` into a folder.
fn put(folder: &Path, script: &str) {
    put_as("tensorgate-handler", folder, script);
}

/// Writes a program into a folder.
fn put_as(program: &str, folder: &Path, script: &str) {
    let text = folder.join("script");
    std::fs::write(&text, script).unwrap();
    // Another process writes it: a file that a test has open for writing cannot be started, and a
    // process that another test starts inherits open files for a moment.
    let to = folder.join(program);
    let install = Command::new("install")
        .arg("-m755")
        .arg(&text)
        .arg(to)
        .status();
    assert!(install.unwrap().success());
    std::fs::remove_file(text).unwrap();
}

#[test]
fn a_missing_program_is_named_with_where_it_was_sought() {
    let installed = Installed::new();
    let ran = installed.run(&["handler", "new", "--lang", "rust", "scale"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    let folder = installed.scratch.path().canonicalize().unwrap();
    let expected = format!(
        "tensorgate-handler is neither in {}, beside tensorgate, nor in PATH: ",
        folder.display()
    );
    assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
    // Listed without the program too.
    let ran = installed.run(&["--help"]);
    let listed = ran
        .stdout
        .lines()
        .find(|line| line.starts_with("  handler "));
    assert!(listed.unwrap().contains("sign handlers"), "{}", ran.stdout);
}

#[test]
fn the_help_of_a_missing_program_is_printed_with_how_to_get_it() {
    let installed = Installed::new();
    for (arguments, code) in [
        (&["handler", "--help"][..], 0),
        (&["handler", "-h"], 0),
        (&["help", "handler"], 0),
        (&["handler"], 1),
    ] {
        let ran = installed.run(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.stderr);
        let usage = "Usage: tensorgate handler [OPTIONS] <COMMAND>";
        assert!(ran.stdout.contains(usage), "{arguments:?}: {}", ran.stdout);
        let line = "tensorgate-handler is neither in ";
        assert!(ran.stderr.contains(line), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
    // The help of one verb is the program's.
    let ran = installed.run(&["handler", "new", "--help"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
}

#[test]
fn the_program_gets_every_argument_and_its_exit_code_is_the_commands() {
    let installed = Installed::new();
    put(installed.scratch.path(), PRINTS);
    for (arguments, expected) in [
        (&["handler"][..], ""),
        (&["handler", "--help"], "--help"),
        (&["handler", "-V"], "-V"),
        (&["handler", "build", "-h"], "build -h"),
        (&["help", "handler"], "help"),
        (&["help", "handler", "build"], "help build"),
        (&["handler", "new", "--lang", "js", "a"], "new --lang js a"),
        (&["handler", "--unknown", "--", "x"], "--unknown -- x"),
        (&["--json", "handler", "logs"], "--json logs"),
        (&["handler", "--json", "logs"], "--json logs"),
        (&["handler", "logs", "--json"], "logs --json"),
        (
            &["--color", "never", "handler", "logs"],
            "--color never logs",
        ),
        (
            &["handler", "--color=always", "logs"],
            "--color always logs",
        ),
    ] {
        let ran = installed.run(arguments);
        assert_eq!(ran.code, 7, "{arguments:?}: {}", ran.stderr);
        let given: Vec<_> = ran.stdout.split_whitespace().collect();
        assert_eq!(given.join(" "), expected, "{arguments:?}");
    }
}

#[test]
fn the_program_takes_the_commands_place() {
    let installed = Installed::new();
    put(installed.scratch.path(), "#!/bin/sh\nkill -9 $$\n");
    let status = installed.command(&["handler"]).status().unwrap();
    assert_eq!(status.signal(), Some(9));
}

#[test]
fn the_program_is_sought_in_absolute_folders_of_path_only() {
    let installed = Installed::new();
    let other = Scratch::new();
    put(other.path(), PRINTS);
    let run = |path: &str| {
        let mut command = installed.command(&["handler"]);
        Ran::from_command(command.current_dir(other.path()).env("PATH", path)).code
    };
    assert_eq!(run(other.path().to_str().unwrap()), 7);
    for relative in ["", ".", ":"] {
        assert_eq!(run(relative), 1, "{relative:?}");
    }
    // The one beside the command comes first.
    put(installed.scratch.path(), "#!/bin/sh\nexit 8\n");
    assert_eq!(run(other.path().to_str().unwrap()), 8);
}

#[test]
fn verbs_of_models_are_those_of_a_program_but_for_confirm() {
    let installed = Installed::new();
    let ran = installed.run(&["model", "scan", "."]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(
        ran.stderr.contains("tensorgate-model is neither in "),
        "{}",
        ran.stderr
    );
    put_as("tensorgate-model", installed.scratch.path(), PRINTS);
    for (arguments, expected) in [
        (&["model"][..], ""),
        (&["model", "--help"], "--help"),
        (&["help", "model", "scan"], "help scan"),
        (
            &["--json", "model", "scan", "confirm"],
            "--json scan confirm",
        ),
        (&["model", "sign", "--", "-x"], "sign -- -x"),
    ] {
        let ran = installed.run(arguments);
        assert_eq!(ran.code, 7, "{arguments:?}: {}", ran.stderr);
        let given: Vec<_> = ran.stdout.split_whitespace().collect();
        assert_eq!(given.join(" "), expected, "{arguments:?}");
    }
    for arguments in [
        &["model", "confirm", "--help"][..],
        &["model", "help", "confirm"],
        &["help", "model", "confirm"],
        &["--json", "model", "confirm", "-h"],
    ] {
        let ran = installed.run(arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
        let usage = "Usage: tensorgate model confirm [OPTIONS] --digest <SHA256> --wait <NUMBER>";
        assert!(ran.stdout.contains(usage), "{arguments:?}: {}", ran.stdout);
    }
    let ran = installed.run(&["model", "--json", "confirm", "risk"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let ran = installed.run(&["model", "confirm", "a@1", "--digest", "x", "--wait", "1"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("64 hex digits"), "{}", ran.stderr);
}
