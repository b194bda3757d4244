//! A refusal: who asked, and whether it tells of a fault of ours.

use tensorgate_policy::{Denial, Protocol};

/// Who is asking, as the gate signed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The gate's request id; empty if no valid context came.
    pub request_id: String,
    /// The client's name; `None` for public questions.
    pub client: Option<String>,
    /// The log's name of the credential that proved it.
    pub credential: Option<String>,
    /// The policy that the gate judged by; empty if no valid context came.
    pub generation: String,
}

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
