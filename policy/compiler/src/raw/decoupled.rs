//! Models that answer one message several times.

use serde::{Deserialize, Serialize};

use super::number::{Answers, Bytes, Within};

/// A decoupled model in Triton's sense: it answers one message of a stream any number of times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Decoupled {
    /// Maximum responses to one message.
    pub max_answers: Option<Within<1, 1_000_000, Answers>>,
    /// Maximum size of all responses to one message, as the backend sends them.
    pub max_bytes: Option<Within<1, { 1 << 40 }, Bytes>>,
    /// Maximum gap between two responses, in milliseconds; the listener's `timeout_ms` by default
    /// and at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_ms: Option<u64>,
    /// Maximum time from a message to its last response, in milliseconds; the listener's
    /// `timeout_ms` by default, at most its `stream_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ms: Option<u64>,
}
