//! A checked document of the OpenAI API on its way to the backend: encoded anew, with the limits
//! for its response.

use bytes::Bytes;
use http::HeaderMap;
use tensorgate_policy::Policy;
use tensorgate_policy::contract::openai::rebuild;
use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::json::{Members, Value};
use tensorgate_policy::policy::{Accepts, ModelId};
use tensorgate_policy::request::Api;
use tensorgate_wire::openai::to_json;

/// The document for the backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The API path.
    pub api: Api,
    /// The encoded body.
    pub json: Bytes,
    /// The most choices or embeddings in the response.
    pub choices: usize,
    /// The most choices that may be generated, including those from which the best are chosen.
    pub generated: usize,
    /// The most tokens of each choice. `None` if nothing is generated.
    pub max_tokens: Option<u64>,
    /// The most likely tokens at each position. `None` if no log probabilities were requested.
    pub likely: Option<usize>,
    /// Whether the response is streamed.
    pub stream: bool,
    /// Whether the caller requested usage in a streamed response.
    pub include_usage: bool,
    /// The claims of the caller's token, as header fields that the policy names.
    pub claims: HeaderMap,
}

impl Document {
    /// Encodes a document that was checked under a policy. Returns `None` for other kinds of
    /// bodies.
    pub fn from_body(
        policy: &Policy,
        model: ModelId,
        format: BodyFormat,
        members: Members<'_>,
        claims: &HeaderMap,
    ) -> Option<Self> {
        let BodyFormat::OpenAi(api) = format else {
            return None;
        };
        let model = policy.model(model)?;
        let Accepts::OpenAi(rules) = model.accepts() else {
            return None;
        };
        let options = tensorgate_policy::json::member(&members, "stream_options");
        let include_usage = options.and_then(|options| options.get("include_usage"));
        let include_usage = include_usage == Some(&Value::Bool(true));
        let document = rebuild(rules, api, model.backend_model(), members);
        let number = |name| match document.get(name) {
            Some(Value::Int(number)) => u64::try_from(*number).ok(),
            _ => None,
        };
        let asked = match api {
            Api::Chat => None,
            Api::Completions => document.get("prompt"),
            Api::Embeddings => document.get("input"),
        };
        let texts = asked.and_then(Value::as_array).map_or(1, <[_]>::len);
        let small = |name| number(name).and_then(|number| usize::try_from(number).ok());
        let n = small("n").unwrap_or(1);
        let likely = match api {
            Api::Chat if document.get("logprobs") == Some(&Value::Bool(true)) => {
                Some(small("top_logprobs").unwrap_or(0))
            }
            Api::Completions => small("logprobs"),
            Api::Chat | Api::Embeddings => None,
        };
        Some(Self {
            api,
            choices: texts.saturating_mul(n),
            generated: texts.saturating_mul(n.max(small("best_of").unwrap_or(1))),
            max_tokens: number("max_tokens"),
            likely,
            stream: document.get("stream") == Some(&Value::Bool(true)),
            include_usage,
            claims: claims.clone(),
            json: Bytes::from(to_json(&document)),
        })
    }
}
