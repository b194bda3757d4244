//! Verifies one request again, independently of the gate: context, headers, body and contract.
//!
//! The module is pure. Bytes and a time go in, and an allowed request or a denial comes out. So
//! offline tools and decision vectors run the host's own code.
//!
//! It opens no socket and reads no clock. A driver counts what the host charges ([`Counters`]).
//! What the gate has charged has the outcome that the gate reports. A client's name is accepted
//! only from a context that the gate signed.
//!
//! The gate may have applied a policy that this host has not loaded. Its verdicts count for nothing
//! then: the request must pass this host's policy. What that one denies, the other may allow, so
//! the client gets 503 and tries again (`docs/adr/0065-unknown-version-under-newest.md`).

mod charges;
mod claims;
mod denied;
mod head;
mod judgement;
mod stream_head;
mod verdicts;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use tensorgate_base::payload::Payload;
use tensorgate_policy::decision::{BodyPlan, decide_head};
use tensorgate_policy::denial::{OverloadCause, RateNote};
use tensorgate_policy::policy::{GrantId, ModelId, RemainingQuota};
use tensorgate_policy::request::{ContentType, Identity, Operations, Proofs, ServerQuery};
use tensorgate_policy::tensor::Parameter;
use tensorgate_policy::{
    ChargeOutcome, Decision, Denial, Operation, Policy, Protocol, Reason, RequestHash, Step,
};
use tensorgate_wire::context::{Context, ContextFault, Key};
use tensorgate_wire::encode::AnswerForm;
use tensorgate_wire::headers::ReadHead;

use crate::body::CollectedBody;
use crate::context_keys::{ContextKeys, VerifiedContext};
use crate::document::Document;
use charges::made_elsewhere;
use claims::{header_fields, subtract_from_size};
pub use denied::{Caller, DenialOrigin, DeniedBody, DeniedRequest};
use head::unknown_sender;
pub use head::{ContextDenial, read_head};
pub use judgement::{BodyJudgement, Counted, Counters, Progress, Unspent};
pub use stream_head::StreamHead;
pub use verdicts::AnnouncedVerdicts;

/// Seconds that a context may be older than the longest stream, for scheduling and the hop from
/// gate to host.
const CONTEXT_MARGIN_S: u64 = 5;

/// Header fields in the order of arrival, with pseudo-headers.
pub type Fields = [(Vec<u8>, Vec<u8>)];

/// Verifies requests under one policy.
#[derive(Clone)]
pub struct Verifier {
    policy: Arc<Policy>,
    policy_version: String,
    keys: ContextKeys,
    max_age_s: u64,
}

/// The verdict on an accepted head.
#[derive(Debug)]
pub enum HeadVerdict {
    /// A request about the server as a whole.
    Server {
        /// The caller.
        caller: Caller,
        /// The credentials that the caller has proven.
        proofs: Proofs,
        /// The protocol of the response.
        protocol: Protocol,
        /// The kind of request.
        question: ServerQuery,
        /// Verdicts on the body that must arrive before the response.
        announced: AnnouncedVerdicts,
    },
    /// A request to a model. Its body comes next.
    Model(Box<AcceptedHead>),
    /// A stream of inferences. Each message that follows is a request of its own.
    Stream(Box<StreamHead>),
}

impl HeadVerdict {
    /// The caller.
    pub fn caller(&self) -> &Caller {
        match self {
            Self::Server { caller, .. } => caller,
            Self::Model(admitted) => admitted.caller(),
            Self::Stream(opened) => opened.caller(),
        }
    }

    /// The protocol of the response.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Server { protocol, .. } => *protocol,
            Self::Model(admitted) => admitted.protocol(),
            Self::Stream(_) => Protocol::OipGrpc,
        }
    }
}

/// An accepted head of a model request. Its body is still to come.
#[derive(Debug)]
pub struct AcceptedHead {
    caller: Caller,
    decision: Decision,
    plan: BodyPlan,
    content_type: Option<String>,
    /// Whether a filter checks the body against the contract.
    checked: bool,
    announced: AnnouncedVerdicts,
    /// Whether this is a message of a stream, for which no filter has charged or acquired anything.
    is_message: bool,
    remaining_quota: Vec<RemainingQuota>,
    claims: HeaderMap,
    /// The key that verified the context.
    key: Arc<Key>,
}

impl AcceptedHead {
    /// The caller.
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// How to read the body.
    pub const fn plan(&self) -> BodyPlan {
        self.plan
    }

