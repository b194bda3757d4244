//! The `handler` verb: runs `tensorgate-handler`, the tooling of handler authors, in place of this
//! program. Signals, input, output and exit code are that program's.

use std::ffi::OsString;

use clap::Args;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Output;

use crate::programs::{self, with_output};

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
        programs::become_program(PROGRAM, with_output(output, self.arguments))
    }
}

/// The command with the handler's verbs in it, as far as the program can be found and names them.
pub fn with_verbs(command: clap::Command) -> clap::Command {
    match programs::verbs(PROGRAM) {
        Some(tree) => command.mut_subcommand(NAME, |_| tree.into_command(NAME.to_owned())),
        None => command,
    }
}
