//! A gate whose request has gone on before the rate limit service has said what it may: a body that is too large to be held waits for nobody.
//! It passes, and is checked as it passes; only its end is held back until every charge is told, so that whoever stands behind never has all
//! of a request that is refused.

use std::rc::Rc;

use tensorgate_policy::{ChargeOutcome, Step};

use super::{Gate, Held, Phase};
use crate::checking::Checking;
use crate::host::{Action, Level, Proxy};
use crate::reserved::Reserved;
use crate::shared_limits::{Owed, answered, leave};

impl Gate {
    /// More of a body that is not this filter's to check, while a charge is on its way.
    pub(super) fn pass_owing(&mut self, bytes: usize, last: bool) -> Action {
        if last {
            return self.hold_the_end();
        }
        if let Phase::Owing(held) = &mut self.phase {
            held.body_bytes = held.body_bytes.saturating_add(bytes);
            if is_all(held, held.body_bytes) {
                return Action::Pause;
            }
        }
        Action::Continue
    }

    /// All of it is here; its end waits.
    pub(super) fn hold_the_end(&mut self) -> Action {
        self.ended = true;
        Action::Pause
    }

    /// A charge is told whose request has gone on.
    pub(super) fn told_late(
        &mut self,
        proxy: &mut dyn Proxy,
        owed: &Owed,
        answer: Result<Vec<u8>, u32>,
    ) {
        let root = Rc::clone(&self.root);
        let policy = &root.policy;
        // Heard even for a request that is refused by now: what the service says is for all.
        let outcome = match proxy.now() {
            Ok(now) => {
                // It has gone on: what it reserves is spent for good.
                let reserved = &mut Reserved::default();
                answered(policy, proxy, &owed.charge, answer, now, reserved)
            }
            Err(fault) => {
                leave(proxy, owed);
                proxy.log(Level::Error, &fault.to_string());
                ChargeOutcome::Failed
            }
        };
        let gone_on = self.take_gone_on();
        let has_gone_on = gone_on.is_some();
        // One that has not waits with all of its body for the end of that.
        let waits = || self.take_held().map(|held| (held, None));
        let Some((mut held, checking)) = gone_on.or_else(waits) else {
            return;
        };
        let noted = held.decision.shadowed().len();
        if let Step::Deny(denial) = held.decision.charged_late(policy, &owed.charge, outcome) {
            self.deny_held(proxy, &held, &denial);
            return;
        }
        if !has_gone_on {
            self.phase = Phase::Held(held);
            return;
        }
        // What its mode lets pass is told as well.
        if checking.is_none() && held.decision.shadowed().len() > noted {
            self.outcome.note(&self.root.policy, &held.decision);
            self.outcome.allowed(proxy, &held.upstream.request_id);
        }
        match (self.dues.owed.is_empty(), self.ended, checking) {
            (true, true, checking) => self.end_late(proxy, held, checking),
            // What is left of it goes by.
            (true, false, None) => self.phase = Phase::Passing,
            (_, _, Some(checking)) => self.phase = Phase::Checking(held, checking),
            (false, _, None) => self.phase = Phase::Owing(held),
        }
    }

    /// Every charge is told, and the whole request is here: lets its end go, unless that is wrong.
    fn end_late(
        &mut self,
        proxy: &mut dyn Proxy,
        mut held: Box<Held>,
        checking: Option<Box<Checking>>,
    ) {
        if let Some(mut checking) = checking {
            if let Err(denial) = checking.end(&mut held.decision) {
                self.refuse(proxy, held, denial);
                return;
            }
            self.outcome.note(&self.root.policy, &held.decision);
            self.outcome.allowed(proxy, &held.upstream.request_id);
        }
        self.phase = Phase::Forwarded;
        super::waiting::resume(proxy);
    }

    /// A request that has gone on, if this is one.
    pub(super) fn take_gone_on(&mut self) -> Option<(Box<Held>, Option<Box<Checking>>)> {
        self.take(|phase| match phase {
            Phase::Owing(held) => Ok((held, None)),
            Phase::Checking(held, checking) => Ok((held, Some(checking))),
            other => Err(other),
        })
    }
}

/// Whether so many bytes are all that the head has announced. They are held with the end, which is still to come: to a server behind that counts
/// bytes they are the end.
pub(super) fn is_all(held: &Held, bytes: usize) -> bool {
    let declared = held.decision.declared();
    declared.is_some_and(|declared| u64::try_from(bytes).is_ok_and(|bytes| bytes >= declared))
}
