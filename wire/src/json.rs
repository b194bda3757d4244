//! OIP over REST: one JSON document, scanned strictly and without building a tree.

mod binary;
mod data;
mod number;
mod request;
mod scan;
mod stream;
mod string;

pub(crate) use binary::infer_binary;
pub(crate) use request::infer;
pub(crate) use stream::BinaryStream;
