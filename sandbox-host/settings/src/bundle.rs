//! Reads and checks policy bundles.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tensorgate_base::files::{at_most, open};
use tensorgate_policy::fault::in_one_line;
use tensorgate_policy::{Bundle, Fault, Policy, raw};

/// The largest bundle in bytes. A policy with thousands of models has a few MiB.
const MAX_BUNDLE_BYTES: u64 = 64 << 20;

/// A valid policy, with the version that gates sign.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The policy.
    pub policy: Arc<Policy>,
    /// The version of the policy.
    pub generation: String,
    /// The SHA-256 digest of its canonical JSON, which distinguishes two policies of the same
    /// version.
    pub digest: [u8; 32],
    /// The version that this one restricts, or is identical to.
    pub tightens: Option<String>,
    /// If present, it is held back while it would make a ready model unready. Models of this list
    /// do not count.
    pub hold: Option<Vec<String>>,
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
    /// The file is not a bundle.
    #[error("{path} is not a policy bundle: {cause}")]
    Bundle {
        /// The path of the file.
        path: PathBuf,
        /// The error.
        cause: String,
    },
    /// The policy has faults.
    #[error("the policy cannot be enforced: {}", in_one_line(.0))]
    Policy(Vec<Fault>),
    /// The policy has no canonical form.
    #[error("the policy cannot be written as json: {0}")]
    Canonical(String),
    /// A component path leads outside its folder.
    #[error("component {0:?} is not a relative path below its folder")]
    ComponentPath(String),
}

/// Reads and validates a bundle. Warnings are logged.
pub fn bundle(path: &Path) -> Result<Candidate, BundleError> {
    candidate(&read_bundle(path, &opened(path)?)?)
}

/// Reads a bundle from its opened file. Its policy is not validated.
pub fn read_bundle(path: &Path, file: &File) -> Result<Bundle, BundleError> {
    let json = read_opened(path, file, MAX_BUNDLE_BYTES)?;
    let bundle: Bundle = serde_json::from_slice(&json).map_err(|error| BundleError::Bundle {
        path: path.to_owned(),
        cause: error.to_string(),
    })?;
    if bundle.generation.is_empty() {
        return Err(BundleError::Bundle {
            path: path.to_owned(),
            cause: "it has no generation".to_owned(),
        });
    }
    Ok(bundle)
}

/// Validates a bundle. Warnings are logged.
pub fn candidate(bundle: &Bundle) -> Result<Candidate, BundleError> {
    let digest = canonical_digest(&bundle.policy)
        .map_err(|error| BundleError::Canonical(error.to_string()))?;
    let (policy, warnings) =
        tensorgate_policy::validate::validate(&bundle.policy).map_err(BundleError::Policy)?;
    for warning in warnings {
        tracing::warn!(warning = warning.to_string(), "policy");
    }
    Ok(Candidate {
        policy: Arc::new(policy),
        generation: bundle.generation.clone(),
        digest,
        tightens: bundle.tightens.clone(),
        hold: bundle.hold.clone(),
    })
}

/// The SHA-256 digest of a policy's canonical JSON, with every model written in full. The JSON is
/// digested as a stream, because it can be many times as large as the bundle.
///
/// # Errors
/// Returns an error if the policy has a value that JSON cannot represent.
pub fn canonical_digest(policy: &raw::Policy) -> serde_json::Result<[u8; 32]> {
    struct Digested(Sha256);
    impl io::Write for Digested {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    // The serializer writes a few bytes at a time.
    let mut to = io::BufWriter::new(Digested(Sha256::new()));
    serde_json::to_writer(&mut to, policy)?;
    let digested = to
        .into_inner()
        .map_err(|error| serde_json::Error::io(error.into_error()))?;
    Ok(digested.0.finalize().into())
}

/// Reads a regular file within a size limit.
pub(crate) fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>, BundleError> {
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
