//! The `tensorgate` command. Each verb has its own file; here arguments select a verb, and its
//! result becomes an exit code.

mod certificates;
mod chain;
mod files;
mod handler;
mod inline;
mod lists;
mod load;
mod message;
mod policy_file;
mod render;
mod replace;
mod stack;
mod tighten;
mod trust;
mod ui;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use ui::{Color, Ui};

/// A security gate for machine-learning model serving.
#[derive(Parser)]
#[command(
    name = "tensorgate",
    version,
    arg_required_else_help = true,
    propagate_version = true
)]
#[command(
    after_help = "Exit codes: 0 success, 1 negative verdict or failure, 2 invalid usage or input.\n\nExample: tensorgate check gate.yaml"
)]
struct Cli {
    /// Print JSON on standard output, one value per line.
    #[arg(long, global = true)]
    json: bool,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t)]
    color: Color,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Init(verbs::init::Init),
    Up(verbs::up::Up),
    Status(verbs::status::Status),
    Audit(verbs::audit::Audit),
    Check(verbs::check::Check),
    Explain(verbs::explain::Explain),
    Render(verbs::render::Render),
    Schema(verbs::schema::Schema),
    Diff(verbs::diff::Diff),
    Import(verbs::import::Import),
    Keys(verbs::keys::Keys),
    Handler(verbs::handler::Handler),
    Completions(verbs::completions::Completions),
}

/// Why a verb did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The verdict is negative and has been printed. Exit code 1.
    #[error("no")]
    No,
    /// Something outside the command failed. Exit code 1.
    #[error("{0}")]
    Failed(String),
    /// Invalid usage or input. Exit code 2.
    #[error("{0}")]
    Input(String),
    /// The policy cannot be loaded. Exit code 2.
    #[error(transparent)]
    Load(#[from] load::LoadError),
}

fn main() -> ExitCode {
    let Cli { json, color, verb } = Cli::parse();
    let ui = Ui::new(json, color);
    let outcome = match verb {
        Verb::Init(verb) => verb.run(&ui),
        Verb::Up(verb) => verb.run(&ui),
        Verb::Status(verb) => verb.run(&ui),
        Verb::Audit(verb) => verb.run(&ui),
        Verb::Check(verb) => verb.run(&ui),
        Verb::Explain(verb) => verb.run(&ui),
        Verb::Render(verb) => verb.run(&ui),
        Verb::Schema(verb) => verb.run(&ui),
        Verb::Diff(verb) => verb.run(&ui),
        Verb::Import(verb) => verb.run(&ui),
        Verb::Keys(verb) => verb.run(&ui),
        Verb::Handler(verb) => verb.run(&ui),
        Verb::Completions(verb) => verb.run(&mut Cli::command()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&ui, &failure),
    }
}

pub(crate) fn report(ui: &Ui, failure: &Failure) -> ExitCode {
    let error = ui.paint("1;31", "error");
    match failure {
        Failure::No => ExitCode::from(1),
        Failure::Failed(message) => {
            ui.note(&format!("{error}: {}", ui::printable_lines(message)));
            ExitCode::from(1)
        }
        Failure::Input(message) => {
            ui.note(&format!("{error}: {}", ui::printable_lines(message)));
            ExitCode::from(2)
        }
        Failure::Load(load::LoadError::Faults(source, faults)) => {
            ui.faults(source, faults);
            ExitCode::from(2)
        }
        Failure::Load(other) => {
            ui.note(&format!(
                "{error}: {}",
                ui::printable_lines(&other.to_string())
            ));
            ExitCode::from(2)
        }
    }
}
