//! Models of a server with OpenAI's API, such as vLLM, SGLang, llama.cpp and Ollama. The API has a
//! list of models, which says nothing of what they take; vLLM and SGLang add the context's length,
//! and llama.cpp and TGI, which serve one model, say it elsewhere.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tensorgate_cli_common::Failure;

use super::fetch::{self, Deadline, Reach, Server};
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
    /// Whether the server compiles the schema of every function.
    pub(in crate::verbs) compiles_tools: bool,
    /// Whether the server says that it embeds texts, and so answers no chat.
    pub(in crate::verbs) embeds: bool,
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
    /// What the model is for, as gateways say it.
    #[serde(default)]
    task: Value,
    /// The same under another name.
    #[serde(default, rename = "type")]
    kind: Value,
    /// The same, as a list: Infinity.
    #[serde(default)]
    capabilities: Value,
}

impl Entry {
    fn embeds(&self) -> bool {
        let capabilities = self.capabilities.as_array().into_iter().flatten();
        let uses = [&self.task, &self.kind].into_iter().chain(capabilities);
        let uses: Vec<_> = uses
            .filter_map(Value::as_str)
            .map(str::to_ascii_lowercase)
            .collect();
        let has = |part: &str| uses.iter().any(|name| name.contains(part));
        has("embed") && !GENERATES.into_iter().any(has)
    }
}

/// Parts of the names of what a model does that answers prompts.
const GENERATES: [&str; 3] = ["chat", "complet", "generat"];

/// A member of a server's document, by path and JSON pointer.
fn member(server: &Server<'_>, path: &str, pointer: &str) -> Option<Value> {
    let bytes = fetch::get(server, path).ok()?;
    let document: Value = serde_json::from_slice(&bytes).ok()?;
    document.pointer(pointer).cloned()
}

/// Whether Text Embeddings Inference or SGLang says that its only model embeds texts.
fn is_embedder(server: &Server<'_>) -> bool {
    member(server, "/info", "/model_type/embedding").is_some()
        || member(server, "/get_model_info", "/is_generation") == Some(Value::Bool(false))
}

/// Where llama.cpp and TGI say the length of the context of their only model.
const CONTEXTS: [(&str, &str); 2] = [
    ("/props", "/default_generation_settings/n_ctx"),
    ("/info", "/max_total_tokens"),
];

/// The shortest plausible context. A server that says less would make requests all but free.
const MIN_CONTEXT_TOKENS: u64 = 256;

/// A plausible length of a context.
fn context_tokens(value: &Value) -> Option<u64> {
    let tokens = value.as_u64();
    tokens.filter(|tokens| (MIN_CONTEXT_TOKENS..=MAX_CONTEXT_TOKENS).contains(tokens))
}

/// Length of the context of llama.cpp and TGI, which compile the schema of every function; `None`
/// for other servers.
fn context_of_compiler(server: &Server<'_>) -> Option<u64> {
    let mut places = CONTEXTS.iter();
    places.find_map(|(path, pointer)| context_tokens(&member(server, path, pointer)?))
}

/// Whether the server of a backend compiles the schema of every function. `ca`: as in [`Server`].
pub(in crate::verbs) fn compiles_tools(base: &str, ca: Option<&Path>, deadline: Deadline) -> bool {
    let server = Server {
        base,
        ca,
        deadline,
        reach: Reach::Any,
    };
    context_of_compiler(&server).is_some()
}

/// Whether a server lists models as OpenAI's API does.
pub(super) fn lists_models(server: &Server<'_>) -> bool {
    entries(server).is_ok_and(|entries| !entries.is_empty())
}

/// The list of a server's models, as it is.
fn entries(server: &Server<'_>) -> Result<Vec<Entry>, Failure> {
    let bytes = fetch::get(server, "/v1/models")?;
    let list: List = serde_json::from_slice(&bytes)
        .map_err(|error| bad(server.base, &format!("lists no models: {error}")))?;
    if list.data.len() > MAX_MODELS {
        return Err(bad(server.base, "has more than 1000 models"));
    }
    Ok(list.data)
}

/// All models of a server, or those with these names, sorted and without repetition; with what the
/// server says elsewhere of all models, or of its only one.
pub(super) fn listed(server: &Server<'_>, names: &[String]) -> Result<Vec<TextModel>, Failure> {
    let entries = entries(server)?;
    let context = context_of_compiler(server);
    let is_only_one = entries.len() == 1;
    let only = |known: Option<u64>| known.or(context.filter(|_| is_only_one));
    let mut models: Vec<_> = (entries.into_iter())
        .filter(|entry| names.is_empty() || names.contains(&entry.id))
        .map(|entry| TextModel {
            embeds: entry.embeds() || (is_only_one && is_embedder(server)),
            id: entry.id,
            context_tokens: only(context_tokens(&entry.max_model_len)),
            compiles_tools: context.is_some(),
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
