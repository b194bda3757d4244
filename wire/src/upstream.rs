//! Client side of inference servers' protocols: requests are written from validated tensors, and
//! responses are parsed as untrusted input. The caller validates response tensors against the
//! contract.

mod decoded_size;
pub mod tf_serving;
pub mod torchserve;

pub use decoded_size::{INFER, INFER_STREAM, answer_bytes, streamed_bytes};
