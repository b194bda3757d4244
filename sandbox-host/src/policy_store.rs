//! Policy versions: what a bundle becomes when it is loaded, and which version serves a request.

pub(crate) mod artifacts;
pub(crate) mod assemble;
mod breaker_records;
pub mod gateways;
mod handler_metrics;
mod other_releases;
pub(crate) mod parallel;
pub(crate) mod parts;
pub mod pending_policy;
pub mod policy_versions;
pub(crate) mod refresh;
pub(crate) mod restriction;
pub(crate) mod revocation;
pub(crate) mod server_findings;
mod unknown_versions;
pub mod waiting_policy;
