//! The other programs of tensorgate: where they are, what to do if one is missing, and how a verb
//! becomes one.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum as _;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::command_tree::{self, CommandTree};
use tensorgate_cli_common::ui::{Color, Output};

/// The path of a program in the folder of the running one.
pub fn beside(name: &str) -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.parent()?.join(name);
    path.is_file().then_some(path)
}

/// The path of a program beside the running one, or in `PATH`. Relative folders of `PATH` are
/// skipped, because their files may be those of a downloaded project.
pub fn find(name: &str) -> Option<PathBuf> {
    beside(name).or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .find(|program| program.is_file())
    })
}

/// How to get a program that is missing.
pub fn how_to_get() -> &'static str {
    if in_source_tree() {
        "run `make build`"
    } else {
        "install it from the same release as tensorgate"
    }
}

/// The sentence about a program that cannot be found: where it was sought, and how to get it.
pub fn missing(name: &str) -> String {
    let here = std::env::current_exe().unwrap_or_default();
    let here = here.parent().unwrap_or(&here).display();
    format!(
        "{name} is neither in {here}, beside tensorgate, nor in PATH: {}",
        how_to_get()
    )
}

/// Whether the running program was built in a source tree and not moved: only there, `make` can
/// build what is missing.
pub fn in_source_tree() -> bool {
    let program = std::env::current_exe().unwrap_or_default();
    let mut folders = program.ancestors().skip(1);
    folders.any(|folder| folder.join("cli/Cargo.toml").is_file())
}

/// Runs a program in place of this one. Signals, input, output and exit code are that program's.
/// Returns only if that fails.
pub fn become_program(name: &str, arguments: Vec<OsString>) -> Failure {
    let Some(program) = find(name) else {
        return Failure::Failed(missing(name));
    };
    let error = Command::new(&program).args(arguments).exec();
    Failure::Failed(format!("cannot run {}: {error}", program.display()))
}

/// Arguments with the options of every verb that were given before them.
pub fn with_output(output: Output, arguments: Vec<OsString>) -> Vec<OsString> {
    let mut all = Vec::new();
    all.extend(output.json.then(|| OsString::from("--json")));
    if output.color != Color::default()
        && let Some(color) = output.color.to_possible_value()
    {
        all.extend([OsString::from("--color"), color.get_name().into()]);
    }
    all.extend(arguments);
    all
}

/// The verbs of a program, if it can be found and names them.
pub fn verbs(name: &str) -> Option<CommandTree> {
    let mut command = Command::new(find(name)?);
    let printed = command.arg(command_tree::VERB).output().ok()?;
    serde_json::from_slice(&printed.stdout).ok()
}
