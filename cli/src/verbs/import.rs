//! The `import` verb: writes a model's contract from its server's metadata.
//!
//! Names, datatypes and fixed dimensions are copied. Bounds that the server does not report are
//! never invented: they are left out, so that `check` reports them.

mod fetch;
mod oip;
mod pbtxt;
mod served;
mod triton;
mod write;

use clap::{Args, Subcommand};
use tensorgate_policy::Datatype;

use crate::Failure;
use crate::ui::Ui;

pub(in crate::verbs) use served::{Kind, served};
pub(in crate::verbs) use write::{plain, section};

/// Largest metadata of a model, bytes.
const MAX_METADATA_BYTES: u64 = 1 << 20;
/// Maximum number of inputs or outputs of a model.
const MAX_TENSORS: usize = 256;
/// Maximum rank of a tensor; a contract allows at most [`tensorgate_policy::contract::MAX_RANK`].
const MAX_DIMS: usize = 64;

/// Write a model's contract from its server's own metadata.
#[derive(Args)]
pub struct Import {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Triton(triton::Triton),
    Oip(oip::Oip),
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
}

/// A model, as described by its server.
#[derive(Debug, PartialEq)]
pub(in crate::verbs) struct Described {
    pub(in crate::verbs) name: String,
    versions: Vec<String>,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

/// An input or output of the model.
#[derive(Debug, PartialEq)]
pub(in crate::verbs) struct Tensor {
    name: String,
    datatype: Datatype,
    shape: Vec<Dim>,
    optional: bool,
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
    /// Writes the contract.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let (models, backend) = match self.what {
            What::Triton(triton) => triton.models()?,
            What::Oip(oip) => oip.models()?,
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

/// An error in metadata, with its source.
fn bad(source: &str, why: &str) -> Failure {
    Failure::Input(format!("{source}: {why}"))
}
