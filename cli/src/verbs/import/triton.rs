//! Triton's model configuration: a `config.pbtxt`, a folder with one, a repository of such folders,
//! or a server's response.
//!
//! A positive `max_batch_size` adds a leading dimension to `dims`, and bounds it.

use std::path::Path;

use clap::Args;
use serde::Deserialize;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::bounded_file::read_at_most;

use super::pbtxt::{self, Message, Value};
use super::{
    Address, Common, Described, Dim, MAX_DIMS, MAX_METADATA_BYTES, MAX_MODELS, MAX_TENSORS, Tensor,
    bad, datatype, dim, fetch, nothing_published, oip,
};

/// File name of a model's configuration.
const CONFIG: &str = "config.pbtxt";

/// From Triton: a server, a config.pbtxt, a model's folder or a repository of models.
#[derive(Args)]
#[command(
    after_help = "A server is given by its URL, with or without the model.\n\nExample: tensorgate import triton models/resnet/config.pbtxt --backend gpu\nExample: tensorgate import triton http://127.0.0.1:8000/v2/models/resnet"
)]
pub(in crate::verbs) struct Triton {
    /// `http://host:port`, `https://host/v2/models/NAME`, a config.pbtxt, a model folder or a
    /// repository folder.
    source: String,
    #[command(flatten)]
    common: Common,
}

/// A model configuration, from JSON or the text format.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    name: String,
    #[serde(default)]
    max_batch_size: i64,
    #[serde(default)]
    input: Vec<ConfigTensor>,
    #[serde(default)]
    output: Vec<ConfigTensor>,
    #[serde(default)]
    model_transaction_policy: TransactionPolicy,
}

#[derive(Default, Deserialize)]
struct TransactionPolicy {
    /// Whether the model answers one message of a stream several times.
    #[serde(default)]
    decoupled: bool,
}

#[derive(Deserialize)]
struct ConfigTensor {
    name: String,
    data_type: String,
    dims: Vec<i64>,
    #[serde(default)]
    optional: bool,
}

impl Triton {
    /// The models, and the name of the backend.
    pub(super) fn models(self) -> Result<(Vec<Described>, String), Failure> {
        let models = if fetch::is_url(&self.source) {
            vec![from_server(&self.common.address(&self.source)?)?]
        } else {
            from_path(Path::new(&self.source), self.common.model.as_deref())?
        };
        Ok((models, self.common.backend))
    }
}

pub(super) fn from_server(address: &Address<'_>) -> Result<Described, Failure> {
    let Address { server, model } = address;
    let base = server.base;
    let bytes = fetch::get(server, &format!("/v2/models/{model}/config"))?;
    let config = serde_json::from_slice::<Config>(&bytes)
        .map_err(|error| bad(base, &format!("is not a model's configuration: {error}")))?;
    // Without a name, it is the one that was asked for.
    if !config.name.is_empty() {
        address.check_name(&config.name)?;
    }
    let versions = oip::from_server(address)?.versions;
    described(base, config, model, versions)
}

fn from_path(path: &Path, only: Option<&str>) -> Result<Vec<Described>, Failure> {
    let shown = path.display().to_string();
    if path.is_file() {
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        return Ok(vec![from_file(path, folder)?]);
    }
    if path.join(CONFIG).is_file() {
        return Ok(vec![from_file(&path.join(CONFIG), path)?]);
    }
    let mut folders: Vec<_> = std::fs::read_dir(path)
        .map_err(|error| bad(&shown, &error.to_string()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|folder| folder.join(CONFIG).is_file())
        .filter(|folder| {
            only.is_none_or(|only| folder.file_name().is_some_and(|name| name == only))
        })
        .take(MAX_MODELS)
        .collect();
    folders.sort();
    if folders.is_empty() {
        return Err(bad(
            &shown,
            "contains neither a config.pbtxt nor a folder with one",
        ));
    }
    folders
        .iter()
        .map(|folder| from_file(&folder.join(CONFIG), folder))
        .collect()
}

fn from_file(file: &Path, folder: &Path) -> Result<Described, Failure> {
    let shown = file.display().to_string();
    let bytes = read_at_most(file, MAX_METADATA_BYTES)
        .map_err(|error| bad(&shown, &error.to_string()))?
        .ok_or_else(|| bad(&shown, "is too large for a configuration"))?;
    let text = String::from_utf8(bytes).map_err(|_| bad(&shown, "is not UTF-8"))?;
    let message =
        pbtxt::read(&text).map_err(|(line, what)| bad(&format!("{shown}:{line}"), &what))?;
    let config = config(&shown, &message)?;
    let fallback = folder.file_name().unwrap_or_default().to_string_lossy();
    described(&shown, config, &fallback, versions(folder))
}

/// Version folders beside a configuration: folders with numeric names.
fn versions(folder: &Path) -> Vec<String> {
    let mut versions: Vec<u64> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            entry.file_type().ok()?.is_dir().then_some(())?;
            let name = entry.file_name().into_string().ok()?;
            name.parse()
                .ok()
                .filter(|version: &u64| version.to_string() == name)
        })
        .collect();
    versions.sort_unstable();
    versions.iter().map(u64::to_string).collect()
}

