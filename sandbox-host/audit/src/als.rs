//! Envoy's gRPC access log: the messages and the content of an entry ([`entry`]), and the
//! service that receives it ([`service`]). The service has a socket of its own, so that request
//! connections cannot write the log.

pub mod entry;
pub mod messages;
pub mod sequence;
pub mod service;

pub use entry::Entry;
