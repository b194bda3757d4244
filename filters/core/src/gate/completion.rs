//! How a gate completes a request head: it forwards the head or sends a response.

use tensorgate_policy::decision::BodyPlan;
use tensorgate_policy::request::Protocol;
use tensorgate_policy::{Denial, Now, Reason, Step};
use tensorgate_wire::{Answer, context};

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
        let sent = if pending.forwarded.is_some() {
            self.release_copy(proxy, &mut pending)
        } else {
            let is_complete = matches!(rest, Remainder::None);
            self.send_headers(
                proxy,
                &pending,
                now,
                is_complete && !self.forwards_headers(),
            )
        };
        if let Err(denial) = sent {
            return self.refuse(proxy, pending, denial);
        }
        self.dispatched = true;
        self.phase = match rest {
            Remainder::None => Phase::Forwarded,
            Remainder::PassThrough => Phase::PassThrough,
            Remainder::Charging => {
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

    /// Leaves a body above the bound to the host: forwards the head and what has arrived.
    pub(super) fn leave_to_host(
        &mut self,
        proxy: &mut dyn Proxy,
        pending: Box<PendingRequest>,
        end_of_stream: bool,
    ) -> Action {
        match proxy.now() {
            Ok(now) => self.forward(proxy, pending, now, Remainder::unread(end_of_stream)),
            Err(fault) => self.refuse(proxy, pending, cannot_decide(fault)),
        }
    }

    /// Forwards the headers and passes the caller's identity on. If this filter identifies callers,
    /// its own header fields replace the client's. A signed context is added if a host reads it and
    /// this filter has something to add. `buffered`: the whole body has arrived.
    pub(super) fn send_headers(
        &self,
        proxy: &mut dyn Proxy,
        pending: &PendingRequest,
        now: Now,
        buffered: bool,
    ) -> Result<(), Denial> {
        let signed = self.sign(pending, now, buffered)?;
        let added = signed.as_deref().map(|signed| (context::HEADER, signed));
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
        Ok(())
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

impl Remainder {
    /// A body that this filter does not read, or no more than has arrived.
    pub(super) const fn unread(end_of_stream: bool) -> Self {
        if end_of_stream {
            Self::None
        } else {
            Self::PassThrough
        }
    }
}
