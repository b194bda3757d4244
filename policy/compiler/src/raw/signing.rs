//! Keys that sign components and models.

use serde::{Deserialize, Serialize};

/// A signer: exactly one of these. Components are signed with Ed25519 alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SigningKey {
    /// An Ed25519 public key, 64 lower-case hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ed25519: Option<String>,
    /// A public key that signs models, on P-256, P-384 or P-521, or of Ed25519, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// The file of such a key, relative to the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key_file: Option<String>,
    /// Root certificates, PEM. Every certificate below them that may sign code may sign models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates: Option<String>,
    /// The file of such certificates, relative to the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates_file: Option<String>,
    /// A Sigstore identity that signs models: its mail address or URI, compared exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// With `identity`: URL of the provider that vouches for it, compared exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity_provider: Option<String>,
    /// With `identity`: the trusted root of Sigstore, JSON: its authorities and logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_root: Option<String>,
    /// The file of such a trusted root, relative to the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_root_file: Option<String>,
}
