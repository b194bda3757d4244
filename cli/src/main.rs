//! The `tensorgate` command. Each verb has its own file; here arguments select a verb, and its
//! result becomes an exit code.

mod certificates;
mod chain;
mod components;
mod duration;
mod files;
mod image;
mod message;
mod model_artifacts;
mod programs;
mod progress_line;
mod public_address;
mod render;
mod scan;
mod served_model;
mod similar_name;
mod stack;
mod tighten;
mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory as _, Parser, Subcommand};
use tensorgate_cli_common::ui::{Output, Ui};
use tensorgate_models::scan::worker::scanner_process;

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
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Init(verbs::init::Init),
    Up(verbs::up::Up),
    Status(verbs::status::Status),
    Audit(verbs::audit::Audit),
    Alerts(verbs::alerts::Alerts),
    Check(verbs::check::Check),
    Explain(verbs::explain::Explain),
    Render(verbs::render::Render),
    Schema(verbs::schema::Schema),
    Diff(verbs::diff::Diff),
    Import(verbs::import::Import),
    Keys(verbs::keys::Keys),
    Block(verbs::block::Block),
    Unblock(verbs::block::Unblock),
    Model(verbs::model::Model),
    Handler(verbs::handler::Handler),
    Image(verbs::image::Image),
    Completions(verbs::completions::Completions),
}

fn main() -> ExitCode {
    // `model scan` starts this program again as its scanner processes.
    if let Some(code) = scanner_process(std::env::args_os().skip(1)) {
        return code;
    }
    let Cli { output, verb } = parse();
    let ui = Ui::new(output);
    let outcome = match verb {
        Verb::Init(verb) => verb.run(&ui),
        Verb::Up(verb) => verb.run(&ui),
        Verb::Status(verb) => verb.run(&ui),
        Verb::Audit(verb) => verb.run(&ui),
        Verb::Alerts(verb) => verb.run(&ui),
        Verb::Check(verb) => verb.run(&ui),
        Verb::Explain(verb) => verb.run(&ui),
        Verb::Render(verb) => verb.run(&ui),
        Verb::Schema(verb) => verb.run(&ui),
        Verb::Diff(verb) => verb.run(&ui),
        Verb::Import(verb) => verb.run(&ui),
        Verb::Keys(verb) => verb.run(&ui),
        Verb::Block(verb) => verb.run(&ui),
        Verb::Unblock(verb) => verb.run(&ui),
        Verb::Model(verb) => verb.run(&ui),
        Verb::Handler(verb) => Err(verb.run(output)),
        Verb::Image(verb) => verb.run(&ui),
        Verb::Completions(verb) => verb.run(Cli::command()),
    };
    ui.exit_code(outcome)
}

/// The parsed arguments. Errors end the process.
fn parse() -> Cli {
    Cli::try_parse_from(arguments()).unwrap_or_else(|mut error| {
        // For an unknown option, clap suggests to pass it as a value, which no user means.
        if let Some(ContextValue::StyledStrs(mut tips)) = error.remove(ContextKind::Suggested) {
            tips.retain(|tip| !tip.to_string().contains("as a value"));
            if !tips.is_empty() {
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
            }
        }
        error.exit()
    })
}

/// The arguments. `help handler VERB` becomes `handler help VERB`: another program has the
/// verbs of handlers.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    if let [_, first, second, ..] = arguments.as_mut_slice()
        && first == "help"
        && second == "handler"
    {
        std::mem::swap(first, second);
    }
    arguments
}
