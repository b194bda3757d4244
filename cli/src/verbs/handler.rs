//! The `handler` verb: runs `tensorgate-handler`, the tooling of handler authors, in place of this
//! program. Signals, input, output and exit code are that program's. Its help is printed without
//! it.

use std::ffi::OsString;

use clap::Args;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Output, Ui};

use crate::programs::{self, with_output};

/// The name of this verb.
const NAME: &str = "handler";
/// The program, which is beside this one or in `PATH`.
const PROGRAM: &str = "tensorgate-handler";
/// What the program prints for `--help`. A test of the program compares it.
const HELP: &str = include_str!("handler/help.txt");

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
    /// Becomes the program. Returns only if that fails, or after the help of a missing program.
    ///
    /// # Errors
    /// The program is missing or cannot be run.
    pub fn run(self, ui: &Ui, output: Output) -> Result<(), Failure> {
        if programs::find(PROGRAM).is_none() {
            let words: Vec<_> = self.arguments.iter().map(|word| word.to_str()).collect();
            let is_help = matches!(words.as_slice(), [Some("--help" | "-h" | "help")]);
            if is_help || words.is_empty() {
                ui.line(HELP.trim_end());
            }
            if is_help {
                ui.note(&programs::missing(PROGRAM));
                return Ok(());
            }
        }
        let arguments = with_output(output, self.arguments);
        Err(programs::become_program(PROGRAM, arguments))
    }
}

/// The command with the handler's verbs in it, as far as the program can be found and names them.
pub fn with_verbs(command: clap::Command) -> clap::Command {
    match programs::verbs(PROGRAM) {
        Some(tree) => command.mut_subcommand(NAME, |_| tree.into_command(NAME.to_owned())),
        None => command,
    }
}
