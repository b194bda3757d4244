//! Policy versions: what a bundle becomes when it is loaded, and which version serves a request.

pub(crate) mod assemble;
pub mod policy_versions;
pub(crate) mod revocation;
pub mod signed;
