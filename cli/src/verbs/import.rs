//! The `import` verb: writes a model's contract from its server's metadata, or an issuer from its
//! discovery document.
//!
//! Names, datatypes and fixed dimensions are copied. Bounds that the server does not report are
//! never invented: they are left out, so that `check` reports them. Only the limits of a decoupled
//! model's answers have defaults, which are marked.

pub(in crate::verbs) mod discovery;
mod fetch;
mod issuer;
mod oip;
mod openai;
mod pbtxt;
mod served;
mod triton;
mod trust;
mod write;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;
use tensorgate_policy::Datatype;
use tensorgate_wire::percent;

use fetch::Server;
pub(in crate::verbs) use fetch::{Deadline, Reach};
pub(in crate::verbs) use openai::{TextModel, compiles_tools};
pub(in crate::verbs) use served::{Kind, Served, served};
pub(in crate::verbs) use write::{plain, section};

/// Largest metadata of a model, bytes.
const MAX_METADATA_BYTES: u64 = 1 << 20;
/// Maximum number of inputs or outputs of a model.
const MAX_TENSORS: usize = 512;
/// Maximum number of models of a server or a repository.
const MAX_MODELS: usize = 1_000;
/// Maximum number of characters of a server's text in a message.
const MAX_SHOWN_CHARS: usize = 256;
/// Maximum rank of a tensor; a contract allows at most [`tensorgate_policy::contract::MAX_RANK`].
const MAX_DIMS: usize = 64;

/// Write a model's contract from its server's own metadata, or an issuer from its discovery
/// document.
#[derive(Args)]
pub struct Import {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Triton(triton::Triton),
    Oip(oip::Oip),
    Issuer(issuer::Issuer),
    #[command(external_subcommand)]
    Unknown(Vec<String>),
}

/// Options for every source.
#[derive(Args)]
pub(in crate::verbs) struct Common {
    /// Name of the model on the server.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Name of the backend in the policy.
    #[arg(long, value_name = "NAME", default_value = "gpu")]
    backend: String,
    /// For https://, trusted certificate authorities instead of the system's, PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// A model on a server.
pub(in crate::verbs) struct Address<'a> {
    server: Server<'a>,
    model: &'a str,
}

impl Address<'_> {
    /// Checks that an answer is about the model that was asked for. A URL may have escapes in its
    /// name.
    fn check_name(&self, named: &str) -> Result<(), Failure> {
        let requested = self.model;
        if named == requested || named.as_bytes() == percent::decoded(requested.as_bytes()) {
            return Ok(());
        }
        let named = shown(named);
        let why = format!("was asked for model {requested:?} and describes model {named:?}");
        Err(bad(self.server.base, &why))
    }
}

impl Common {
    /// The model that a URL and the options name: `URL/v2/models/NAME`, or `--model NAME`.
    fn address<'a>(&'a self, url: &'a str) -> Result<Address<'a>, Failure> {
        let (base, in_url) = match url.split_once("/v2/models/") {
            Some((base, model)) => (base, Some(model.trim_end_matches('/'))),
            None => (url.trim_end_matches('/').trim_end_matches("/v2"), None),
        };
        let model = match (in_url, self.model.as_deref()) {
            (Some(model), _) if model.is_empty() || model.contains(['/', '?', '#']) => {
                Err("is not the URL of a model: expected http://HOST:PORT/v2/models/NAME".into())
            }
            (Some(in_url), Some(model)) if in_url != model => Err(format!(
                "the URL names model {in_url:?}, --model names {model:?}"
            )),
            (Some(model), _) | (None, Some(model)) => Ok(model),
            (None, None) => Err(format!(
                "name the model: {base}/v2/models/NAME, or --model NAME"
            )),
        };
        Ok(Address {
            server: Server {
                base,
                ca: self.ca.as_deref(),
                deadline: Deadline::start(),
                reach: Reach::Any,
            },
            model: model.map_err(|why| bad(url, &why))?,
        })
    }
}

/// A model, as described by its server.
#[derive(Debug, PartialEq)]
pub(in crate::verbs) struct Described {
    pub(in crate::verbs) name: String,
    versions: Vec<String>,
    pub(in crate::verbs) inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    /// Whether the model answers one message of a stream several times.
    pub(in crate::verbs) decoupled: bool,
}

/// An input or output of the model.
#[derive(Debug, PartialEq)]
pub(in crate::verbs) struct Tensor {
    pub(in crate::verbs) name: String,
    pub(in crate::verbs) datatype: Datatype,
    pub(in crate::verbs) shape: Vec<Dim>,
    pub(in crate::verbs) optional: bool,
}

/// A dimension of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::verbs) enum Dim {
    /// A fixed size.
    Fixed(u64),
    /// The batch size, with the server's maximum.
    Batch(u64),
    /// Any size: the contract needs a bound.
    Dynamic,
}

impl Import {
    /// Writes the contract or the issuer.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let (models, backend) = match self.what {
            What::Triton(triton) => triton.models()?,
            What::Oip(oip) => oip.models()?,
            What::Issuer(issuer) => return issuer.run(ui),
            What::Unknown(words) => {
                let kind = words.first().map(String::as_str).unwrap_or_default();
                return Err(Failure::Input(format!(
                    "no kind of source is named {kind:?}; known are: triton, oip (any server of the Open Inference Protocol, such as KServe, MLServer and OpenVINO), issuer"
                )));
            }
        };
        write::models(ui, &models, &backend)
    }
}

/// Parses a datatype name of OIP.
fn datatype(name: &str, source: &str) -> Result<Datatype, Failure> {
    Datatype::from_name(name).ok_or_else(|| {
        bad(
            source,
            &format!("datatype {name:?} is not supported in a contract"),
        )
    })
}

/// Parses a dimension: a size, or -1 for any.
fn dim(size: i64, source: &str) -> Result<Dim, Failure> {
    match (size, u64::try_from(size)) {
        (-1, _) => Ok(Dim::Dynamic),
        (_, Ok(size)) if size > 0 => Ok(Dim::Fixed(size)),
        _ => Err(bad(source, &format!("{size} is not a valid dimension"))),
    }
}

/// A server publishes no inputs or no outputs of a model, so there is nothing to import.
fn nothing_published(source: &str, model: &str, kind: &str) -> Failure {
    bad(
        source,
        &format!(
            "publishes no {kind}s of model {model:?}: add them to the model's configuration on the server (Triton: config.pbtxt; MLServer: model-settings.json) and import again, or write models.{model}.{kind}s by hand"
        ),
    )
}

/// An error in metadata, with its source.
fn bad(source: &str, why: &str) -> Failure {
    Failure::Input(format!("{source}: {why}"))
}

/// A server's text, bounded for a message.
fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).collect()
}
