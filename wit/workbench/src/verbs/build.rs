//! The `handler build` verb: builds a project's component, prints its digest, and writes it into a
//! policy. For development, it does so after each change.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use sha2::{Digest as _, Sha256};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_policy::hex;
use tensorgate_sandbox::{LoadedHandler, Sandbox};

use crate::build::build;
use crate::dev;
use crate::pin::Pin;
use crate::project::Project;
use crate::runner::development_sandbox;
use crate::watch::Snapshot;

/// Build a project's component, without a network.
#[derive(Args)]
#[command(
    after_help = "Rust: the same sources and compiler give the same bytes. Python and JavaScript: the same files give the bytes of their last build on this machine, as long as your cache folder has it. Every other build has a different digest, because their runtimes are started during the build. Ship the build that you tested.\n\n--into changes the path and the digest of the handler in a policy, or adds the handler, and nothing else of the file.\n\nWith --dev, the component is at build/NAME.dev.wasm. That of JavaScript takes a second: it is a runtime that loads your files in each call. Only `tensorgate up --dev` loads it, and follows the project by itself. Build without --dev before you ship.\n\nExample: tensorgate handler build scale --into gate.yaml"
)]
pub struct Build {
    /// Project folder.
    #[arg(default_value = ".")]
    project: PathBuf,
    /// Run the tools for Python and JavaScript even if your cache folder has their output for these
    /// files.
    #[arg(long)]
    no_cache: bool,
    /// Build for development: quick, and only for `tensorgate up --dev`.
    #[arg(long, conflicts_with = "no_cache")]
    dev: bool,
    /// With --dev: build again whenever a file of the project changes, until Ctrl-C.
    #[arg(long, requires = "dev")]
    watch: bool,
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
        if self.dev {
            return self.develop(ui);
        }
        let project = Project::open(&self.project)?;
        // Before the build, which may take a minute.
        let pin = self.pin(&project, &project.component())?;
        let component = build(&project, !self.no_cache, ui)?;
        print(ui, &project.component(), &component);
        let sha256 = hex(&Sha256::digest(&component));
        pin.map_or(Ok(()), |pin| write(&pin, &sha256, ui))
    }

    /// Builds for development, once or after each change. A build that fails is printed, and the
    /// next change may mend it.
    fn develop(&self, ui: &Ui) -> Result<(), Failure> {
        let sandbox = development_sandbox().map_err(Failure::Failed)?;
        let take = || Snapshot::take(&self.project, None);
        let mut files = take()?;
        let mut runtime = None;
        loop {
            let outcome = self.develop_once(ui, &sandbox, &mut runtime);
            if !self.watch {
                return outcome;
            }
            if let Err(failure) = outcome {
                let _ = ui.failure(&failure);
                let folder = printable(&self.project.display().to_string());
                ui.note(&format!(
                    "note: {folder} does not build; its last build, if there is one, still answers"
                ));
            }
            files = files.changed(take)?;
        }
    }

    /// Builds once. `runtime` is that of the last build, and becomes that of this one.
    fn develop_once(
        &self,
        ui: &Ui,
        sandbox: &Sandbox,
        runtime: &mut Option<LoadedHandler>,
    ) -> Result<(), Failure> {
        let started = Instant::now();
        let project = Project::open(&self.project)?;
        let file = dev::path(&project);
        let pin = self.pin(&project, &file)?;
        let built = dev::build_file(&project, sandbox, ui)?;
        *runtime = built.runtime;
        print(ui, &file, &built.component);
        if !ui.json {
            let seconds = started.elapsed().as_secs_f64();
            ui.line(&format!("{} built in {seconds:.1} s", project.name));
        }
        let sha256 = hex(&Sha256::digest(&built.component));
        pin.map_or(Ok(()), |pin| write(&pin, &sha256, ui))
    }

    /// The entry of the policy that names the component.
    fn pin(&self, project: &Project, file: &Path) -> Result<Option<Pin>, Failure> {
        let Some(policy) = &self.into else {
            return Ok(None);
        };
        let name = self.name.as_deref().unwrap_or(&project.name);
        let component = file.strip_prefix(&project.folder).unwrap_or(file);
        let is_named = self.name.is_some();
        Pin::new(policy, name, is_named, (&project.folder, component)).map(Some)
    }
}

/// Prints a component's path, size and digest.
fn print(ui: &Ui, file: &Path, component: &[u8]) {
    let (file, sha256) = (file.display().to_string(), hex(&Sha256::digest(component)));
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
