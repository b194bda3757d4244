//! The `model` verb: runs `tensorgate-model`, which scans, signs, verifies and copies models, in
//! place of this program. `model confirm` alone is here, because it talks to a gate.

mod confirm;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use tensorgate_cli_common::arguments::parse;
use tensorgate_cli_common::ui::{Output, Ui};

use crate::programs::{self, with_output};

/// The name of this verb.
const NAME: &str = "model";
/// The program, which is beside this one or in `PATH`.
const PROGRAM: &str = "tensorgate-model";
/// The verb that this program has.
const CONFIRM: &str = "confirm";

/// Check files of models, sign models and verify them.
#[derive(Args)]
// Help and version are the program's.
#[command(disable_help_flag = true, disable_version_flag = true)]
pub struct Model {
    /// A verb of `tensorgate model --help`, and its arguments.
    #[arg(
        value_name = "ARGUMENTS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    arguments: Vec<OsString>,
}

/// The verb of `model` that this program has, with the names that the program gives to its own.
#[derive(Parser)]
#[command(
    name = PROGRAM,
    bin_name = "tensorgate model",
    version,
    propagate_version = true
)]
struct Own {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    verb: OwnVerb,
}

#[derive(Subcommand)]
enum OwnVerb {
    Confirm(confirm::Confirm),
}

impl Model {
    /// Confirms a load, or becomes the program.
    pub fn run(self, output: Output) -> ExitCode {
        let words: Vec<_> = self.arguments.iter().map(|word| word.to_str()).collect();
        let is_own = matches!(
            words.as_slice(),
            [Some(CONFIRM), ..] | [Some("help"), Some(CONFIRM), ..]
        );
        let arguments = with_output(output, self.arguments);
        if !is_own {
            return Ui::new(output).failure(&programs::become_program(PROGRAM, arguments));
        }
        let name = OsString::from(PROGRAM);
        let Own { output, verb } = parse(std::iter::once(name).chain(arguments));
        let ui = Ui::new(output);
        let OwnVerb::Confirm(confirm) = verb;
        ui.exit_code(confirm.run(&ui))
    }
}

/// The command with the verbs of models in it, as far as the program can be found and names them.
pub fn with_verbs(command: clap::Command) -> clap::Command {
    let own = Own::command();
    let confirm = own.find_subcommand(CONFIRM).cloned();
    match (programs::verbs(PROGRAM), confirm) {
        (Some(tree), Some(confirm)) => command.mut_subcommand(NAME, |_| {
            let all = tree.into_command(NAME.to_owned());
            if all.find_subcommand(CONFIRM).is_some() {
                all.mut_subcommand(CONFIRM, |_| confirm)
            } else {
                all.subcommand(confirm)
            }
        }),
        _ => command,
    }
}
