//! The `tensorgate-model` program: scans, signs, verifies and copies models. `tensorgate model`
//! runs it.
//!
//! It needs no other file: a job of a pipeline, or a container that runs before a model server,
//! takes this program alone.

mod progress_line;
mod scan;
mod served_model;
mod text;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use tensorgate_cli_common::arguments::parse;
use tensorgate_cli_common::command_tree::{self, CommandTree};
use tensorgate_cli_common::ui::{Output, Ui};
use tensorgate_models::scan::worker::scanner_process;

use verbs::confirm::Confirm;
use verbs::manifest::Manifest;
use verbs::scan::Scan;
use verbs::serve_verified::ServeVerified;
use verbs::sign::Sign;
use verbs::verify::Verify;

/// Check files of models, sign models and verify them.
#[derive(Parser)]
#[command(
    name = "tensorgate-model",
    bin_name = "tensorgate model",
    version,
    propagate_version = true
)]
struct Cli {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Scan(Scan),
    Manifest(Manifest),
    Sign(Sign),
    Verify(Verify),
    ServeVerified(ServeVerified),
    Confirm(Confirm),
    /// Print the verbs and their arguments as JSON, for the completions of `tensorgate`.
    #[command(name = command_tree::VERB, hide = true)]
    CommandTree,
}

fn main() -> ExitCode {
    // This program starts itself again as its scanner processes.
    if let Some(code) = scanner_process(std::env::args_os().skip(1)) {
        return code;
    }
    let Cli { output, verb } = parse(std::env::args_os());
    let ui = Ui::new(output);
    ui.exit_code(match verb {
        Verb::Scan(verb) => verb.run(&ui),
        Verb::Manifest(verb) => verb.run(&ui),
        Verb::Sign(verb) => verb.run(&ui),
        Verb::Verify(verb) => verb.run(&ui),
        Verb::ServeVerified(verb) => verb.run(&ui),
        Verb::Confirm(_) => Err(Confirm::refused()),
        Verb::CommandTree => {
            ui.json_line(&CommandTree::from(&Cli::command()));
            Ok(())
        }
    })
}
