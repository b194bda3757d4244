//! The `tensorgate-handler` program: the tooling of handler authors. `tensorgate handler` runs it.
//!
//! Components are loaded and called by the host's code, and limits are validated as in a policy. So
//! the verbs and the host always agree on a component.

mod build;
mod build_cache;
mod build_error;
mod case;
mod case_log;
mod case_resources;
mod compare;
mod configure;
mod contract;
mod copy;
mod dev;
mod handler_image;
mod image;
mod initialise;
mod install;
mod kit;
mod log_line;
mod owned_tensor;
mod pin;
mod policy_contract;
mod project;
mod python_imports;
mod runner;
mod serve;
mod steps;
mod template;
mod tools;
mod verbs;
mod watch;
mod wit_version;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use tensorgate_cli_common::command_tree::{self, CommandTree};
use tensorgate_cli_common::ui::{Output, Ui};
use tensorgate_sandbox::compiler_process;
use verbs::bench::Bench;
use verbs::build::Build;
use verbs::configure::Configure;
use verbs::image::Image;
use verbs::inspect::Inspect;
use verbs::logs::Logs;
use verbs::new::New;
use verbs::replay::Replay;
use verbs::serve::Serve;
use verbs::setup::Setup;
use verbs::sign::Sign;
use verbs::test::Test;

/// Create, build, configure, inspect, test, measure and sign handlers, write them as images, and
/// replay their calls.
#[derive(Parser)]
#[command(
    name = "tensorgate-handler",
    bin_name = "tensorgate handler",
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
    New(New),
    Build(Build),
    Configure(Configure),
    Inspect(Inspect),
    Test(Test),
    Serve(Serve),
    Bench(Bench),
    Sign(Sign),
    Image(Image),
    Setup(Setup),
    Replay(Replay),
    Logs(Logs),
    /// Print the verbs and their arguments as JSON, for the completions of `tensorgate`.
    #[command(name = command_tree::VERB, hide = true)]
    CommandTree,
}

fn main() -> ExitCode {
    // This program starts itself again as its compiler, as the host does.
    if let Some(code) = compiler_process(std::env::args_os().skip(1)) {
        return code;
    }
    let Cli { output, verb } = Cli::parse();
    let ui = Ui::new(output);
    ui.exit_code(match verb {
        Verb::New(verb) => verb.run(&ui),
        Verb::Build(verb) => verb.run(&ui),
        Verb::Configure(verb) => verb.run(&ui),
        Verb::Inspect(verb) => verb.run(&ui),
        Verb::Test(verb) => verb.run(&ui),
        Verb::Serve(verb) => verb.run(&ui),
        Verb::Bench(verb) => verb.run(&ui),
        Verb::Sign(verb) => verb.run(&ui),
        Verb::Image(verb) => verb.run(&ui),
        Verb::Setup(verb) => verb.run(&ui),
        Verb::Replay(verb) => verb.run(&ui),
        Verb::Logs(verb) => verb.run(&ui),
        Verb::CommandTree => {
            ui.json_line(&CommandTree::from(&Cli::command()));
            Ok(())
        }
    })
}
