//! The `handler` verb: runs `tensorgate-handler`, the tooling of handler authors, in place of this
//! program. Signals, input, output and exit code are that program's.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use clap::{Args, ValueEnum as _};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::command_tree::{self, CommandTree};
use tensorgate_cli_common::ui::{Color, Output};

use crate::programs;

/// The name of this verb.
const NAME: &str = "handler";
/// The program, which is beside this one or in `PATH`.
const PROGRAM: &str = "tensorgate-handler";

/// Create, build, configure, inspect, test, measure and sign handlers, write them as images, and
/// replay their calls.
#[derive(Args)]
// Help and version are the program's.
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct Handler {
    /// A verb of `tensorgate handler --help`, and its arguments.
    #[arg(
        value_name = "ARGUMENTS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    arguments: Vec<OsString>,
}

impl Handler {
    /// Becomes the program. Returns only if that fails.
    pub fn run(self, output: Output) -> Failure {
        let Some(program) = programs::find(PROGRAM) else {
            let here = std::env::current_exe().unwrap_or_default();
            let here = here.parent().unwrap_or(&here).display();
            return Failure::Failed(format!(
                "{PROGRAM} is neither in {here}, beside tensorgate, nor in PATH: {}",
                programs::how_to_get()
            ));
        };
        let mut command = Command::new(&program);
        command.args(output.json.then_some("--json"));
        if output.color != Color::default()
            && let Some(color) = output.color.to_possible_value()
        {
            command.args(["--color", color.get_name()]);
        }
        let error = command.args(self.arguments).exec();
        Failure::Failed(format!("cannot run {}: {error}", program.display()))
    }
}

/// The command with the handler's verbs in it, as far as the program can be found and names them.
pub fn with_verbs(command: clap::Command) -> clap::Command {
    let printed = programs::find(PROGRAM)
        .and_then(|program| Command::new(program).arg(command_tree::VERB).output().ok());
    let tree =
        printed.and_then(|printed| serde_json::from_slice::<CommandTree>(&printed.stdout).ok());
    match tree {
        Some(tree) => command.mut_subcommand(NAME, |_| tree.into_command(NAME.to_owned())),
        None => command,
    }
}
