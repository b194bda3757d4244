//! The audit log: one JSON record for every request, however it ended, in a tamper-evident file.
//!
//! A [`record`] is sealed by [`mod@line`]: each line has the hash of the previous one, and
//! checkpoints are signed ([`key`]). [`files`] stores the lines, [`recover`] checks what a previous
//! host left, and `writer` is the only thread that writes, behind a bounded queue.
//!
//! The host reports its responses. Envoy reports what it rejected or lost over its gRPC access log
//! ([`access_log_service`]). [`Outcomes`] joins both by the request ID, so that one request has one
//! record. Lost entries of Envoy are counted (`sequence`). A streamed response that ends early
//! amends its record ([`Ending`]). [`verify`] reads a log and reports what was done to it. A
//! [`RecordListener`] sees what is written.
//!
//! The audit log decides nothing about a request, and never contains a credential, a query or a
//! body.

pub mod access_log_service;
pub mod als;
mod ending;
pub mod envoy_reply;
pub mod export;
pub mod files;
pub mod key;
pub mod line;
mod listener;
mod outcomes;
pub mod record;
pub mod recover;
pub mod sealed_file;
mod sequence;
pub mod verify;
mod writer;

pub use ending::Ending;
pub use listener::{GateTimeListener, RecordListener};
pub use outcomes::Outcomes;
pub use writer::{Audit, Unwritten};
