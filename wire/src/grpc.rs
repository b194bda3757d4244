//! Inference over gRPC for OIP, TF Serving and TorchServe: one frame with one protobuf message,
//! read without copying.

mod addressee;
mod contents;
pub(crate) mod framing;
mod parameters;
mod predict;
mod predictions;
pub(crate) mod protobuf;
mod request;
pub(crate) mod served;
mod stream;
mod tensor_proto;
pub(crate) mod writer;

pub(crate) use addressee::{addressee, addressee_in_spec};
pub(crate) use framing::{
    HEADER_BYTES as FRAME_HEADER_BYTES, PLAIN_FRAME, compressed, is_framed, open,
};
pub(crate) use predict::{predict, question};
pub(crate) use predictions::predictions;
pub(crate) use request::{infer, model, server_query};
pub(crate) use stream::GrpcStream;
pub(crate) use tensor_proto::{list_of, number_of};
