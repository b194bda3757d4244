//! `model manifest`: prints what `model sign` would sign.

use std::path::PathBuf;

use clap::Args;
use tensorgate_artifact::model_signing::write_statement;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::replace::{Mode, replace};
use tensorgate_cli_common::ui::Ui;
use tensorgate_models::files::path_beneath;

use super::inputs::{ModelToHash, signature};
use super::report::ascii;
use crate::text::shown;

/// Mode of the file: readable by all users.
const MODE: u32 = 0o644;

/// Print the SHA-256 of each file of a model, as `model sign` would sign them.
///
/// The output is JSON: an in-toto statement of OpenSSF Model Signing 1.0 without a signature.
#[derive(Args)]
#[command(
    after_help = "The default file of the signature, `model.sig` in the model's folder, is left out.\n\
Exit codes: 0 success, 1 the file cannot be written, 2 invalid usage or a model that cannot be signed.\n\n\
Example: tensorgate model manifest models/digits -o digits.json"
)]
pub struct Manifest {
    #[command(flatten)]
    model: ModelToHash,
    /// Write into this file instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Manifest {
    /// Hashes and prints.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let model = &self.model.model;
        let hashed = self
            .model
            .hash(path_beneath(model, &signature(None, model)))?;
        let mut statement = write_statement(&hashed.manifest)
            .map_err(|fault| Failure::Failed(fault.to_string()))?;
        match &self.output {
            Some(file) => {
                statement.push(b'\n');
                replace(file, &statement, Mode::Exact(MODE)).map_err(|error| {
                    Failure::Failed(format!("cannot write {}: {error}", shown(file)))
                })
            }
            None => {
                ui.line(&ascii(&String::from_utf8_lossy(&statement)));
                Ok(())
            }
        }
    }
}
