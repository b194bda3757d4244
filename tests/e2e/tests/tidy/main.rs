//! The house rules that no compiler checks: crate dependencies, the form of a source file, and the
//! contents of the lock file.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod arrows;
mod docs;
mod lockfile;
mod modules;
mod packages;
mod scripts;
mod sources;
mod words;

use std::process::Command;

use tensorgate_tests::book::root;

/// Standard output of a command in the root. If the command fails, the test fails.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// `cargo metadata`, with these further arguments.
fn metadata(arguments: &[&str]) -> serde_json::Value {
    let arguments = [
        &["metadata", "--format-version", "1", "--locked"],
        arguments,
    ]
    .concat();
    serde_json::from_str(&output(env!("CARGO"), &arguments)).unwrap()
}

/// Collects faults and fails with all of them.
fn none(rule: &str, faults: Vec<String>) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}
