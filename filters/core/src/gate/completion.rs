//! How a gate completes a request head: it forwards the head or sends a response.

use tensorgate_policy::decision::BodyPlan;
use tensorgate_policy::request::Protocol;
use tensorgate_policy::{Denial, Now, Reason, Step};
use tensorgate_wire::{Answer, context};

use super::signed_context::Signed;
use super::{Gate, PendingRequest, Phase};
use crate::host::{Action, Level, Proxy, cannot_decide};
use crate::identify::shared_identity::SharedIdentity;
use crate::message_stream::{MessageStream, UnansweredChunks};
use crate::steps::streaming_validation::StreamingValidator;

impl Gate {
    /// Forwards the request: its headers, unless they were forwarded before, and the part of the
    /// body that has arrived.
    pub(super) fn forward(
        &mut self,
        proxy: &mut dyn Proxy,
        mut pending: Box<PendingRequest>,
        now: Now,
        rest: Remainder,
    ) -> Action {
        // A request is never forwarded completely while a charge is pending.
        if matches!(rest, Remainder::None | Remainder::PassThrough)
            && pending.decision.has_pending_charges()
        {
            let denial = Denial::new(
                Reason::Overloaded,
                "internal: a request with a pending charge",
            );
            return self.refuse(proxy, pending, denial);
        }
        self.outcome.note(&self.root.policy, &pending.decision);
        if pending.forwarded.is_none() {
            if let Err(denial) = self.send_headers(proxy, &pending, now, false) {
                return self.refuse(proxy, pending, denial);
            }
        } else if let Remainder::None = rest
            && let Err(denial) = self.send_verdict(proxy, &mut pending)
        {
            return self.refuse(proxy, pending, denial);
        }
        self.dispatched = true;
        self.phase = match rest {
            Remainder::None => Phase::Forwarded,
            Remainder::PassThrough if pending.forwarded.is_none() => Phase::PassThrough,
            Remainder::PassThrough | Remainder::Charging => {
                self.outcome.forwarded(proxy);
                self.outcome.allowed(proxy, &self.root);
                self.phase = Phase::Charging(pending);
                return Action::Continue;
            }
            // The verdict is still pending.
            Remainder::Validated(validator) => {
                self.phase = Phase::Validating(pending, validator);
                self.outcome.forwarded(proxy);
                return Action::Continue;
            }
            // The host judges each message.
            Remainder::Messages(_) if self.root.has_host() => {
                let policy = &self.root.policy;
                let client = pending.decision.client();
                let has_several =
                    client.is_some_and(|client| policy.may_get_several_answers(client));
                let chunks = UnansweredChunks::new(!has_several);
                Phase::PassingMessages(pending, Box::new(chunks))
            }
            // Each message has its own verdict here.
            Remainder::Messages(plan) => {
                let stream = MessageStream::new(plan, pending.until_unix_s);
                Phase::Messages(pending, Box::new(stream))
            }
        };
        self.outcome.allowed(proxy, &self.root);
        Action::Continue
    }

    /// Forwards the headers and passes the caller's identity on. If this filter identifies callers,
    /// its own header fields replace the client's. A signed context is added unless one exists.
    /// `verdict_follows`: this filter still evaluates the body. Returns the context; `None` if no
    /// host reads one.
    pub(super) fn send_headers(
        &self,
        proxy: &mut dyn Proxy,
        pending: &PendingRequest,
        now: Now,
        verdict_follows: bool,
    ) -> Result<Option<Signed>, Denial> {
        let signed = self.sign(pending, now, verdict_follows)?;
        let value = signed.as_ref().and_then(|signed| signed.value.as_deref());
        let added = value.map(|signed| (context::HEADER, signed));
        pending
            .rewrite
            .carry_out(proxy, &pending.upstream.fields(), added)
            .map_err(cannot_decide)?;
        if self.root.filter.shares_identity() && pending.previous.is_empty() {
            let record = &self.outcome.record;
            let identity = SharedIdentity {
                client: record.client.clone(),
                credential: record.credential.clone(),
                proofs: pending.decision.proofs(),
                request_id: record.request_id.clone(),
            };
            identity.publish(proxy).map_err(cannot_decide)?;
        }
        Ok(signed)
    }

    /// Rejects the request for a cause found in the filter.
    pub(super) fn refuse(
        &mut self,
        proxy: &mut dyn Proxy,
        mut pending: Box<PendingRequest>,
        denial: Denial,
    ) -> Action {
        let fallback = denial.clone();
        let denial = match pending.decision.refuse(&self.root.policy, denial) {
            Step::Deny(denial) => denial,
            // The cause found here stands, whatever else the decision returns.
            _ => fallback,
        };
        self.deny_pending(proxy, &pending, &denial)
    }

    pub(super) fn deny_pending(
        &mut self,
        proxy: &mut dyn Proxy,
        pending: &PendingRequest,
        denial: &Denial,
    ) -> Action {
        self.outcome.note(&self.root.policy, &pending.decision);
        let before = self.previous_rates(proxy, pending);
        let shown = Denial {
            rates: before.into_iter().chain(denial.rates.clone()).collect(),
            ..denial.clone()
        };
        let upstream = &pending.upstream;
        let (protocol, request_id) = (upstream.answer_protocol(), &self.outcome.record.request_id);
        let answer = Answer::to_denial_of_path(&shown, protocol, request_id, &upstream.path);
        match self.begin_linger(proxy, pending) {
            Some(bounds) => self.deny_after_body(proxy, &shown, answer, bounds),
            None => self.respond(proxy, &shown, &answer),
        }
    }

    /// Rejects a request of which no more than the protocol is known.
    pub(super) fn deny(
        &mut self,
        proxy: &mut dyn Proxy,
        denial: &Denial,
        protocol: Protocol,
    ) -> Action {
        let answer = Answer::to_denial(denial, protocol, &self.outcome.record.request_id);
        self.respond(proxy, denial, &answer)
    }

    /// Sends the response. The phase becomes final before any other call can fail.
    fn respond(&mut self, proxy: &mut dyn Proxy, denial: &Denial, answer: &Answer) -> Action {
        self.phase = Phase::Denied;
        self.outcome.denied(proxy, &self.root, denial);
        self.send_answer(proxy, answer);
        Action::Pause
    }

    /// Sends a response of which the outcome is recorded.
    pub(super) fn send_answer(&self, proxy: &mut dyn Proxy, answer: &Answer) {
        if let Err(fault) = proxy.respond(answer) {
            // The request stays on hold, and the proxy's own timeout ends it.
            let request_id = &self.outcome.record.request_id;
            proxy.log(Level::Error, &format!("request {request_id}: {fault}"));
        }
    }
}

/// What follows a forwarded head.
pub(super) enum Remainder {
    /// Nothing: the request is complete.
    None,
    /// A body that this filter does not read.
    PassThrough,
    /// A body that this filter does not read; its end waits for a pending charge.
    Charging,
    /// A body that is validated while it streams.
    Validated(Box<StreamingValidator>),
    /// Messages in this format.
    Messages(BodyPlan),
}
