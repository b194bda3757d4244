//! Inference over REST, OIP's, TF Serving's, TorchServe's and OpenAI's: one JSON document, scanned strictly; a tree is built of what has no tensors
//! only.

mod binary;
mod column;
mod data;
mod digits;
mod document;
mod number;
mod predict;
mod request;
mod run;
mod scan;
mod stream;
mod string;
mod template;
mod torch;
mod tree;

pub(crate) use binary::infer_binary;
pub(crate) use document::{document, members, named};
pub(crate) use predict::predict;
pub(crate) use request::infer;
pub(crate) use stream::BinaryStream;
pub(crate) use template::template;
pub(crate) use torch::{predictions, tensor};
