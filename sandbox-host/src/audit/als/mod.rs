//! Envoy's gRPC access log: how it looks (`message`), what an entry says ([`entry`]), and the service that takes it
//! ([`service`]), on a socket of its own: what carries requests cannot write the log.

pub mod entry;
mod message;
pub mod service;

pub use entry::Entry;