    /// Whether the gate has buffered the whole body. A filter has then checked it, and buffers
    /// bodies up to a limit.
    pub const fn is_buffered_by_gate(&self) -> bool {
        self.checked && self.announced.is_empty()
    }

    /// Verdicts that must arrive with the body.
    pub const fn announced(&self) -> &AnnouncedVerdicts {
        &self.announced
    }

    /// The protocol of the response.
    pub const fn protocol(&self) -> Protocol {
        self.decision.protocol()
    }

    /// The remaining quota of the limits that the head was charged to.
    pub fn remaining_quota(&self, policy: &Policy) -> Vec<RateNote> {
        self.decision.rate_notes(policy)
    }

    /// What a denial of the body says about gate and host. Every filter checks the model of a body;
    /// only some check its content. No filter reads the messages of a stream.
    const fn denial_origin(&self, denial: &Denial) -> DenialOrigin {
        match (denial.reason, denial.overload) {
            (Reason::CostExceeded | Reason::Concurrency, _)
            | (_, Some(OverloadCause::Store | OverloadCause::RateLimitService)) => {
                DenialOrigin::Counted
            }
            (Reason::RateLimited, _) if self.is_message => DenialOrigin::Counted,
            _ if self.is_message => DenialOrigin::FirstCheck,
            (Reason::NotGranted, _) => DenialOrigin::Disagreement,
            _ if self.checked => DenialOrigin::Disagreement,
            _ => DenialOrigin::FirstCheck,
        }
    }
}

/// A request that passed every check.
#[derive(Debug)]
pub enum Allowed {
    /// A request about the server as a whole.
    Server(Protocol, ServerQuery),
    /// A request to a model.
    Model(Box<ModelRequest>),
    /// Every message of a stream.
    Stream(Vec<ModelRequest>),
}

/// A checked request to one version of one model. It owns its data, so the body that it came from
/// can be dropped.
#[derive(Debug)]
pub struct ModelRequest {
    /// The caller.
    pub caller: Caller,
    /// The protocol of the response.
    pub protocol: Protocol,
    /// The operation.
    pub operation: Operation,
    /// The model.
    pub model: ModelId,
    /// The grant that allows the request.
    pub grant: Option<GrantId>,
    /// The version, always explicit.
    pub version: String,
    /// The caller's own ID. It is echoed in the response and used nowhere else.
    pub id: Option<String>,
    /// Request parameters that a rule allows.
    pub parameters: Vec<Parameter<'static>>,
    /// The requested outputs. Empty means all.
    pub outputs: Vec<String>,
    /// The format of the response.
    pub form: AnswerForm,
    /// The input of the model or of its preprocess handler.
    pub payload: Payload,
    /// The remaining quota of the caller's limits.
    pub remaining_quota: Vec<RateNote>,
    /// Denials that were not enforced because their grant is in shadow mode.
    pub shadowed: Vec<Denial>,
    /// Names of members and parameters that the policy ignores and that were removed.
    pub ignored: Vec<String>,
    /// The document for the backend, in protocols without tensors.
    pub document: Option<Document>,
    /// The claims of the caller's token for the backend.
    pub claims: HeaderMap,
}

impl Verifier {
    /// Creates a verifier for a policy, its version, and the keys with which gates sign.
    pub fn new(policy: Arc<Policy>, generation: String, keys: impl Into<ContextKeys>) -> Self {
        let max_age_s = policy
            .listen()
            .limits()
            .stream_ms
            .div_ceil(1_000)
            .saturating_add(CONTEXT_MARGIN_S);
        Self {
            policy,
            policy_version: generation,
            keys: keys.into(),
            max_age_s,
        }
    }

    /// The policy.
    pub const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Verifies a complete request. `now_unix_s` is the wall clock. The counters must answer at
    /// once.
    ///
    /// # Errors
    /// Returns the denial.
    pub fn verify(
        &self,
        fields: &Fields,
        body: Bytes,
        now_unix_s: u64,
        counters: &dyn Counters,
    ) -> Result<Allowed, Box<DeniedRequest>> {
        match self.verify_fields(fields, body.is_empty(), now_unix_s)? {
            HeadVerdict::Server {
                caller,
                protocol,
                question,
                announced,
                ..
            } => {
                let body = without_trailers(body);
                self.verify_server_query(&caller, &announced, (protocol, question), body)?;
                Ok(Allowed::Server(protocol, question))
            }
            HeadVerdict::Model(mut admitted) => {
                let body = self.take_verdicts(&mut admitted, without_trailers(body))?;
                if body.len() > admitted.plan.max_bytes {
                    let max_bytes = admitted.plan.max_bytes;
                    return Err(self.too_large(*admitted, max_bytes));
                }
                self.verify_body(*admitted, body, counters)
                    .map(|request| Allowed::Model(Box::new(request)))
            }
            HeadVerdict::Stream(opened) => opened
                .verify_messages(self, &body, counters)
                .map(Allowed::Stream),
        }
    }

