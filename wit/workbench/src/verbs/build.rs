//! The `handler build` verb: builds a project's component and prints its digest.

use std::path::PathBuf;

use clap::Args;
use sha2::{Digest as _, Sha256};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;
use tensorgate_policy::hex;

use crate::build::build;
use crate::project::Project;

/// Build a project's component, without a network.
#[derive(Args)]
#[command(
    after_help = "Rust: the same sources and compiler give the same bytes. Python and JavaScript: every build has a different digest, because their runtimes are started during the build. Ship the build that you tested.\n\nExample: tensorgate handler build scale"
)]
pub struct Build {
    /// Project folder.
    #[arg(default_value = ".")]
    project: PathBuf,
}

impl Build {
    /// Builds the component.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let project = Project::open(&self.project)?;
        let component = build(&project)?;
        let file = project.component().display().to_string();
        let sha256 = hex(&Sha256::digest(&component));
        if ui.json {
            ui.json_line(
                &serde_json::json!({"component": file, "bytes": component.len(), "sha256": sha256}),
            );
        } else {
            ui.line(&format!(
                "{file}  {} bytes  sha256 {sha256}",
                component.len()
            ));
        }
        Ok(())
    }
}
