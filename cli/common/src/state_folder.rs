//! The state folder of a gate: an option, an environment variable, or the folder of the user.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::Failure;
use crate::user_folders;

/// The host's log in a state folder.
pub const HOST_LOG: &str = "host.log";

/// How to name a state folder.
#[derive(Args)]
pub struct StateFolder {
    /// State folder of the gate (default: the one of `up`).
    #[arg(long, value_name = "DIR", env = "TENSORGATE_STATE")]
    state: Option<PathBuf>,
}

impl StateFolder {
    /// The named folder, if one is named.
    pub fn named(&self) -> Option<&Path> {
        self.state.as_deref()
    }

    /// The named folder, or the default.
    ///
    /// # Errors
    /// No folder is named, and the user has no home.
    pub fn find(&self) -> Result<PathBuf, Failure> {
        let folder = self.state.clone().or_else(user_folders::state);
        folder.ok_or_else(|| {
            Failure::Input("HOME is not set: name the state folder with --state".into())
        })
    }
}