    /// Verifies a head. `end_of_stream` means that no body follows.
    ///
    /// # Errors
    /// Returns the denial.
    pub(crate) fn verify_fields(
        &self,
        fields: &Fields,
        end_of_stream: bool,
        now_unix_s: u64,
    ) -> Result<HeadVerdict, Box<DeniedRequest>> {
        read_head(
            fields,
            end_of_stream,
            &self.keys,
            now_unix_s,
            |read, context| self.verify_head(read, context, now_unix_s),
        )
    }

    /// The maximum age of a context under this policy, in seconds.
    pub const fn max_age_s(&self) -> u64 {
        self.max_age_s
    }

    /// The version of the policy.
    pub fn policy_version(&self) -> &str {
        &self.policy_version
    }

    /// Whether the gate applied this policy.
    fn is_own_version(&self, caller: &Caller) -> bool {
        caller.policy_version == self.policy_version
    }

    /// A denial under this policy. If the gate applied another one, it becomes `overloaded`.
    pub fn denied(
        &self,
        denial: Denial,
        protocol: Protocol,
        caller: Caller,
        origin: DenialOrigin,
    ) -> Box<DeniedRequest> {
        let is_unread = matches!(
            origin,
            DenialOrigin::UnknownSender | DenialOrigin::OtherRelease
        );
        let (denial, origin) = if is_unread || self.is_own_version(&caller) {
            (denial, origin)
        } else {
            let cause = format!(
                "the filter used policy {}, this host uses {}, which rejects the request ({}): {}",
                caller.policy_version,
                self.policy_version,
                denial.reason.name(),
                denial.cause
            );
            let denial = Denial::new(Reason::Overloaded, cause);
            let denial = denial.overloaded_by(OverloadCause::Policy);
            (denial, DenialOrigin::OtherPolicyVersion)
        };
        Box::new(DeniedRequest {
            denial,
            protocol,
            caller,
            origin,
            body: DeniedBody::default(),
        })
    }

