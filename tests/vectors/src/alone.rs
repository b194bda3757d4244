//! Tests that examine their whole process: its threads or its memory.
#![allow(clippy::panic, reason = "tests")]

use std::process::Command;

/// The variable that is set in the process that runs one test alone.
const ALONE: &str = "TENSORGATE_TEST_ALONE";

/// Whether this process runs one test alone. If not, runs `test` in such a process.
///
/// # Panics
///
/// If that test fails, or its process cannot be started.
pub fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let ran = std::env::current_exe().and_then(|program| {
        Command::new(program)
            .args([test, "--exact", "--nocapture"])
            .env(ALONE, "1")
            .output()
    });
    let ran = ran.unwrap_or_else(|fault| panic!("{test}: {fault}"));
    let output = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && output.contains("1 passed"),
        "{output}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    false
}
