//! `check`: every fault of a policy at once. Decides nothing: the faults are the loader's and the core's.

use std::path::{Path, PathBuf};

use clap::Args;

use tensorgate_policy::Policy;
use tensorgate_policy::raw::KeyFormat;

use crate::Failure;
use crate::load::load;
use crate::ui::Ui;

/// Report every fault of a policy at once, with its place and a fix.
#[derive(Args)]
#[command(
    after_help = "Exits 0 if the policy can be enforced (warnings or not), 2 if not. Signatures that handlers must have are verified; components are not read. Certificates, keys and passwords in files are, as `up` and the host read them: \
--no-files leaves them alone.\n\nExample: tensorgate check gate.yaml --json"
)]
pub struct Check {
    /// The policy.
    #[arg(value_name = "GATE_YAML")]
    file: PathBuf,
    /// Leave files of certificates, keys and passwords alone: for a machine that has none of them.
    #[arg(long)]
    no_files: bool,
}

impl Check {
    /// Checks it.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let root = self.file.parent().unwrap_or_else(|| Path::new(""));
        let mut loaded = load(&self.file)?.signed(root)?;
        if !self.no_files {
            loaded = loaded.fitting(root)?;
        }
        ui.faults(&loaded.source, &loaded.warnings);
        if !ui.json {
            let warnings = match loaded.warnings.len() {
                0 => String::new(),
                1 => ", 1 warning".into(),
                count => format!(", {count} warnings"),
            };
            let files = match loaded.read.len() {
                0 => String::new(),
                1 => ", with 1 file that it names".into(),
                count => format!(", with {count} files that it names"),
            };
            let keys = keys(&loaded.policy);
            ui.line(&format!(
                "{}: ok, generation {}{files}{keys}{warnings}",
                self.file.display(),
                loaded.bundle.generation
            ));
        }
        Ok(())
    }
}

/// How many API keys a policy has, and how they must look: a digest does not show it.
fn keys(policy: &Policy) -> String {
    let all = || policy.clients().iter().flat_map(|client| client.api_keys());
    let any = all().filter(|key| key.format() == KeyFormat::Any).count();
    match (all().count(), any) {
        (0, _) => String::new(),
        (1, 0) => ", 1 API key (made by tensorgate: tg_…)".into(),
        (1, _) => ", 1 API key (of any format)".into(),
        (count, 0) => format!(", {count} API keys (made by tensorgate: tg_…)"),
        (count, any) if any == count => format!(", {count} API keys (of any format)"),
        (count, any) => {
            let own = count.saturating_sub(any);
            format!(", {count} API keys ({own} made by tensorgate: tg_…, {any} of any format)")
        }
    }
}
