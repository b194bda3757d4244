//! The repository as tests of its rules read it: documentation pages, output of commands, and lists
//! of faults. [`book`] reads the pages, and [`fragment`] completes the policies in them.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "test support: a failure here is a failed test and says where"
)]

pub mod book;
pub mod fragment;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// Standard output of a command in the root. If the command fails, the test fails.
pub fn output(program: &str, arguments: &[&str]) -> String {
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

/// Fails with all faults, if there are any.
pub fn none(rule: &str, faults: Vec<String>) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}
