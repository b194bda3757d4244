//! What a policy may say of a model that answers one message any number of times.

use serde::{Deserialize, Serialize};

use super::ByteSize;

/// A decoupled model, as Triton calls one: it answers one message of a stream any number of times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Decoupled {
    /// Answers to one message, at most.
    pub max_answers: Option<u64>,
    /// All answers to one message together, as the backend sends them.
    pub max_bytes: Option<ByteSize>,
    /// Between two answers, milliseconds; the listener's `timeout_ms` if it is left out, and no more than that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_ms: Option<u64>,
    /// From a message to its last answer, milliseconds; the listener's `timeout_ms` if it is left out, and no more than its `stream_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ms: Option<u64>,
}
