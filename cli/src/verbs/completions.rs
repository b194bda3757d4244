//! The `completions` verb: a shell completion script for verbs and flags.

use clap::{Args, Command};
use clap_complete::Shell;
use tensorgate_cli_common::Failure;

use super::{handler, model};

/// Print a completion script for a shell.
#[derive(Args)]
#[command(
    after_help = "The verbs of `handler` and `model` are completed if their programs, tensorgate-handler and tensorgate-model, are installed.\n\nExample: tensorgate completions bash > ~/.local/share/bash-completion/completions/tensorgate"
)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Prints the script.
    pub fn run(self, command: Command) -> Result<(), Failure> {
        let mut command = model::with_verbs(handler::with_verbs(command));
        clap_complete::generate(
            self.shell,
            &mut command,
            "tensorgate",
            &mut std::io::stdout(),
        );
        Ok(())
    }
}
