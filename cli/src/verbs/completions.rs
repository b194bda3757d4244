//! The `completions` verb: a shell completion script for verbs and flags.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::Failure;

/// Print a completion script for a shell.
#[derive(Args)]
#[command(
    after_help = "Example: tensorgate completions bash > ~/.local/share/bash-completion/completions/tensorgate"
)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Prints the script.
    pub fn run(self, command: &mut Command) -> Result<(), Failure> {
        clap_complete::generate(self.shell, command, "tensorgate", &mut std::io::stdout());
        Ok(())
    }
}
