//! Verifies one request again, independently of the gate: context, headers, body and contract.
//!
//! The module is pure. Bytes and a time go in, and an allowed request or a denial comes out. So
//! offline tools and decision vectors run the host's own code.
//!
//! It opens no socket and reads no clock. A driver counts what the host charges ([`Counters`]).
//! What the gate has charged has the outcome that the gate reports. Charges of the head are made
//! before the body is read ([`AwaitedHead`]), the others while it is judged ([`BodyJudgement`]). A
//! client's name is accepted only from a context that the gate signed.
//!
//! The gate may have applied a policy that this host has not loaded. Its verdicts count for nothing
//! then: the request must pass this host's policy. What that one denies, the other may allow, so
//! the client gets 503 and tries again (`docs/adr/0065-unknown-version-under-newest.md`).

mod awaited_head;
mod charges;
mod claims;
mod denied;
mod head;
mod judgement;
mod stream_head;

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use tensorgate_base::payload::Payload;
use tensorgate_policy::decision::BodyPlan;
use tensorgate_policy::denial::{OverloadCause, RateNote};
use tensorgate_policy::policy::{GrantId, ModelId};
use tensorgate_policy::request::{ContentType, Identity, Operations, Proofs, ServerQuery};
use tensorgate_policy::tensor::Parameter;
use tensorgate_policy::{Decision, Denial, Operation, Policy, Protocol, Reason, RequestHash, Step};
use tensorgate_wire::check_server_query;
use tensorgate_wire::context::{Context, ContextFault, Key};
use tensorgate_wire::encode::AnswerForm;
use tensorgate_wire::headers::ReadHead;

use crate::context_keys::{ContextKeys, VerifiedContext};
use crate::document::Document;
pub use awaited_head::{AwaitedHead, HeadProgress};
use charges::Charges;
use claims::{header_fields, subtract_from_size};
pub use denied::{Caller, DenialOrigin, DeniedBody, DeniedRequest};
use head::unknown_sender;
pub use head::{ContextDenial, read_head};
pub use judgement::{BodyJudgement, Counted, Counters, Progress, Unspent};
pub use stream_head::StreamHead;

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
    },
    /// A request to a model. Its body comes next.
    Model(Box<AcceptedHead>),
    /// A stream of inferences. Each message that follows is a request of its own.
    Stream(Box<StreamHead>),
}

/// An accepted head of a model request. Its body is still to come.
#[derive(Debug)]
pub struct AcceptedHead {
    caller: Caller,
    decision: Decision,
    plan: BodyPlan,
    content_type: Option<String>,
    charges: Charges,
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

    /// Whether a filter has buffered and checked the whole body.
    pub const fn is_buffered_by_gate(&self) -> bool {
        self.charges.is_buffered()
    }

    /// The protocol of the response.
    pub const fn protocol(&self) -> Protocol {
        self.decision.protocol()
    }

    /// The remaining quota of the limits that the head was charged to.
    pub fn remaining_quota(&self, policy: &Policy) -> Vec<RateNote> {
        self.decision.rate_notes(policy)
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
        let head = self.verify_fields(fields, body.is_empty(), now_unix_s)?;
        let verdict = match head.advance(self, counters)? {
            HeadProgress::Accepted(verdict) => verdict,
            // These counters let no charge be awaited.
            HeadProgress::Charge(head, _) => return Err(head.denied(self, unfinished())),
        };
        match verdict {
            HeadVerdict::Server {
                caller,
                protocol,
                question,
                ..
            } => {
                self.verify_server_query(&caller, (protocol, question), &body)?;
                Ok(Allowed::Server(protocol, question))
            }
            HeadVerdict::Model(admitted) => {
                if body.len() > admitted.plan.max_bytes {
                    return Err(self.too_large(*admitted));
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
    ) -> Result<Box<AwaitedHead>, Box<DeniedRequest>> {
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

    /// Verifies a head that [`read_head`] has read, with the context that came with it. Nothing is
    /// charged yet.
    ///
    /// # Errors
    /// Returns the denial.
    pub fn verify_head(
        &self,
        read: ReadHead<'_>,
        context: Result<VerifiedContext, Box<ContextDenial>>,
        now_unix_s: u64,
    ) -> Result<Box<AwaitedHead>, Box<DeniedRequest>> {
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
            }) => Identity::Client(client.as_str().into()),
            Ok(Context { client: None, .. }) | Err(_) => Identity::Missing,
        };
        let client_request_id = read.request_id.to_owned();
        let proofs = context.map_or(Proofs::NONE, |one| one.proofs);
        // The scope of a token only restricts, so that of another policy's filter counts as well.
        let withheld = context.map_or_else(|_| Operations::default(), |one| one.withheld);
        let mut head = read.into_head_under(identity, proofs, withheld, &self.policy);
        // The gate's request ID selects the version, as it did in the gate.
        head.request_hash = context.map_or_else(
            |_| RequestHash::default(),
            |one| RequestHash::from_request_id(&one.request_id),
        );
        let protocol = head.route.protocol();
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
        let is_own_version = self.is_own_version(&caller);
        head.caller = if is_own_version {
            context.caller.of_own_policy()
        } else {
            context.caller
        };
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
        let content_type = if head.content_type == ContentType::Json {
            Some("application/json".to_owned())
        } else {
            head.content_type.name().map(str::to_owned)
        };
        let (decision, step) = Decision::begin(&self.policy, &head);
        if let Step::Deny(denial) = step {
            return refused(denial, caller, DenialOrigin::Disagreement);
        }
        if head.route.is_stream() && !is_own_version {
            let denial = Denial::new(Reason::Overloaded, "a stream needs its filter's policy");
            let denial = denial.overloaded_by(OverloadCause::Policy);
            return refused(denial, caller, DenialOrigin::OtherPolicyVersion);
        }
        Ok(Box::new(AwaitedHead {
            caller,
            decision,
            next: Some(step),
            charges: Charges::new(context.work, context.quotas, is_own_version),
            content_type,
            until_unix_s: context.until_unix_s,
            claims,
            key,
        }))
    }

    /// Verifies the body of a request about the server.
    ///
    /// # Errors
    /// Returns the denial if the message is malformed.
    pub fn verify_server_query(
        &self,
        caller: &Caller,
        (protocol, question): (Protocol, ServerQuery),
        body: &[u8],
    ) -> Result<(), Box<DeniedRequest>> {
        if !protocol.is_grpc() {
            return Ok(());
        }
        check_server_query(question, body).map_err(|denial| {
            self.denied(denial, protocol, caller.clone(), DenialOrigin::Disagreement)
        })
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

    /// The denial of a body that exceeds its plan's limit.
    pub fn too_large(&self, admitted: AcceptedHead) -> Box<DeniedRequest> {
        let max_bytes = admitted.plan.max_bytes;
        let denial = Denial::new(
            Reason::BodyTooLarge,
            format!("the body is larger than {max_bytes} bytes"),
        );
        let bytes = wide(max_bytes).saturating_add(1);
        let origin = admitted.charges.origin_of_body(&denial, bytes);
        let body = DeniedBody::new(&self.policy, &admitted.decision);
        let mut denied = self.denied(denial, admitted.protocol(), admitted.caller, origin);
        denied.body = body;
        denied
    }
}

/// A decision that does not end is a denial.
fn unfinished() -> Denial {
    Denial::new(Reason::Overloaded, "internal: the decision did not end")
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