    /// Verifies a head that [`read_head`] has read, with the context that came with it.
    ///
    /// # Errors
    /// Returns the denial.
    pub fn verify_head(
        &self,
        read: ReadHead<'_>,
        context: Result<VerifiedContext, Box<ContextDenial>>,
        now_unix_s: u64,
    ) -> Result<HeadVerdict, Box<DeniedRequest>> {
        let verified = context.and_then(|verified| {
            if now_unix_s.saturating_sub(verified.context.issued_unix_s) > self.max_age_s {
                let cause = ContextFault::Age.to_string();
                Err(unknown_sender(Denial::new(Reason::Unauthenticated, cause)))
            } else {
                Ok(verified)
            }
        });
        let context = verified.as_ref().map(|verified| &verified.context);
        let identity = match context {
            Ok(Context {
                client: Some(client),
                ..
            }) => Identity::Client(client.clone()),
            Ok(Context { client: None, .. }) | Err(_) => Identity::Missing,
        };
        let client_request_id = read.request_id.to_owned();
        let proofs = context.map_or(Proofs::NONE, |one| one.proofs);
        // The gate has enforced the scope of a token.
        let withheld = Operations::default();
        let mut head = read.into_head_under(identity, proofs, withheld, &self.policy);
        // The gate's request ID selects the version, as it did in the gate.
        head.request_hash = context.map_or_else(
            |_| RequestHash::default(),
            |one| RequestHash::from_request_id(&one.request_id),
        );
        let protocol = head.route.protocol();
        let announced = verified.as_ref().map_or_else(
            |_| AnnouncedVerdicts::default(),
            |verified| AnnouncedVerdicts::new(&verified.context, &verified.key),
        );
        let refused =
            |denial, caller, standing| Err(self.denied(denial, protocol, caller, standing));

        let VerifiedContext { context, key } = match verified {
            Ok(verified) => verified,
            Err(rejected) => {
                let ContextDenial { denial, origin } = *rejected;
                return refused(denial, Caller::default(), origin);
            }
        };
        let caller = Caller {
            request_id: context.request_id,
            client_request_id,
            client: context.client,
            credential: context.credential,
            policy_version: context.generation,
        };
        let until_unix_s = context.until_unix_s;
        let is_own_version = self.is_own_version(&caller);
        let is_for_claims = |name: &String| self.policy.is_for_claims(name.as_bytes());
        if !is_own_version && !context.claims.iter().all(|(name, _)| is_for_claims(name)) {
            // The backend must not see a field that this policy does not reserve for claims.
            let cause = "a claim is forwarded in a field that this policy does not name";
            let denial = Denial::new(Reason::Overloaded, cause);
            let denial = denial.overloaded_by(OverloadCause::Policy);
            return refused(denial, caller, DenialOrigin::OtherPolicyVersion);
        }
        let Some(claims) = header_fields(&context.claims) else {
            let denial = Denial::new(
                Reason::Overloaded,
                "internal: a claim does not fit into a header field",
            );
            return refused(denial, caller, DenialOrigin::Disagreement);
        };
        subtract_from_size(&mut head, &context.claims);
        let content_type = match &head.content_type {
            ContentType::Json => Some("application/json".to_owned()),
            declared => declared.name().map(str::to_owned),
        };
        let mut levels = context.quotas;
        match decide_head(&self.policy, &head, |charge| {
            let made = made_elsewhere(&mut levels, charge, is_own_version);
            // The filter makes each charge of a head.
            made.unwrap_or(ChargeOutcome::CHARGED)
        }) {
            (decision, Step::Answer(protocol, question)) => Ok(HeadVerdict::Server {
                caller,
                proofs: decision.proofs(),
                protocol,
                question,
                announced,
            }),
            (decision, Step::ReadBody(plan)) => Ok(HeadVerdict::Model(Box::new(AcceptedHead {
                caller,
                decision,
                plan,
                content_type,
                checked: context.checked,
                announced,
                is_message: false,
                remaining_quota: levels,
                claims,
                key,
            }))),
            (_, Step::ReadMessages(_)) if !is_own_version => {
                let denial = Denial::new(Reason::Overloaded, "a stream needs its filter's policy");
                let denial = denial.overloaded_by(OverloadCause::Policy);
                refused(denial, caller, DenialOrigin::OtherPolicyVersion)
            }
            (decision, Step::ReadMessages(plan)) => {
                let opened = StreamHead {
                    caller,
                    decision,
                    plan,
                    until_unix_s,
                    claims,
                    key,
                };
                Ok(HeadVerdict::Stream(Box::new(opened)))
            }
            (_, Step::Deny(denial)) => refused(denial, caller, DenialOrigin::Disagreement),
            (
                _,
                Step::Charge(_) | Step::Acquire(_) | Step::Decode | Step::Check | Step::Forward,
            ) => refused(unfinished(), caller, DenialOrigin::Disagreement),
        }
    }

    /// Verifies the body of an accepted head in one part.
    fn verify_body(
        &self,
        admitted: AcceptedHead,
        body: Bytes,
        counters: &dyn Counters,
    ) -> Result<ModelRequest, Box<DeniedRequest>> {
        let mut judgement = BodyJudgement::new(admitted, body);
        match judgement.run(self, counters)? {
            Progress::Passed(request) => Ok(*request),
            // These counters let no charge be awaited.
            Progress::Charge(_) => Err(judgement.denied(self, unfinished())),
        }
    }

    /// The denial of a body that exceeds its limit.
    pub fn too_large(&self, admitted: AcceptedHead, max_bytes: usize) -> Box<DeniedRequest> {
        let denial = Denial::new(
            Reason::BodyTooLarge,
            format!("the body is larger than {max_bytes} bytes"),
        );
        let (protocol, origin) = (admitted.protocol(), admitted.denial_origin(&denial));
        self.denied(denial, protocol, admitted.caller, origin)
    }
}

fn without_trailers(bytes: Bytes) -> CollectedBody {
    CollectedBody {
        bytes,
        trailers: None,
    }
}

/// A decision that does not end is a denial.
fn unfinished() -> Denial {
    Denial::new(Reason::Overloaded, "internal: the decision did not end")
}
