//! Renders a policy as the configuration of other systems. The output is deterministic: equal
//! inputs give equal bytes.

pub mod cluster;
pub mod envoy;
pub mod manifests;
pub mod node;
pub mod output;
pub mod source_record;
#[cfg(test)]
mod tests;

use tensorgate_policy::Fault;

/// The scheme for curl at an address of this machine, which is not the name in the certificate.
pub const fn local_scheme(is_encrypted: bool) -> &'static str {
    if is_encrypted { "-k https" } else { "http" }
}

/// Why a policy cannot be rendered for a target.
#[derive(Debug, thiserror::Error)]
pub enum Unrenderable {
    /// Rules that the target cannot enforce, at their places in the policy.
    #[error("the target cannot enforce the policy")]
    Policy(Vec<Fault>),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}
