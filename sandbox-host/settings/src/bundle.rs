//! Reads compiled policies.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tensorgate_base::files::{at_most, open};
use tensorgate_policy::compiled::MAX_BYTES;
use tensorgate_policy::{Compiled, Fault, HostTarget, LoadFault, Policy};

/// The name of the file with a host's policy, as `render` and `up` write it.
pub const FILE: &str = "bundle.bin";
/// Maximum size of the file, in bytes. How a policy is taken over comes on top of the policy.
const MAX_FILE_BYTES: usize = 2 * MAX_BYTES;

/// A policy, with the version that gates sign.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The policy.
    pub policy: Arc<Policy>,
    /// The version of the policy.
    pub generation: String,
    /// SHA-256 of its canonical JSON, which distinguishes two policies of the same version.
    pub digest: [u8; 32],
    /// How it is taken over.
    pub target: HostTarget,
    /// Warnings of its validation.
    pub warnings: Vec<Fault>,
}

impl Candidate {
    /// Logs the warnings.
    pub fn log_warnings(&self) {
        for warning in &self.warnings {
            tracing::warn!(warning = warning.to_string(), "policy");
        }
    }
}

/// Why a policy or a file of it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file cannot be read.
    #[error("cannot read {path}: {cause}")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The error.
        cause: String,
    },
    /// The file has no compiled policy for a host of this release.
    #[error("{path} {fault}")]
    Load {
        /// The path of the file.
        path: PathBuf,
        /// The error.
        fault: LoadFault,
    },
    /// The policy has no version.
    #[error("{0} has no generation: render it again")]
    NoGeneration(PathBuf),
    /// A component path leads outside its folder.
    #[error("component {0:?} is not a relative path below its folder")]
    ComponentPath(String),
}

/// Reads a compiled policy.
pub fn bundle(path: &Path) -> Result<Candidate, BundleError> {
    read_bundle(path, &opened(path)?)
}

/// Reads a compiled policy from its opened file.
pub fn read_bundle(path: &Path, file: &File) -> Result<Candidate, BundleError> {
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    let bytes = read_opened(path, file, limit)?;
    let candidate = Compiled::load(&bytes).and_then(Candidate::try_from);
    let candidate = candidate.map_err(|fault| BundleError::Load {
        path: path.to_owned(),
        fault,
    })?;
    if candidate.generation.is_empty() {
        return Err(BundleError::NoGeneration(path.to_owned()));
    }
    Ok(candidate)
}

impl TryFrom<Compiled> for Candidate {
    type Error = LoadFault;

    fn try_from(compiled: Compiled) -> Result<Self, LoadFault> {
        Ok(Self {
            target: compiled.target.host()?,
            policy: Arc::new(compiled.policy),
            generation: compiled.generation,
            digest: compiled.digest,
            warnings: compiled.warnings,
        })
    }
}

/// Reads a regular file within a size limit.
pub fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, BundleError> {
    read_opened(path, &opened(path)?, max_bytes)
}

fn opened(path: &Path) -> Result<File, BundleError> {
    open(path).map_err(|error| unreadable(path, error))
}

/// Reads an opened file, as [`read`] does.
fn read_opened(path: &Path, file: &File, max_bytes: u64) -> Result<Vec<u8>, BundleError> {
    let failed = |error: io::Error| unreadable(path, error);
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(unreadable(path, "not a regular file"));
    }
    at_most(file, max_bytes)
        .map_err(failed)?
        .ok_or_else(|| unreadable(path, format!("larger than {max_bytes} bytes")))
}

fn unreadable(path: &Path, cause: impl ToString) -> BundleError {
    BundleError::File {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}
