//! The sandbox host. It verifies each request of the gate again, runs untrusted handlers as
//! components, and sends validated tensors to inference servers.
//!
//! Requests arrive on a Unix socket that only the host's own user can open ([`socket`],
//! [`server`]). Each request has a context that the gate signed ([`request`]). The host decodes and
//! checks the request with the same code as the gate. Then the request passes the preprocess
//! handlers, the backend and the postprocess handlers ([`pipeline`]). The output of each is checked
//! before the next one gets it. No byte of a client is forwarded: [`backends`] builds every backend
//! request from the checked tensors.

mod assemble;
mod fair_share;
mod grpc_timeout;
mod memory_budget;
mod mirroring;
mod owned;
mod readiness;
mod revocation;
mod turns;

pub mod admin;
pub mod admission;
pub mod audit;
pub mod backends;
pub mod body;
pub mod budget;
pub mod capture;
pub mod client_key;
pub mod config;
pub mod dispatch;
pub mod document;
pub mod egress;
pub mod guard;
pub mod health;
pub mod heap;
pub mod host;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod os_sandbox;
pub mod pipeline;
pub mod policy_versions;
pub mod record;
pub mod reload;
pub mod reply;
pub mod request;
pub mod sandbox;
pub mod serve;
pub mod server;
pub mod shadow;
pub mod signed;
pub mod socket;
pub mod sources;
pub mod statistics;
pub mod timings;

pub use assemble::{BeyondBudget, PolicyFault, beyond_budget};
pub use host::{Host, StartError};