fn config(source: &str, message: &Message) -> Result<Config, Failure> {
    let mut config = Config {
        name: text(source, message, "name")?.unwrap_or_default(),
        max_batch_size: one(source, message, "max_batch_size")?.map_or(
            Ok(0),
            |value| match value {
                Value::Number(size) => Ok(*size),
                _ => Err(bad(source, "max_batch_size is not a number")),
            },
        )?,
        input: Vec::new(),
        output: Vec::new(),
        model_transaction_policy: transaction_policy(source, message)?,
    };
    for (name, value) in message {
        let tensors = match name.as_str() {
            "input" => &mut config.input,
            "output" => &mut config.output,
            _ => continue,
        };
        let Value::Message(fields) = value else {
            return Err(bad(source, &format!("{name} is not a message")));
        };
        let missing = |field: &str| bad(source, &format!("{name} has no {field}"));
        let dims = fields
            .iter()
            .filter(|(field, _)| field == "dims")
            .map(|(_, value)| match value {
                Value::Number(size) => Ok(*size),
                _ => Err(bad(source, &format!("dims of {name} are not numbers"))),
            })
            .collect::<Result<_, _>>()?;
        tensors.push(ConfigTensor {
            name: text(source, fields, "name")?.ok_or_else(|| missing("name"))?,
            data_type: match one(source, fields, "data_type")? {
                Some(Value::Word(word)) => word.clone(),
                _ => return Err(missing("data_type")),
            },
            dims,
            optional: flag(source, fields, "optional")?,
        });
    }
    Ok(config)
}

fn transaction_policy(source: &str, message: &Message) -> Result<TransactionPolicy, Failure> {
    const NAME: &str = "model_transaction_policy";
    let decoupled = match one(source, message, NAME)? {
        None => false,
        Some(Value::Message(fields)) => flag(source, fields, "decoupled")?,
        Some(_) => return Err(bad(source, &format!("{NAME} is not a message"))),
    };
    Ok(TransactionPolicy { decoupled })
}

/// A boolean, in each spelling of the text format; `false` if it is absent.
fn flag(source: &str, message: &Message, name: &str) -> Result<bool, Failure> {
    match one(source, message, name)? {
        None | Some(Value::Number(0)) => Ok(false),
        Some(Value::Number(1)) => Ok(true),
        Some(Value::Word(word)) if ["true", "True", "t"].contains(&word.as_str()) => Ok(true),
        Some(Value::Word(word)) if ["false", "False", "f"].contains(&word.as_str()) => Ok(false),
        Some(_) => Err(bad(source, &format!("{name} is neither true nor false"))),
    }
}

/// A field that may occur at most once.
fn one<'m>(source: &str, message: &'m Message, name: &str) -> Result<Option<&'m Value>, Failure> {
    let mut values = message
        .iter()
        .filter(|(field, _)| field == name)
        .map(|(_, value)| value);
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(bad(source, &format!("{name} occurs twice"))),
    }
}

fn text(source: &str, message: &Message, name: &str) -> Result<Option<String>, Failure> {
    match one(source, message, name)? {
        None => Ok(None),
        Some(Value::Text(text)) => Ok(Some(text.clone())),
        Some(_) => Err(bad(source, &format!("{name} is not a string"))),
    }
}

fn described(
    source: &str,
    config: Config,
    fallback: &str,
    versions: Vec<String>,
) -> Result<Described, Failure> {
    let batch = match u64::try_from(config.max_batch_size) {
        Ok(0) => None,
        Ok(max) => Some(Dim::Batch(max)),
        Err(_) => return Err(bad(source, "max_batch_size is below zero")),
    };
    let name = if config.name.is_empty() {
        fallback.to_owned()
    } else {
        config.name
    };
    let tensors = |kind: &str, tensors: Vec<ConfigTensor>| {
        if tensors.is_empty() && fetch::is_url(source) {
            return Err(nothing_published(source, &name, kind));
        }
        if tensors.is_empty() {
            return Err(bad(
                source,
                &format!(
                    "model {name:?} lists no {kind}s: import from the running server instead (tensorgate import triton http://HOST:8000/v2/models/{name}), which completes its configuration"
                ),
            ));
        }
        if tensors.len() > MAX_TENSORS {
            return Err(bad(source, &format!("more than {MAX_TENSORS} {kind}s")));
        }
        tensors
            .into_iter()
            .map(|tensor| {
                let source = format!("{source}: {kind} {:?}", tensor.name);
                if tensor.dims.len() > MAX_DIMS {
                    return Err(bad(&source, "too many dims"));
                }
                let sizes = tensor.dims.iter().map(|size| dim(*size, &source));
                Ok(Tensor {
                    datatype: triton_datatype(&tensor.data_type, &source)?,
                    shape: batch
                        .clone()
                        .map(Ok)
                        .into_iter()
                        .chain(sizes)
                        .collect::<Result<_, _>>()?,
                    name: tensor.name,
                    optional: tensor.optional,
                })
            })
            .collect::<Result<Vec<_>, Failure>>()
    };
    Ok(Described {
        inputs: tensors("input", config.input)?,
        outputs: tensors("output", config.output)?,
        name,
        versions: if versions.is_empty() {
            vec!["1".into()]
        } else {
            versions
        },
        decoupled: config.model_transaction_policy.decoupled,
    })
}

/// Converts a datatype: `TYPE_FP32` is FP32, and strings are BYTES.
fn triton_datatype(name: &str, source: &str) -> Result<tensorgate_policy::Datatype, Failure> {
    match name.strip_prefix("TYPE_") {
        Some("STRING") => Ok(tensorgate_policy::Datatype::Bytes),
        Some(rest) => datatype(rest, source),
        None => Err(bad(
            source,
            &format!("data_type {name:?} is not one of Triton's"),
        )),
    }
}
