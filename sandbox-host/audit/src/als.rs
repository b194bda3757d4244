//! What Envoy's gRPC access log says of a request: the messages, and the content of an entry
//! ([`entry`]).

pub mod entry;
pub(crate) mod messages;

pub use entry::Entry;
