//! Inference over REST, OIP's and TF Serving's: one JSON document, scanned strictly and without building a tree.

mod binary;
mod data;
mod digits;
mod number;
mod predict;
mod request;
mod run;
mod scan;
mod stream;
mod string;
mod tree;

pub(crate) use binary::infer_binary;
pub(crate) use predict::predict;
pub(crate) use request::infer;
pub(crate) use stream::BinaryStream;
