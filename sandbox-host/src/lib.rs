//! The sandbox host: judges each request of the gate again, runs untrusted handlers as components, and sends validated
//! tensors to inference servers.
//!
//! A request comes over a Unix socket that only our own user can open ([`socket`], [`server`]), with a context that the gate signed
//! ([`request`]). It is decoded and checked by the gate's own code, then runs through handler, backend and handler
//! ([`pipeline`]), each party's output being checked before the next one sees it. No byte of a client is forwarded:
//! what a backend gets is built afresh ([`backends`]).

mod assemble;
mod copies;
mod grpc_timeout;
mod owned;
mod revocation;
mod room;
mod sharing;
mod turns;

pub mod admin;
pub mod admission;
pub mod audit;
pub mod backends;
pub mod body;
pub mod budget;
pub mod capture;
pub mod config;
pub mod dispatch;
pub mod document;
pub mod generations;
pub mod guard;
pub mod health;
pub mod heap;
pub mod host;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod pipeline;
pub mod reach;
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
pub mod statistics;
pub mod timings;
pub mod wall;

pub use assemble::{BeyondBudget, PolicyFault, beyond_budget};
pub use host::{Host, StartError};
