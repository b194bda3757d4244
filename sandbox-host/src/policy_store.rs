//! Policy versions: what a bundle becomes when it is loaded, and which version serves a request.
//! `sources` is the reported state of the files behind a bundle.

pub(crate) mod artifacts;
pub(crate) mod assemble;
pub mod gateways;
pub(crate) mod parallel;
pub mod pending_policy;
pub mod policy_versions;
pub(crate) mod refresh;
pub(crate) mod restriction;
pub(crate) mod revocation;
pub mod signed;
pub mod sources;
mod unknown_versions;
