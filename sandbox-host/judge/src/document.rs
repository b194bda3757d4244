//! A checked document of the OpenAI API on its way to the backend: encoded anew, with the limits
//! for its response.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::HeaderMap;
use tensorgate_policy::Policy;
use tensorgate_policy::contract::openai::{AnswerLinks, OfferedCalls, Rebuilt, rebuild};
use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::json::{Members, Value};
use tensorgate_policy::policy::{Accepts, ModelId};
use tensorgate_policy::request::Api;
use tensorgate_wire::context::Key;
use tensorgate_wire::openai::to_json;

/// Separates salts from other names under the same key.
const SALT_DOMAIN: &[u8] = b"cache-salt";

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
    /// Effect of links to pictures in the response. `None` lets them pass.
    pub answer_links: Option<AnswerLinks>,
    /// The functions that the response may call.
    pub offered_calls: OfferedCalls,
    /// Whether a text of the caller had a special token, which is escaped in `json`.
    pub escaped: bool,
}

impl Document {
    /// Encodes a document that was checked under a policy. Returns `None` for other kinds of
    /// bodies. The key and the client's name give the salt of its prefix cache.
    pub(crate) fn from_body(
        policy: &Policy,
        model: ModelId,
        format: BodyFormat,
        members: Members<'_>,
        claims: &HeaderMap,
        key: &Key,
        client: Option<&str>,
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
        let screening = rules.screening();
        let Rebuilt {
            mut document,
            escaped,
        } = rebuild(rules, api, model.backend_model(), members);
        if let Value::Object(members) = &mut document
            && screening.salts_cache()
            && api != Api::Embeddings
        {
            let salt = Value::String(Cow::Owned(cache_salt(key, client)));
            members.push((Cow::Borrowed("cache_salt"), salt));
        }
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
            answer_links: screening.answer_links(),
            offered_calls: screening.offered_calls(&document),
            escaped,
            json: Bytes::from(to_json(&document)),
        })
    }
}

/// The salt of a client's prefix cache. It is the same wherever the key is, and differs between
/// clients. Without the key it tells nothing about the client.
fn cache_salt(key: &Key, client: Option<&str>) -> String {
    let client = client.map(str::as_bytes);
    let parts: Vec<&[u8]> = [SALT_DOMAIN].into_iter().chain(client).collect();
    URL_SAFE_NO_PAD.encode(key.name(&parts))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_salt_depends_on_the_key_and_on_the_client_only() {
        let key = |byte: u8| Key::from_hex(&format!("{byte:02x}f0").repeat(16)).unwrap();
        let salt = cache_salt(&key(1), Some("a"));
        assert_eq!(salt.len(), 43);
        assert_eq!(salt, cache_salt(&key(1), Some("a")));
        for (byte, client) in [(1, Some("b")), (1, Some("")), (1, None), (2, Some("a"))] {
            assert_ne!(salt, cache_salt(&key(byte), client), "{byte} {client:?}");
        }
        // The separation from other names: the salt is not the name of the client alone.
        assert_ne!(salt, URL_SAFE_NO_PAD.encode(key(1).name(&[b"a"])));
    }
}
