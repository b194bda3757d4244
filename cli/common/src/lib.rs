//! What the commands share: loading a policy file, output on the terminal, exit codes, OCI image
//! layouts.

pub mod bounded_file;
pub mod command_tree;
mod inline;
pub mod lists;
pub mod load;
pub mod oci_layout;
pub mod policy_file;
pub mod private_dir;
pub mod replace;
pub mod state_folder;
pub mod trust;
pub mod ui;
pub mod user_folders;

use tokio::runtime::{Builder, Runtime};

/// Why a verb did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The verdict is negative and has been printed. Exit code 1.
    #[error("no")]
    No,
    /// Something outside the command failed. Exit code 1.
    #[error("{0}")]
    Failed(String),
    /// Invalid usage or input. Exit code 2.
    #[error("{0}")]
    Input(String),
    /// The policy cannot be loaded. Exit code 2.
    #[error(transparent)]
    Load(#[from] load::LoadError),
}

/// A runtime on this thread.
///
/// # Errors
/// The system refuses it.
pub fn runtime() -> Result<Runtime, Failure> {
    (Builder::new_current_thread().enable_all().build())
        .map_err(|error| Failure::Failed(format!("cannot start: {error}")))
}
