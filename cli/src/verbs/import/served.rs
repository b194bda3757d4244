//! All models of a server.
//!
//! The Open Inference Protocol has no list of models. Triton and MLServer have one, the index of
//! the model repository. OpenAI's API has a list of its own.

use std::path::Path;

use clap::ValueEnum;
use serde::Deserialize;
use tensorgate_cli_common::Failure;

use super::fetch::{self, Deadline, Reach};
use super::{Address, Described, MAX_MODELS, TextModel, bad, oip, openai, triton};

/// State of a model that is loaded.
const READY: &str = "READY";

/// The name that Triton gives itself.
const TRITON: &str = "triton";

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Kind {
    /// The Open Inference Protocol: KServe, MLServer, OpenVINO.
    Oip,
    /// Triton, whose configuration also has batch sizes.
    Triton,
    /// OpenAI's API: vLLM, SGLang, llama.cpp, Ollama.
    #[value(name = "openai")]
    OpenAi,
}

/// The models of a server.
pub enum Served {
    /// Models that take tensors.
    Tensors(Vec<Described>),
    /// Models that take texts.
    Texts(Vec<TextModel>),
}

/// An entry of the index; other members are ignored.
#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    state: String,
}

/// A server's description of itself; other members are ignored.
#[derive(Default, Deserialize)]
struct ServerDescription {
    #[serde(default)]
    name: String,
}

/// Queries a server for these models, or for all that are loaded. Without a kind, the server's
/// answers decide. `ca` replaces the system's certificate authorities.
pub fn served(
    kind: Option<Kind>,
    base: &str,
    models: &[String],
    ca: Option<&Path>,
) -> Result<Served, Failure> {
    let server = fetch::Server {
        base,
        ca,
        deadline: Deadline::start(),
        reach: Reach::Any,
    };
    // What the server is, and a list of models, are as one exchange: some answers may be missing.
    let first = fetch::Server {
        deadline: server.deadline.of_exchange(),
        ..server
    };
    let kind = kind.unwrap_or_else(|| recognised(&first));
    first
        .deadline
        .left()
        .map_err(|late| bad(base, &late.to_string()))?;
    let describe: fn(&Address<'_>) -> Result<Described, Failure> = match kind {
        Kind::OpenAi => return Ok(Served::Texts(openai::listed(&first, models)?)),
        Kind::Triton => triton::from_server,
        Kind::Oip => |address| oip::described(address.server.base, oip::from_server(address)?),
    };
    let index;
    let models = match models {
        [] => {
            index = loaded(&server)?;
            &index
        }
        models => models,
    };
    let models = models.iter();
    let described: Result<_, _> = models
        .map(|model| describe(&Address { server, model }))
        .collect();
    described.map(Served::Tensors)
}

/// The kind that a server's own name says. Only Triton has a kind of its own. A server without a
/// name may have OpenAI's list of models.
fn recognised(server: &fetch::Server<'_>) -> Kind {
    let described = fetch::get(server, "/v2").ok();
    let described: ServerDescription = described
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    match described.name.as_str() {
        TRITON => Kind::Triton,
        "" if openai::lists_models(server) => Kind::OpenAi,
        _ => Kind::Oip,
    }
}

/// Names of the loaded models, without repetition.
fn loaded(server: &fetch::Server<'_>) -> Result<Vec<String>, Failure> {
    let name_them = |why: &str| {
        let why = format!("{why}: name its models with --model NAME");
        bad(server.base, &why)
    };
    let bytes = fetch::post(server, "/v2/repository/index").map_err(|why| {
        let why = why.to_string();
        let hint = if why.contains("refused") {
            "is the server up?"
        } else {
            "if it lists no models, use --model NAME"
        };
        Failure::Input(format!("{why}; {hint}"))
    })?;
    let entries: Vec<Entry> =
        serde_json::from_slice(&bytes).map_err(|_| name_them("lists no models"))?;
    let entries = entries.into_iter();
    let mut names: Vec<_> = entries
        .filter(|entry| entry.state.is_empty() || entry.state == READY)
        .map(|entry| entry.name)
        .collect();
    names.sort();
    names.dedup();
    match names.len() {
        0 => Err(name_them("has no model that is loaded")),
        1..=MAX_MODELS => Ok(names),
        _ => Err(name_them("has more than 1000 models")),
    }
}
