//! The policy file of a verb: an argument, `-c`, or `gate.yaml` in the current folder.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::Failure;

/// File name of a policy that no argument names.
pub const DEFAULT: &str = "gate.yaml";

/// The two ways to name a policy.
#[derive(Args)]
pub struct PolicyFile {
    /// Policy file; `gate.yaml` in the current folder by default.
    #[arg(value_name = "GATE_YAML", conflicts_with = "config")]
    policy: Option<PathBuf>,
    /// Policy file, as an option.
    #[arg(short = 'c', long = "config", value_name = "GATE_YAML")]
    config: Option<PathBuf>,
}

impl PolicyFile {
    /// The named file, if one is named.
    pub fn named(&self) -> Option<PathBuf> {
        self.policy.clone().or_else(|| self.config.clone())
    }

    /// The named file, or the default.
    pub fn find(&self) -> Result<PathBuf, Failure> {
        or_default(self.named())
    }
}

/// The named file, or the default if it exists.
pub fn or_default(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    named.or_else(default).ok_or_else(|| {
        Failure::Input(format!(
            "this folder has no {DEFAULT}: name a policy, or write one with `tensorgate init`"
        ))
    })
}

/// The default file, if it exists.
pub fn default() -> Option<PathBuf> {
    let file = Path::new(DEFAULT);
    file.exists().then(|| file.to_owned())
}
