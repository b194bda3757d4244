//! The state folder of a gate: an option, an environment variable, the one of the last gate with
//! the policy, or the folder of the user.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::Failure;
use crate::{last_gate, policy_file, user_folders};

/// The host's log in a state folder.
pub const HOST_LOG: &str = "host.log";

/// How to name a state folder.
#[derive(Args)]
pub struct StateFolder {
    /// State folder of the gate (default: that of the last `up` with this policy, or else the one
    /// of the user).
    #[arg(long, value_name = "DIR", env = "TENSORGATE_STATE")]
    state: Option<PathBuf>,
}

impl StateFolder {
    /// The named folder, if one is named.
    pub fn named(&self) -> Option<&Path> {
        self.state.as_deref()
    }

    /// The folder of the gate of the current folder's policy.
    ///
    /// # Errors
    /// No folder is named, and the user has no home.
    pub fn find(&self) -> Result<PathBuf, Failure> {
        self.find_for(None)
    }

    /// The named folder, or that of the last gate with a policy, or the default. Without a policy,
    /// that of the current folder counts.
    ///
    /// # Errors
    /// No folder is named, and the user has no home.
    pub fn find_for(&self, policy: Option<&Path>) -> Result<PathBuf, Failure> {
        let of_last = || {
            let policy = policy.map(Path::to_owned).or_else(policy_file::default)?;
            last_gate::find(&policy)
        };
        let folder = self.state.clone().or_else(of_last);
        let folder = folder.or_else(user_folders::state);
        folder.ok_or_else(|| {
            Failure::Input("HOME is not set: name the state folder with --state".into())
        })
    }
}
