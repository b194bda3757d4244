//! A verified head before its charges are made. Its driver first rejects clients that are blocked
//! or revoked, so that they use no limit. Then the charges are made in parts, because the outcome
//! of a shared one has to be awaited.

use std::sync::Arc;

use http::HeaderMap;
use tensorgate_policy::decision::BodySeen;
use tensorgate_policy::{
    Charge, ChargeOutcome, Decision, Denial, Operation, Policy, Protocol, Step,
};
use tensorgate_wire::context::Key;

use super::charges::Charges;
use super::{
    AcceptedHead, Caller, Counted, Counters, DeniedBody, DeniedRequest, HeadVerdict, StreamHead,
    Verifier, unfinished,
};

/// A head whose charges are still to be made.
#[derive(Debug)]
pub struct AwaitedHead {
    pub(super) caller: Caller,
    pub(super) decision: Decision,
    /// The step at which the next part begins; `None`: the outcome of a charge is awaited.
    pub(super) next: Option<Step>,
    pub(super) charges: Charges,
    pub(super) content_type: Option<String>,
    /// When the caller's credential expires, in Unix seconds.
    pub(super) until_unix_s: Option<u64>,
    pub(super) claims: HeaderMap,
    /// The key that verified the context.
    pub(super) key: Arc<Key>,
}

/// Where a part of a head has ended.
#[derive(Debug)]
pub enum HeadProgress {
    /// At a charge that has to be awaited. Its outcome goes to [`AwaitedHead::charged`].
    Charge(Box<AwaitedHead>, Charge),
    /// At the end: the head is accepted.
    Accepted(HeadVerdict),
}

impl AwaitedHead {
    /// The caller.
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The protocol of the response.
    pub const fn protocol(&self) -> Protocol {
        self.decision.protocol()
    }

    /// Whether it opens a stream of inferences. Bodies that ask for a streamed response are still
    /// unread.
    pub fn is_stream(&self) -> bool {
        self.decision.operation() == Some(Operation::Stream)
    }

    /// Makes the next charges and acquires permits.
    ///
    /// # Errors
    /// Returns the denial.
    pub fn advance(
        mut self: Box<Self>,
        verifier: &Verifier,
        counters: &dyn Counters,
    ) -> Result<HeadProgress, Box<DeniedRequest>> {
        let policy: &Policy = verifier.policy();
        let next = self.next.take();
        let mut step = next.unwrap_or_else(|| Step::Deny(unfinished()));
        // Each stage of a head occurs once, so the loop ends.
        loop {
            step = match step {
                Step::Charge(charge) => {
                    match self.charges.make(&charge, BodySeen::Head, counters) {
                        Counted::Done(outcome) => self.decision.charged(policy, outcome),
                        Counted::Awaited => return Ok(HeadProgress::Charge(self, charge)),
                    }
                }
                Step::Acquire(acquire) => {
                    let outcome = self.charges.acquire(acquire, BodySeen::Head, counters);
                    self.decision.acquired(policy, &outcome)
                }
                Step::Deny(denial) => return Err(self.denied(verifier, denial)),
                step @ (Step::Answer(..)
                | Step::ReadBody(_)
                | Step::ReadMessages(_)
                | Step::Decode
                | Step::Check
                | Step::Forward) => return self.accepted(verifier, step),
            };
        }
    }

    /// Continues with the outcome of the charge at which the last part has ended.
    pub fn charged(&mut self, verifier: &Verifier, outcome: ChargeOutcome) {
        self.next = Some(self.decision.charged(verifier.policy(), outcome));
    }

    /// A denial after which the request is over.
    pub(super) fn denied(&self, verifier: &Verifier, denial: Denial) -> Box<DeniedRequest> {
        let origin = self.charges.origin_of_head(&denial);
        let caller = self.caller.clone();
        let mut denied = verifier.denied(denial, self.protocol(), caller, origin);
        denied.body = DeniedBody::new(verifier.policy(), &self.decision);
        denied
    }

    fn accepted(self, verifier: &Verifier, step: Step) -> Result<HeadProgress, Box<DeniedRequest>> {
        let verdict = match step {
            Step::Answer(protocol, question) => HeadVerdict::Server {
                proofs: self.decision.proofs(),
                caller: self.caller,
                protocol,
                question,
            },
            Step::ReadBody(plan) => HeadVerdict::Model(Box::new(AcceptedHead {
                caller: self.caller,
                decision: self.decision,
                plan,
                content_type: self.content_type,
                charges: self.charges,
                claims: self.claims,
                key: self.key,
            })),
            Step::ReadMessages(plan) => HeadVerdict::Stream(Box::new(StreamHead {
                caller: self.caller,
                decision: self.decision,
                plan,
                until_unix_s: self.until_unix_s,
                claims: self.claims,
                key: self.key,
            })),
            Step::Deny(_)
            | Step::Charge(_)
            | Step::Acquire(_)
            | Step::Decode
            | Step::Check
            | Step::Forward => return Err(self.denied(verifier, unfinished())),
        };
        Ok(HeadProgress::Accepted(verdict))
    }
}
