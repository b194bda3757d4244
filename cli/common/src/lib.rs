//! What the commands share: output on the terminal, exit codes, files and folders, OCI image
//! layouts.

pub mod arguments;
pub mod bounded_file;
pub mod clock;
pub mod command_tree;
mod failure;
pub mod last_gate;
pub mod load_error;
pub mod oci_layout;
pub mod policy_file;
pub mod private_dir;
pub mod replace;
pub mod state_folder;
pub mod ui;
pub mod user_folders;

use tokio::runtime::{Builder, Runtime};

pub use failure::Failure;

/// A runtime on this thread.
///
/// # Errors
/// The system refuses it.
pub fn runtime() -> Result<Runtime, Failure> {
    (Builder::new_current_thread().enable_all().build())
        .map_err(|error| Failure::Failed(format!("cannot start: {error}")))
}
