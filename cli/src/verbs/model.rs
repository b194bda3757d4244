//! The `model` verbs: `scan` says what files of models are, and what they could do when loaded.
//! `sign` and `verify` bind the files of a model to a signer, and `manifest` lists what is signed.
//! `serve-verified` gives a server a copy of a model that is signed and safe. `confirm` tells a
//! gate that a server has loaded it.

mod confirm;
mod copy_scan;
mod inputs;
mod manifest;
mod report;
mod scan;
mod scan_options;
mod serve_verified;
mod sign;
mod signer_line;
mod trusted_signer;
mod verify;

use std::num::NonZeroUsize;

use clap::{Args, Subcommand};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;

/// The most files that are read at the same time.
const MAX_JOBS: usize = 256;

/// Check files of models, sign models and verify them.
#[derive(Args)]
pub struct Model {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Scan(scan::Scan),
    Manifest(manifest::Manifest),
    Sign(sign::Sign),
    Verify(verify::Verify),
    ServeVerified(serve_verified::ServeVerified),
    Confirm(confirm::Confirm),
}

impl Model {
    /// Runs the selected verb.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self.what {
            What::Scan(scan) => scan.run(ui),
            What::Manifest(manifest) => manifest.run(ui),
            What::Sign(sign) => sign.run(ui),
            What::Verify(verify) => verify.run(ui),
            What::ServeVerified(serve) => serve.run(ui),
            What::Confirm(confirm) => confirm.run(ui),
        }
    }
}

/// The value of `--jobs`.
fn jobs(text: &str) -> Result<NonZeroUsize, String> {
    let jobs = text.parse::<NonZeroUsize>().ok();
    (jobs.filter(|jobs| jobs.get() <= MAX_JOBS))
        .ok_or_else(|| format!("expected a number from 1 to {MAX_JOBS}"))
}
