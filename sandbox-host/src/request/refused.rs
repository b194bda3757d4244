//! A refusal, and whether it tells of a fault of ours.

use tensorgate_policy::{Denial, Protocol};

use super::Caller;

/// What a refusal says about the two halves of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No valid context: it does not come from our gate.
    Stranger,
    /// A valid context of a policy that this host does not hold, or no longer.
    OtherGeneration,
    /// A valid context of an older policy, for somebody whom the newest no longer lets in.
    Revoked,
    /// The gate let it through and the host does not: a bug in one of them.
    Disagreement,
    /// A body that no filter has held against the contract, as the context says: the host is the first to judge it.
    FirstJudged,
}

/// A refusal.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub denial: Denial,
    /// In which protocol to answer.
    pub protocol: Protocol,
    /// Who asked, as far as it is proven.
    pub caller: Caller,
    /// What it says about gate and host.
    pub standing: Standing,
}
