//! The `handler build` verb: builds a project's component, prints its digest, and writes it into a
//! policy.

use std::path::PathBuf;

use clap::Args;
use sha2::{Digest as _, Sha256};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;
use tensorgate_policy::hex;

use crate::build::build;
use crate::pin::Pin;
use crate::project::Project;

/// Build a project's component, without a network.
#[derive(Args)]
#[command(
    after_help = "Rust: the same sources and compiler give the same bytes. Python and JavaScript: the same files give the bytes of their last build on this machine, as long as your cache folder has it. Every other build has a different digest, because their runtimes are started during the build. Ship the build that you tested.\n\n--into changes the path and the digest of the handler in a policy, or adds the handler, and nothing else of the file.\n\nExample: tensorgate handler build scale --into gate.yaml"
)]
pub struct Build {
    /// Project folder.
    #[arg(default_value = ".")]
    project: PathBuf,
    /// Run the tools for Python and JavaScript even if your cache folder has their output for these
    /// files.
    #[arg(long)]
    no_cache: bool,
    /// Write the component's path and digest into this policy.
    #[arg(long, value_name = "GATE_YAML")]
    into: Option<PathBuf>,
    /// Name of the handler in the policy (default: the project's name).
    #[arg(long, value_name = "NAME", requires = "into")]
    name: Option<String>,
}

impl Build {
    /// Builds the component.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let project = Project::open(&self.project)?;
        // Before the build, which may take a minute.
        let pin = self.pin(&project)?;
        let component = build(&project, !self.no_cache)?;
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
        pin.map_or(Ok(()), |pin| write(&pin, &sha256, ui))
    }

    /// The entry of the policy that names the component.
    fn pin(&self, project: &Project) -> Result<Option<Pin>, Failure> {
        let Some(policy) = &self.into else {
            return Ok(None);
        };
        let name = self.name.as_deref().unwrap_or(&project.name);
        let file = project.component();
        let component = file.strip_prefix(&project.folder).unwrap_or(&file);
        let is_named = self.name.is_some();
        Pin::new(policy, name, is_named, (&project.folder, component)).map(Some)
    }
}

/// Writes the digest into the policy.
fn write(pin: &Pin, sha256: &str, ui: &Ui) -> Result<(), Failure> {
    let changed = pin.write(sha256)?;
    let (policy, handler) = (pin.policy().display().to_string(), pin.name());
    if ui.json {
        ui.json_line(
            &serde_json::json!({"policy": policy, "handler": handler, "changed": changed}),
        );
    } else {
        let already = if changed { "" } else { " already" };
        ui.line(&format!(
            "{policy}: handler {handler} has this sha256{already}"
        ));
    }
    Ok(())
}
