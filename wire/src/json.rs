//! Inference over REST for OIP, TF Serving, TorchServe and OpenAI: one strictly scanned JSON
//! document. A tree is only built for documents without tensors.

mod binary;
mod columns;
mod data;
mod digits;
mod number;
mod openai;
mod plain_run;
mod predict;
mod request;
mod scan;
mod stream;
mod strings;
mod template;
mod torch;
mod tree;

pub(crate) use binary::infer_binary;
pub(crate) use openai::{document, members, named};
pub(crate) use predict::predict;
pub(crate) use request::infer;
pub(crate) use stream::BinaryStream;
pub(crate) use template::{template, template_answer};
pub(crate) use torch::{predictions, tensor};
