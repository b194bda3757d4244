//! Models that serve the guardrail contract of Agent Router.

use serde::{Deserialize, Serialize};

use super::ByteSize;

/// Instead of a backend, inputs and outputs: the model's preprocess handlers answer Agent Router's
/// `POST /analyze`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Guardrail {
    /// The path; requests are POSTs to it. `/analyze` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Maximum size of the text, and of its replacement; 64 KiB by default, and at most 128 bytes
    /// less than the listener's `body_bytes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_text_bytes: Option<ByteSize>,
}
