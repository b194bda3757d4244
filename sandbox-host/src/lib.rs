//! The sandbox host. It verifies each request of the gate again, runs untrusted handlers as
//! components, and sends validated tensors to inference servers.
//!
//! Requests arrive on a Unix socket that only the host's own user can open ([`server`]). Each
//! request has a context that the gate signed ([`pipeline::request`]). The host decodes and checks
//! the request with the same code as the gate. Then the request passes the preprocess
//! handlers, the backend and the postprocess handlers ([`pipeline`]). The output of each is checked
//! before the next one gets it. No byte of a client is forwarded: [`backends`] builds every backend
//! request from the checked tensors.

pub mod admission;
pub mod audit;
pub mod backends;
mod circuit;
mod client_key;
pub mod config;
pub mod context_keys;
pub mod dispatch;
pub mod document;
pub mod egress;
pub mod files;
mod grpc_timeout;
pub mod guard;
pub mod heap;
pub mod host;
pub mod install_filters;
pub mod limits;
pub mod models;
mod owned;
pub mod pem;
pub mod pipeline;
pub mod policy_store;
pub mod printable;
pub mod renewed;
pub mod rfc3339;
pub mod sandbox;
pub mod secret_file;
pub mod server;
pub mod service;
pub mod telemetry;
mod turns;
pub mod unix_time;
pub mod watch;

pub use host::{Host, StartError};
pub use policy_store::assemble::{BeyondBudget, PolicyFault, beyond_budget};
