//! The profile `sdk`: members that OpenAI's SDKs and agents send, with their bounds.
//!
//! | member | bound | why no more |
//! |---|---|---|
//! | `logprobs` | 5 alternatives | more help to copy a model; the API allows 20 |
//! | `store` | `false` | a stored answer could be read by others with the backend's key |
//! | `service_tier` | `auto`, `default`, `flex` | the others cost more |
//! | `modalities` | `text` | answers have no audio |
//! | texts | 256 bytes, no control characters | they name a user or a cache, and servers log them |
//!
//! Members that steer single tokens (`logit_bias`) are not part of it.
//! `tests/clients/of_sdk_types.py` compares it with the types of a pinned SDK, and says of each
//! member and value that is left out why it is.

use tensorgate_policy::contract::openai::METADATA;
use tensorgate_policy::contract::{ParameterBound, TextBound};

/// Maximum stop sequences; the API's own limit.
pub(super) const SDK_STOP: u64 = 4;
/// Maximum alternative tokens.
pub(super) const SDK_LOGPROBS: u64 = 5;
/// Maximum size of the schema of a response, for a policy without response formats.
pub(super) const SDK_SCHEMA_BYTES: u64 = 8 << 10;
/// Maximum size of a name of a user or cache. The API allows 64 characters.
const MAX_NAME_BYTES: usize = 256;
/// Maximum size of a value of `metadata`; the API's own limit.
const MAX_VALUE_BYTES: usize = 512;
/// Maximum dimensions of an embedding: more than known models have.
const MAX_DIMENSIONS: i64 = 8_192;

/// Members without a rule of their own under `openai`.
pub(super) fn sdk_members() -> [(&'static str, ParameterBound); 18] {
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
    let modalities = ParameterBound::List(1, Box::new(one_of(&["text"])));
    let cache_options = ParameterBound::Object(vec![
        ("mode".into(), one_of(&["implicit", "explicit"])),
        ("ttl".into(), one_of(&["30m"])),
    ]);
    let efforts = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
    // The second one is the name of the first in earlier SDKs.
    let retentions = ["in_memory", "in-memory", "24h"];
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
        ("prompt_cache_retention", one_of(&retentions)),
        ("prompt_cache_options", cache_options),
        ("modalities", modalities),
        ("safety_identifier", text(MAX_NAME_BYTES)),
        (METADATA, text(MAX_VALUE_BYTES)),
    ]
}
