//! The input of a handler, and the role in which it is called.

use bytes::Bytes;
use tensorgate_values::Tensor;

use crate::owned::{data_bytes, memory_bytes};

/// The world that a component implements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Before the model.
    Preprocess,
    /// After the model.
    Postprocess,
}

impl Role {
    /// The name of the world, which is also the name of its export.
    pub const fn export(self) -> &'static str {
        match self {
            Self::Preprocess => "preprocess",
            Self::Postprocess => "postprocess",
        }
    }
}

/// The input of a preprocess handler.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Tensors that passed the policy's contract.
    Tensors(Vec<Tensor<'static>>),
    /// A body as received.
    Raw {
        /// The media type in lower case and without parameters. The policy lists it.
        content_type: String,
        /// The body, at most the policy's `max_bytes`.
        data: Bytes,
    },
}

impl Payload {
    /// The number of data bytes.
    pub fn data_bytes(&self) -> usize {
        match self {
            Self::Raw { data, .. } => data.len(),
            Self::Tensors(tensors) => data_bytes(tensors),
        }
    }

    /// How many bytes stay in memory because of it.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Raw { data, .. } => data.len(),
            Self::Tensors(tensors) => memory_bytes(tensors),
        }
    }
}
