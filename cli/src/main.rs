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
mod public_address;
mod render;
mod similar_name;
mod stack;
mod tighten;
mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use tensorgate_cli_common::arguments::parse;
use tensorgate_cli_common::ui::{Output, Ui};

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
    Reload(verbs::reload::Reload),
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
    let Cli { output, verb } = parse(arguments());
    let ui = Ui::new(output);
    let outcome = match verb {
        Verb::Init(verb) => verb.run(&ui),
        Verb::Up(verb) => verb.run(&ui),
        Verb::Status(verb) => verb.run(&ui),
        Verb::Reload(verb) => verb.run(&ui),
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
        Verb::Model(verb) => return verb.run(output),
        Verb::Handler(verb) => verb.run(&ui, output),
        Verb::Image(verb) => verb.run(&ui),
        Verb::Completions(verb) => verb.run(Cli::command()),
    };
    ui.exit_code(outcome)
}

/// The arguments. `help handler VERB` becomes `handler help VERB`: another program has the
/// verbs of handlers. The same holds for models.
fn arguments() -> Vec<OsString> {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    if let [_, first, second, ..] = arguments.as_mut_slice()
        && first == "help"
        && (second == "handler" || second == "model")
    {
        std::mem::swap(first, second);
    }
    arguments
}
