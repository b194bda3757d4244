//! Which calls of handlers are kept.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use super::ByteSize;

/// Calls of handlers that are kept, to be run again. Each holds what a client sent, and is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Capture {
    /// Where they lie, a folder of its owner's alone.
    pub folder: Option<String>,
    /// A file with 64 hex digits, of its owner's alone.
    pub key_file: Option<String>,
    /// Of which models; of all unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Of whose requests; of everybody's unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<String>,
    /// How they ended: `answered`, `rejected`, `fault`; `fault` unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<String>,
    /// One request in so many; every one unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_in: Option<u64>,
    /// The largest call, what was brought for it included; 1 MiB unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<ByteSize>,
    /// Calls that are kept at most; the oldest goes first. 1000 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<u64>,
}
