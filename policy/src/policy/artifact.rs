//! The files of a model, and who vouches for them. The host compares the files with this before
//! the model is ready.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::{CodeKind, FileExceptions, ModelFormat, Shared, getters};

/// The files of a model or of one of its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelArtifact {
    pub path: String,
    pub trust: ArtifactTrust,
    pub formats: Option<Vec<ModelFormat>>,
    pub allow: Vec<CodeKind>,
    pub exceptions: FileExceptions,
}

getters! { ModelArtifact {
    /// A file or folder, relative to the policy.
    path: &str,
    /// Who vouches for the files.
    trust: &ArtifactTrust,
    /// Allowed formats; `None` for every format that the scan calls safe.
    formats: Option<&[ModelFormat]>,
    /// Allowed kinds of code.
    allow: &[CodeKind],
    /// Files that are accepted although they are not safe.
    exceptions: &FileExceptions,
} }

/// Who vouches for the files of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArtifactTrust {
    /// The policy itself, by the digest of a manifest.
    Manifest {
        /// The manifest's file, relative to the policy, as `tensorgate model manifest` writes it.
        path: String,
        /// SHA-256 of that file.
        sha256: [u8; 32],
    },
    /// One of these signers.
    Signed {
        /// Signers by their names in the policy, at least one.
        keys: BTreeMap<String, ModelSigner>,
        /// The signature's file, relative to the policy. If absent, it is `model.sig` in a folder,
        /// or has the name of a single file with `.sig` at the end.
        signature: Option<String>,
        /// The name that the signature must give the model.
        subject: Option<String>,
        /// The earliest time at which it may have been signed, in seconds since 1970.
        not_before_unix_s: Option<u64>,
    },
}

/// Who may sign a model. The PEM texts have the right labels; the host parses their contents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ModelSigner {
    /// The owner of an Ed25519 public key.
    Ed25519([u8; 32]),
    /// The owner of a public key: one PEM block `PUBLIC KEY`.
    PublicKey(String),
    /// The owner of any signing certificate below these roots: PEM blocks `CERTIFICATE`.
    Certificates(String),
    /// A Sigstore identity.
    Identity {
        /// Its mail address or URI.
        identity: String,
        /// The URL of the provider that vouches for it.
        provider: String,
        /// The trusted root, JSON.
        trusted_root: String,
    },
}

/// The artifacts of a model's versions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ModelArtifacts {
    /// Artifact of every version that has no own one.
    pub common: Option<Shared<ModelArtifact>>,
    /// Own artifacts of versions.
    pub by_version: BTreeMap<String, Shared<ModelArtifact>>,
}

impl ModelArtifacts {
    /// The artifact of a version: its own one, or the model's.
    pub(crate) fn of(&self, version: &str) -> Option<&Shared<ModelArtifact>> {
        self.by_version.get(version).or(self.common.as_ref())
    }
}
