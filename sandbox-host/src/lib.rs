//! The sandbox host. It verifies each request of the gate again, runs untrusted handlers as
//! components, and sends validated tensors to inference servers.
//!
//! This crate is the service. The crates that it is built from stand in the folders beside `src`.
//!
//! Requests arrive on a Unix socket that only the host's own user can open ([`server`]). Each
//! request has a context that the gate signed ([`tensorgate_judge::request`]). The host decodes and
//! checks the request with the same code as the gate. Then the request passes the preprocess
//! handlers, the backend and the postprocess handlers (`pipeline`). The output of each is checked
//! before the next one gets it. No byte of a client is forwarded: [`backends`] builds every backend
//! request from the checked tensors.

pub mod admission;
pub mod backends;
pub mod config;
pub mod counters;
mod dispatch;
pub mod egress;
pub mod host;
mod pipeline;
pub mod policy_store;
pub mod server;
pub mod service;
mod traces;

pub use host::{Host, StartError};
pub use policy_store::assemble::PolicyFault;
