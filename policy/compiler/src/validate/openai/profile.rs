//! The profile `sdk`: members that OpenAI's SDKs and agents send, with their bounds.
//!
//! | member | bound | why no more |
//! |---|---|---|
//! | `logprobs` | 5 alternatives | more help to copy a model; the API allows 20 |
//! | `store` | `false` | a stored answer could be read by others with the backend's key |
//! | `service_tier` | no `priority` | it costs more |
//! | texts | 256 bytes, no control characters | they name a user or a cache, and servers log them |
//!
//! Members that steer single tokens (`logit_bias`) and objects other than `metadata` are not part
//! of it.

use tensorgate_policy::contract::openai::METADATA;
use tensorgate_policy::contract::{ParameterBound, TextBound};

/// Maximum stop sequences; the API's own limit.
pub(super) const SDK_STOP: u64 = 4;
/// Maximum alternative tokens.
pub(super) const SDK_LOGPROBS: u64 = 5;
/// The response format that a policy without formats allows.
pub(super) const SDK_FORMAT: &str = "text";
/// Maximum size of a name of a user or cache. The API allows 64 characters.
const MAX_NAME_BYTES: usize = 256;
/// Maximum size of a value of `metadata`; the API's own limit.
const MAX_VALUE_BYTES: usize = 512;
/// Maximum dimensions of an embedding: more than known models have.
const MAX_DIMENSIONS: i64 = 8_192;

/// Members without a rule of their own under `openai`.
pub(super) fn sdk_members() -> [(&'static str, ParameterBound); 15] {
    let text = |max_bytes| {
        ParameterBound::Text(TextBound {
            max_bytes,
            pattern: None,
        })
    };
    let one_of = |words: &[&str]| {
        let words: Vec<_> = words.iter().map(|word| (*word).into()).collect();
        ParameterBound::OneOf(words)
    };
    let efforts = ["none", "minimal", "low", "medium", "high", "xhigh"];
    [
        ("temperature", ParameterBound::Float(0.0, 2.0)),
        ("top_p", ParameterBound::Float(0.0, 1.0)),
        ("presence_penalty", ParameterBound::Float(-2.0, 2.0)),
        ("frequency_penalty", ParameterBound::Float(-2.0, 2.0)),
        ("seed", ParameterBound::Int(i64::MIN, i64::MAX)),
        ("dimensions", ParameterBound::Int(1, MAX_DIMENSIONS)),
        ("parallel_tool_calls", ParameterBound::Bool),
        ("store", ParameterBound::False),
        ("reasoning_effort", one_of(&efforts)),
        ("verbosity", one_of(&["low", "medium", "high"])),
        ("service_tier", one_of(&["auto", "default", "flex"])),
        ("user", text(MAX_NAME_BYTES)),
        ("prompt_cache_key", text(MAX_NAME_BYTES)),
        ("safety_identifier", text(MAX_NAME_BYTES)),
        (METADATA, text(MAX_VALUE_BYTES)),
    ]
}
