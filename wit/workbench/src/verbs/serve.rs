//! The `handler serve` verb: a local server around one handler, which follows the project's files.

use std::path::PathBuf;

use clap::Args;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;

use crate::serve::serve;

/// Serve a handler on this machine, and build it again whenever a file of its project changes.
#[derive(Args)]
#[command(
    after_help = "Each POST is one call, within the limits of handler.yaml. Open Inference JSON becomes tensors, for a postprocess handler those of the model. Any other body is handed over with its media type. The response has the handler's tensors as Open Inference JSON: 400 if the handler rejects the input, 500 with the cause if it fails, 503 with the error while the project does not build.\n\nThe handler's log lines are printed. Calls of JavaScript load the author's modules each time, so they are slower than those of a build; `tensorgate handler bench` measures a build. There is no policy: contracts, fetches and lookups need `tensorgate up --dev`.\n\nExample: tensorgate handler serve scale --port 9000"
)]
pub struct Serve {
    /// Project folder.
    #[arg(default_value = ".")]
    project: PathBuf,
    /// Port on 127.0.0.1; 0 lets the system choose.
    #[arg(long, default_value_t = 9000)]
    port: u16,
}

impl Serve {
    /// Serves until the process is stopped.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        serve(*ui, &self.project, self.port)
    }
}
