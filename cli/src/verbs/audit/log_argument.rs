//! The arguments that name an audit log: a policy, a log, or the gate's state folder.

use std::path::{Path, PathBuf};

use clap::Args;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::state_folder::StateFolder;

use super::{log_of, log_of_policy};

/// How to name an audit log.
#[derive(Args)]
pub struct LogArgument {
    /// A policy (.yaml or .yml), a log, whose earlier closed files are read too, or `-` for lines
    /// on standard input, as `kubectl logs` prints them.
    #[arg(value_name = "GATE_YAML|LOG")]
    file: Option<PathBuf>,
    /// Policy file, with any name.
    #[arg(
        short = 'c',
        long = "config",
        value_name = "GATE_YAML",
        conflicts_with = "file"
    )]
    config: Option<PathBuf>,
    /// Audit log.
    #[arg(long, visible_alias = "log", value_name = "FILE", conflicts_with_all = ["file", "config"])]
    audit: Option<PathBuf>,
    #[command(flatten)]
    state: StateFolder,
}

impl LogArgument {
    /// The state folder of the gate whose log is meant, unless a log is named.
    pub fn gate(&self) -> Option<PathBuf> {
        let (policy, log) = self.named();
        match log {
            Some(_) => None,
            None => self.state.find_for(policy).ok(),
        }
    }

    /// The log that is meant.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn find(&self) -> Result<PathBuf, Failure> {
        match self.named() {
            (_, Some(log)) => Ok(log_of(log)),
            (policy, None) => log_of_policy(policy.map(Path::to_owned), &self.state),
        }
    }

    /// The named policy, and the named log.
    fn named(&self) -> (Option<&Path>, Option<&Path>) {
        match self.file.as_deref() {
            Some(file) if is_policy(file) => (Some(file), None),
            Some(file) => (None, Some(file)),
            None => (self.config.as_deref(), self.audit.as_deref()),
        }
    }
}

/// Whether a file is a policy and not a log.
fn is_policy(file: &Path) -> bool {
    let extension = file.extension().and_then(|it| it.to_str());
    extension.is_some_and(|it| matches!(it, "yaml" | "yml"))
}
