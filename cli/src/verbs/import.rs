//! `import`: a model's contract out of what its server says of it. Names, datatypes and fixed dims are taken over; a bound that the server does
//! not have is never made up: it is left as a fault that `check` points at.

mod fetch;
mod oip;
mod pbtxt;
mod triton;
mod write;

use clap::{Args, Subcommand};
use tensorgate_policy::Datatype;

use crate::Failure;
use crate::ui::Ui;

/// Metadata of one model, bytes: names, datatypes and shapes of some tensors.
const MAX_METADATA_BYTES: u64 = 1 << 20;
/// Tensors of one model, in and out.
const MAX_TENSORS: usize = 256;
/// Dims of one tensor; a contract has at most [`tensorgate_policy::contract::MAX_RANK`].
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

/// What every source takes.
#[derive(Args)]
pub(in crate::verbs) struct Common {
    /// The model to ask a server for.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The policy's name for the backend.
    #[arg(long, value_name = "NAME", default_value = "gpu")]
    backend: String,
}

/// A model as its server describes it.
#[derive(Debug, PartialEq)]
pub(in crate::verbs) struct Described {
    name: String,
    versions: Vec<String>,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

/// One of its tensors.
#[derive(Debug, PartialEq)]
pub(in crate::verbs) struct Tensor {
    name: String,
    datatype: Datatype,
    shape: Vec<Dim>,
    optional: bool,
}

/// One of its dims.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::verbs) enum Dim {
    /// Always this many.
    Fixed(u64),
    /// As many as there are examples, up to a bound that the server has.
    Batch(u64),
    /// Any number: a contract needs a bound.
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

/// A datatype by its name in OIP.
fn datatype(name: &str, place: &str) -> Result<Datatype, Failure> {
    Datatype::from_name(name).ok_or_else(|| {
        bad(
            place,
            &format!("datatype {name:?} is none that a contract can have"),
        )
    })
}

/// A dim as servers write it: a size, or −1 for any.
fn dim(size: i64, place: &str) -> Result<Dim, Failure> {
    match (size, u64::try_from(size)) {
        (-1, _) => Ok(Dim::Dynamic),
        (_, Ok(size)) if size > 0 => Ok(Dim::Fixed(size)),
        _ => Err(bad(place, &format!("{size} is no dim"))),
    }
}

/// Metadata that cannot be used, and where.
fn bad(place: &str, why: &str) -> Failure {
    Failure::Input(format!("{place}: {why}"))
}
