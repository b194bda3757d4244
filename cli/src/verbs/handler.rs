//! The `handler` verbs: the workflow of handler authors, from a new project to a policy entry.

mod bench;
mod build;
mod configure;
mod inspect;
mod logs;
mod new;
mod port;
mod push;
mod replay;
mod setup;
mod sign;
mod test;

use clap::{Args, Subcommand};

use crate::Failure;
use crate::ui::Ui;

/// Create, port, build, configure, inspect, test, measure, sign and publish handlers, and replay
/// their calls.
#[derive(Args)]
pub struct Handler {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    New(new::New),
    Port(port::Port),
    Build(build::Build),
    Configure(configure::Configure),
    Inspect(inspect::Inspect),
    Test(test::Test),
    Bench(bench::Bench),
    Sign(sign::Sign),
    Push(push::Push),
    Setup(setup::Setup),
    Replay(replay::Replay),
    Logs(logs::Logs),
}

impl Handler {
    /// Runs the selected verb.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self.what {
            What::New(new) => new.run(ui),
            What::Port(port) => port.run(ui),
            What::Build(build) => build.run(ui),
            What::Configure(configure) => configure.run(ui),
            What::Inspect(inspect) => inspect.run(ui),
            What::Test(test) => test.run(ui),
            What::Bench(bench) => bench.run(ui),
            What::Sign(sign) => sign.run(ui),
            What::Push(push) => push.run(ui),
            What::Setup(setup) => setup.run(ui),
            What::Replay(replay) => replay.run(ui),
            What::Logs(logs) => logs.run(ui),
        }
    }
}
