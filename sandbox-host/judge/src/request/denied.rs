//! A denial: the caller, and whether the denial shows a fault of gate or host.

use tensorgate_policy::{Decision, Denial, Policy, Protocol};

/// The caller, as the gate signed it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The gate's request ID. Empty without a valid context.
    pub request_id: String,
    /// The request's `x-request-id` as it arrived at the gate. For the record only.
    pub client_request_id: String,
    /// The client's name. `None` for public requests.
    pub client: Option<String>,
    /// The name of the verified credential in the log.
    pub credential: Option<String>,
    /// The version of the policy that the gate applied. Empty without a valid context.
    pub policy_version: String,
}

/// What a denial says about gate and host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenialOrigin {
    /// There is no valid context, so the request does not come from the gate.
    UnknownSender,
    /// The context is of a gateway with this key, whose release this host does not understand.
    OtherRelease,
    /// The context names a policy version that this host does not have, or no longer, and the
    /// newest one denies the request.
    OtherPolicyVersion,
    /// The context names an older policy version, and the newest one no longer admits the client.
    Revoked,
    /// The gate accepted the request and the host does not: a bug in one of them.
    Disagreement,
    /// No filter has judged this part of the request, as the context says: none checks bodies, the
    /// body is larger than they read, or they left the rest to the host at a charge.
    FirstCheck,
    /// The host has charged or counted this: a limit, a permit, or the rate of messages.
    Counted,
}

/// What is known of a request that the host denied while it charged the head or judged the body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeniedBody {
    /// Whether the body names a model, or one was granted.
    pub names_model: bool,
    /// The model, once granted.
    pub model: Option<String>,
    /// The name of the grant, once found.
    pub grant: Option<String>,
    /// The caller's own ID, once decoded.
    pub id: Option<String>,
    /// Earlier denials that the grant's shadow mode let pass.
    pub shadowed: Vec<Denial>,
}

impl DeniedBody {
    /// What a decision knows of its request.
    pub(super) fn new(policy: &Policy, decision: &Decision) -> Self {
        let model = decision.model().and_then(|id| policy.model(id));
        let grant = decision.grant().and_then(|id| policy.grant(id));
        Self {
            names_model: model.is_some(),
            model: model.map(|model| model.name().to_owned()),
            grant: grant.map(|grant| grant.name().to_owned()),
            id: None,
            shadowed: decision.shadowed().to_vec(),
        }
    }
}

/// A denial.
#[derive(Debug)]
pub struct DeniedRequest {
    /// The reason.
    pub denial: Denial,
    /// The protocol of the response.
    pub protocol: Protocol,
    /// The caller, as far as it is proven.
    pub caller: Caller,
    /// What the denial says about gate and host.
    pub origin: DenialOrigin,
    /// What is known of the request, if it was charged or its body judged.
    pub body: DeniedBody,
}
