//! `handler build`: a project's component, and the lines that a policy names it by.

use std::path::PathBuf;

use clap::Args;
use sha2::{Digest as _, Sha256};
use tensorgate_policy::hex;

use crate::Failure;
use crate::handler::build::build;
use crate::handler::project::Project;
use crate::ui::Ui;

/// Build a project's component, without a network.
#[derive(Args)]
#[command(
    after_help = "Rust: the same sources and compiler make the same bytes. Python and JavaScript: each build has another digest, because their runtimes are started while they are built; ship what was built and tested.\n\nExample: tensorgate handler build scale"
)]
pub struct Build {
    /// The project's folder.
    #[arg(default_value = ".")]
    project: PathBuf,
}

impl Build {
    /// Builds.
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
