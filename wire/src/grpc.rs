//! OIP over gRPC: one frame, one protobuf message, read without a copy.

mod addressee;
mod contents;
mod frame;
mod parameter;
mod protobuf;
mod request;
mod stream;

pub(crate) use addressee::addressee;
pub(crate) use frame::open;
pub(crate) use request::{infer, model};
pub(crate) use stream::GrpcStream;
