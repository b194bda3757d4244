//! Running `tensorgate-model`.

use std::path::Path;
use std::process::Command;

pub use tensorgate_client::run::{Ran, Scratch, tree};

pub fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_tensorgate-model"))
}

/// Runs the program in a folder.
pub fn run_in<I: AsRef<std::ffi::OsStr>>(folder: &Path, arguments: &[I]) -> Ran {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(folder);
    Ran::from_command(command.env("NO_COLOR", "1"))
}
