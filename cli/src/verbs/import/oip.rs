//! Metadata of the Open Inference Protocol, from a file or a server.
//!
//! Its form is `{"name", "versions", "inputs": [{"name", "datatype", "shape"}], "outputs": […]}`.

use std::path::Path;

use clap::Args;
use serde::Deserialize;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::bounded_file::read_at_most;

use super::{
    Address, Common, Described, MAX_DIMS, MAX_METADATA_BYTES, MAX_TENSORS, Tensor, bad, datatype,
    dim, fetch, nothing_published,
};

/// From a server of the Open Inference Protocol, or a file with its metadata.
#[derive(Args)]
#[command(
    after_help = "A server is given by its URL, with or without the model; a file contains the response to GET /v2/models/NAME.\n\nExample: tensorgate import oip http://127.0.0.1:8000/v2/models/digits\nExample: tensorgate import oip https://models.example.com --model digits --ca ca.pem"
)]
pub(in crate::verbs) struct Oip {
    /// `http://host:port`, `https://host/v2/models/NAME`, or a file.
    source: String,
    #[command(flatten)]
    common: Common,
}

/// Metadata of a model; other members are ignored.
#[derive(Deserialize)]
pub(super) struct Metadata {
    name: String,
    #[serde(default)]
    pub(super) versions: Vec<String>,
    #[serde(default)]
    inputs: Vec<MetadataTensor>,
    #[serde(default)]
    outputs: Vec<MetadataTensor>,
}

#[derive(Deserialize)]
struct MetadataTensor {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

impl Oip {
    /// The model, and the name of the backend.
    pub(super) fn models(self) -> Result<(Vec<Described>, String), Failure> {
        let metadata = if fetch::is_url(&self.source) {
            from_server(&self.common.address(&self.source)?)?
        } else {
            let file = Path::new(&self.source);
            let bytes = read_at_most(file, MAX_METADATA_BYTES)
                .map_err(|error| bad(&self.source, &error.to_string()))?
                .ok_or_else(|| bad(&self.source, "is too large for metadata"))?;
            read(&self.source, &bytes)?
        };
        let described = described(&self.source, metadata)?;
        Ok((vec![described], self.common.backend))
    }
}

/// Queries a server.
pub(super) fn from_server(address: &Address<'_>) -> Result<Metadata, Failure> {
    let Address { server, model } = address;
    let bytes = fetch::get(server, &format!("/v2/models/{model}"))?;
    let metadata = read(server.base, &bytes)?;
    address.check_name(&metadata.name)?;
    Ok(metadata)
}

fn read(source: &str, bytes: &[u8]) -> Result<Metadata, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|error| bad(source, &format!("is not a model's metadata: {error}")))
}

pub(super) fn described(source: &str, metadata: Metadata) -> Result<Described, Failure> {
    let tensors = |kind: &str, tensors: Vec<MetadataTensor>| {
        if tensors.is_empty() {
            return Err(nothing_published(source, &metadata.name, kind));
        }
        if tensors.len() > MAX_TENSORS {
            return Err(bad(source, &format!("more than {MAX_TENSORS} {kind}s")));
        }
        tensors
            .into_iter()
            .map(|tensor| {
                let source = format!("{source}: {kind} {:?}", tensor.name);
                if tensor.shape.len() > MAX_DIMS {
                    return Err(bad(&source, "too many dims"));
                }
                Ok(Tensor {
                    datatype: datatype(&tensor.datatype, &source)?,
                    shape: tensor
                        .shape
                        .iter()
                        .map(|size| dim(*size, &source))
                        .collect::<Result<_, _>>()?,
                    name: tensor.name,
                    optional: false,
                })
            })
            .collect::<Result<Vec<_>, Failure>>()
    };
    Ok(Described {
        inputs: tensors("input", metadata.inputs)?,
        outputs: tensors("output", metadata.outputs)?,
        name: metadata.name,
        versions: if metadata.versions.is_empty() {
            vec!["1".into()]
        } else {
            metadata.versions
        },
        // The protocol does not say.
        decoupled: false,
    })
}
