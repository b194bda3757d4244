//! Models of a server with OpenAI's API, such as vLLM, SGLang, llama.cpp and Ollama. The API has a
//! list of models, which says nothing of what they take; vLLM and SGLang add the context's length.

use serde::Deserialize;
use serde_json::Value;
use tensorgate_cli_common::Failure;

use super::fetch::{self, Server};
use super::{MAX_MODELS, bad, shown};

/// Maximum length of a context that is believed, in tokens.
const MAX_CONTEXT_TOKENS: u64 = 100_000_000;

/// A model that takes texts.
#[derive(Debug, PartialEq)]
pub(in crate::verbs) struct TextModel {
    /// Its name on the server.
    pub(in crate::verbs) id: String,
    /// Length of its context, if the server says it.
    pub(in crate::verbs) context_tokens: Option<u64>,
}

/// A server's list; other members are ignored.
#[derive(Deserialize)]
struct List {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    max_model_len: Value,
}

/// All models of a server, or those with these names, sorted and without repetition.
pub(super) fn listed(server: &Server<'_>, names: &[String]) -> Result<Vec<TextModel>, Failure> {
    let bytes = fetch::get(server, "/v1/models")?;
    let list: List = serde_json::from_slice(&bytes)
        .map_err(|error| bad(server.base, &format!("lists no models: {error}")))?;
    if list.data.len() > MAX_MODELS {
        return Err(bad(server.base, "has more than 1000 models"));
    }
    let mut models: Vec<_> = (list.data.into_iter())
        .filter(|entry| names.is_empty() || names.contains(&entry.id))
        .map(|entry| TextModel {
            id: entry.id,
            context_tokens: (entry.max_model_len.as_u64())
                .filter(|tokens| (1..=MAX_CONTEXT_TOKENS).contains(tokens)),
        })
        .collect();
    models.sort_by(|one, other| one.id.cmp(&other.id));
    models.dedup_by(|one, other| one.id == other.id);
    let is_listed = |name: &&String| models.iter().any(|model| model.id == **name);
    if let Some(missing) = names.iter().find(|name| !is_listed(name)) {
        let why = format!("lists no model {:?}", shown(missing));
        return Err(bad(server.base, &why));
    }
    if models.is_empty() {
        return Err(bad(server.base, "lists no model"));
    }
    Ok(models)
}
