//! Rules of request parameters in the policy document.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::number::{Bytes, Within};
use super::openai::MaxItems;

/// Maximum size of a text or of one of listed strings, as in the decoders.
pub(crate) const MAX_STRING_BYTES: u64 = 4096;

/// Type and bounds of a parameter: exactly one of `int`, `float`, `bool`, `one_of`, `text` and
/// `object`, or `int` and `text` together. `max_items` beside a scalar makes it a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ParameterRule {
    /// An integer in `[least, greatest]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub int: Option<(i64, i64)>,
    /// A finite number in `[least, greatest]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub float: Option<(f64, f64)>,
    /// A boolean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bool: Option<bool>,
    /// One of these strings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<String>>,
    /// A short text. For OpenAI's `metadata`, each of its values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<TextRule>,
    /// With `openai`: an object, by its members' names, such as `{enable_thinking: {bool: true}}`.
    /// Each may be absent, and others are rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<BTreeMap<String, ParameterRule>>,
    /// With `openai`: a list of at most so many, each within the rule beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_items: Option<MaxItems>,
}

/// A short text without control characters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TextRule {
    /// Maximum size.
    pub max_bytes: Option<Within<1, MAX_STRING_BYTES, Bytes>>,
    /// Pattern that the whole text matches; any text by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}
