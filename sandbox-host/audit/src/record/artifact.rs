//! Records about artifacts: models, handlers and policies that the host loads. They say which
//! content was in use from when on, who signed it, and what was rejected.

use serde::{Deserialize, Serialize};
use tensorgate_policy::values::safe_text::printable_prefix;

use super::text::{MAX_DETAIL_BYTES, MAX_NAME_BYTES};
use crate::key::hex;

/// What happened to an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactAction {
    /// Its files were scanned, and all of them are safe.
    Scanned,
    /// Its content matches its digest, its manifest or its signature.
    Verified,
    /// It was not taken into use, because a scan or a verification found a fault.
    Rejected,
    /// It is in use from here on.
    Loaded,
    /// It is not used for new requests from here on.
    Unloaded,
}

impl ArtifactAction {
    /// The name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scanned => "scanned",
            Self::Verified => "verified",
            Self::Rejected => "rejected",
            Self::Loaded => "loaded",
            Self::Unloaded => "unloaded",
        }
    }
}

/// The kind of an artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArtifactKind {
    /// The files of a model.
    Model,
    /// The component of a handler.
    Handler,
    /// A policy.
    Policy,
}

impl ArtifactKind {
    /// The name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Handler => "handler",
            Self::Policy => "policy",
        }
    }
}

/// A change of an artifact. Absent fields are unknown or do not apply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRecord {
    /// `scanned`, `verified`, `rejected`, `loaded` or `unloaded`.
    pub action: ArtifactAction,
    /// `model`, `handler` or `policy`.
    pub kind: ArtifactKind,
    /// The name of a model or of a handler in the policy. For a policy, its version.
    pub name: String,
    /// The model's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The SHA-256 digest, 64 hex digits: of a handler's component, of a policy, or the root digest
    /// of a model's manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The signer whose signature was verified: the name of a key or of an identity in the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// Why it was rejected, or what is unusual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl ArtifactRecord {
    /// Creates a record. Long names are shortened.
    pub fn new(action: ArtifactAction, kind: ArtifactKind, name: &str) -> Self {
        Self {
            action,
            kind,
            name: printable_prefix(name, MAX_NAME_BYTES),
            version: None,
            digest: None,
            signer: None,
            detail: None,
        }
    }

    /// Sets the model's version.
    #[must_use]
    pub fn with_version(self, version: &str) -> Self {
        Self {
            version: Some(printable_prefix(version, MAX_NAME_BYTES)),
            ..self
        }
    }

    /// Sets the digest.
    #[must_use]
    pub fn with_digest(self, digest: &[u8; 32]) -> Self {
        Self {
            digest: Some(hex(digest)),
            ..self
        }
    }

    /// Sets the signer.
    #[must_use]
    pub fn with_signer(self, signer: &str) -> Self {
        Self {
            signer: Some(printable_prefix(signer, MAX_NAME_BYTES)),
            ..self
        }
    }

    /// Sets the detail.
    #[must_use]
    pub fn with_detail(self, detail: &str) -> Self {
        Self {
            detail: Some(printable_prefix(detail, MAX_DETAIL_BYTES)),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_names_of_actions_and_kinds_are_those_in_records() {
        use ArtifactAction::{Loaded, Rejected, Scanned, Unloaded, Verified};
        for action in [Scanned, Verified, Rejected, Loaded, Unloaded] {
            assert_eq!(serde_json::to_value(action).unwrap(), action.name());
        }
        for kind in [
            ArtifactKind::Model,
            ArtifactKind::Handler,
            ArtifactKind::Policy,
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
