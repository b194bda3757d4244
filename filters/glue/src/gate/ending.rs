//! How a gate is done with a head: it sends it on, or answers.

use tensorgate_policy::decision::BodyPlan;
use tensorgate_policy::request::Protocol;
use tensorgate_policy::{Denial, Now, Reason, Step};
use tensorgate_wire::{Answer, context};

use super::{Gate, Held, Phase, cannot_decide};
use crate::checking::Checking;
use crate::host::{Action, Level, Proxy};
use crate::shared_identity::SharedIdentity;
use crate::streaming::Streaming;

impl Gate {
    /// Sends the request on, and says who is calling to whoever stands behind: with our own header fields in place of the client's if that
    /// is this filter's duty, and with a signed context unless there is one.
    pub(super) fn forward(
        &mut self,
        proxy: &mut dyn Proxy,
        held: Box<Held>,
        now: Now,
        rest: Rest,
    ) -> Action {
        // Whatever came before: nothing goes on whole while it is not told whether it may.
        if matches!(rest, Rest::None | Rest::Passes) && held.decision.owes() {
            let cause = "internal: a request whose charge is not told";
            return self.refuse(proxy, held, Denial::new(Reason::Overloaded, cause));
        }
        self.outcome.note(&self.root.policy, &held.decision);
        let signed = match self.sign(&held, now) {
            Ok(signed) => signed,
            Err(denial) => return self.refuse(proxy, held, denial),
        };
        let added = signed.as_deref().map(|signed| (context::HEADER, signed));
        let marked = held
            .rewrite
            .carry_out(proxy, &held.upstream.fields(), added);
        let said = marked.and_then(|()| {
            if let Rest::Messages(_) = rest {
                // Whoever identifies has seen to it: a stream is longer with its marks.
                proxy.remove_request_header("content-length")?;
            }
            if self.root.filter.shares() && held.before.is_silent() {
                let record = &self.outcome.record;
                SharedIdentity {
                    client: record.client.clone(),
                    credential: record.credential.clone(),
                    proofs: held.decision.proofs(),
                }
                .publish(proxy)?;
            }
            Ok(())
        });
        if let Err(fault) = said {
            return self.refuse(proxy, held, cannot_decide(fault));
        }
        self.settle_later(&held.upstream.request_id);
        self.phase = match rest {
            Rest::None => Phase::Forwarded,
            Rest::Passes => Phase::Passing,
            Rest::Owes => {
                self.outcome.forwarded(proxy);
                self.outcome.allowed(proxy, &held.upstream.request_id);
                self.phase = Phase::Owing(held);
                return Action::Continue;
            }
            // The verdict is still to come.
            Rest::Checked(checking) => {
                self.phase = Phase::Checking(held, checking);
                self.outcome.forwarded(proxy);
                return Action::Continue;
            }
            // So is each message's: the stream has its own.
            Rest::Messages(plan) => {
                let streaming = Box::new(Streaming::new(
                    plan,
                    self.root.context_key.as_ref(),
                    held.before.context.as_deref(),
                    signed.as_deref(),
                    held.until_unix_s,
                ));
                self.outcome.allowed(proxy, &held.upstream.request_id);
                self.phase = Phase::Messages(held, streaming);
                return Action::Continue;
            }
        };
        self.outcome.allowed(proxy, &held.upstream.request_id);
        Action::Continue
    }

    /// Refuses for a cause that was found here.
    pub(super) fn refuse(
        &mut self,
        proxy: &mut dyn Proxy,
        mut held: Box<Held>,
        denial: Denial,
    ) -> Action {
        let fallback = denial.clone();
        let denial = match held.decision.refuse(&self.root.policy, denial) {
            Step::Deny(denial) => denial,
            // Whatever else a decision answers, what was found here stands.
            _ => fallback,
        };
        self.deny_held(proxy, &held, &denial)
    }

    pub(super) fn deny_held(
        &mut self,
        proxy: &mut dyn Proxy,
        held: &Held,
        denial: &Denial,
    ) -> Action {
        self.outcome.note(&self.root.policy, &held.decision);
        let before = self.rates_before(proxy, held);
        let told = Denial {
            rates: before.into_iter().chain(denial.rates.clone()).collect(),
            ..denial.clone()
        };
        self.deny(
            proxy,
            &told,
            held.upstream.answer_protocol(),
            &held.upstream.request_id,
        )
    }

    /// Answers. The latch closes before anything else can fail.
    pub(super) fn deny(
        &mut self,
        proxy: &mut dyn Proxy,
        denial: &Denial,
        protocol: Protocol,
        request_id: &str,
    ) -> Action {
        self.phase = Phase::Denied;
        self.outcome.denied(proxy, denial, request_id);
        if let Err(fault) = proxy.respond(&Answer::to_denial(denial, protocol, request_id)) {
            // The request stays on hold, and the proxy's own timeout ends it.
            proxy.log(Level::Error, &format!("request {request_id}: {fault}"));
        }
        Action::Pause
    }
}

/// What comes behind a head that is sent on.
pub(super) enum Rest {
    /// Nothing: all of it is here.
    None,
    /// A body that is not this filter's to judge.
    Passes,
    /// The same, and its end waits for a charge to be told.
    Owes,
    /// A body that is checked as it passes.
    Checked(Box<Checking>),
    /// Messages, read so.
    Messages(BodyPlan),
}
