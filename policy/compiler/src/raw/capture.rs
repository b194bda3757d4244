//! Captured handler calls.

use serde::{Deserialize, Serialize};
use tensorgate_policy::values::CallOutcome;

use super::ByteSize;
use super::number::{Bytes, Calls, Number, Requests};

/// Maximum size of a captured call, in bytes.
pub(crate) const MAX_CALL_BYTES: u64 = 64 << 20;

/// Captured handler calls for replay. They contain client data and are encrypted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Capture {
    /// Folder of the captures, private to its owner; the host creates it.
    pub folder: Option<String>,
    /// Private key file with one key per line, 64 hex digits each: the first encrypts, the others
    /// are older.
    pub key_file: Option<String>,
    /// Models; all if absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Clients; all if absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<String>,
    /// Outcomes of calls; `fault` by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<CallOutcome>,
    /// Sampling: one request in so many; every one by default.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub one_in: Number<1, 1_000_000_000, 1, Requests>,
    /// Maximum size of a call: input, fetched resources and output.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub max_bytes: Number<1, MAX_CALL_BYTES, { 1 << 20 }, Bytes>,
    /// Maximum number of captures; the oldest are deleted.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub keep: Number<1, 10_000, 1_000, Calls>,
    /// Maximum disk space; the oldest are deleted. 256 MiB by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_bytes: Option<ByteSize>,
}
