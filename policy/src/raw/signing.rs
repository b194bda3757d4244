//! Keys that sign components.

use alloc::string::String;

use serde::{Deserialize, Serialize};

/// A signer, by public key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SigningKey {
    /// An Ed25519 public key, 64 lower-case hex digits.
    pub ed25519: Option<String>,
}
