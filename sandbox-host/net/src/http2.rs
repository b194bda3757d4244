//! One HTTP/2 connection to a server, and gRPC calls over it.

pub mod call;
pub mod channel;
pub mod connection;
pub mod raw_codec;
