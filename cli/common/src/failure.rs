//! Why a verb did not succeed, which decides its exit code.

use crate::load_error::LoadError;

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
    Load(#[from] LoadError),
}
