//! The `model` verbs: `scan` says what files of models are, and what they could do when loaded.

mod report;
mod scan;

use clap::{Args, Subcommand};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;

/// Check files of models.
#[derive(Args)]
pub struct Model {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Scan(scan::Scan),
}

impl Model {
    /// Runs the selected verb.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self.what {
            What::Scan(scan) => scan.run(ui),
        }
    }
}
