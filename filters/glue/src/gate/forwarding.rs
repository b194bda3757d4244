//! A gate that lets a head go: with what is signed for whoever stands behind, and with the fields that may cross.

use tensorgate_policy::Now;
use tensorgate_wire::context;

use super::{Gate, Held, Phase, cannot_decide};
use crate::checking::Checking;
use crate::host::{Action, Proxy};
use crate::shared_identity::SharedIdentity;

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
        };
        self.outcome.allowed(proxy, &held.upstream.request_id);
        Action::Continue
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
}
