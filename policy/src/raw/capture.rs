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
    /// Where they lie, a folder of its owner's alone; the host makes it.
    pub folder: Option<String>,
    /// A file of its owner's alone with a key a line, 64 hex digits each: the first encrypts, the others are older.
    pub key_file: Option<String>,
    /// Of which models; of all unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Of whose requests; of everybody's unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<String>,
    /// How they ended; `fault` unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<CallOutcome>,
    /// One request in so many; every one unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_in: Option<u64>,
    /// The largest call: what came in, what was brought for it and what it answered. 1 MiB unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<ByteSize>,
    /// Calls that are kept at most; the oldest goes first. 1000 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<u64>,
    /// Bytes that they take on disk at most; the oldest goes first. 256 MiB unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_bytes: Option<ByteSize>,
}

/// How a handler's call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CallOutcome {
    /// With tensors that keep the contract.
    Answered,
    /// The handler said that the input is bad.
    Rejected,
    /// It broke a bound, trapped, failed, or answered what the contract does not allow.
    Fault,
}

impl core::fmt::Display for CallOutcome {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Answered => "answered",
            Self::Rejected => "rejected",
            Self::Fault => "fault",
        })
    }
}
