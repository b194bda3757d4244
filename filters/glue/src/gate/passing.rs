//! A gate whose request's body is too large to be held: the head goes on once it is judged, then every piece that keeps the contract.
//! A piece that does not is the last: the caller is answered, and what stands behind sees a body that broke off.

use std::rc::Rc;

use tensorgate_policy::decision::BodyPlan;
use tensorgate_policy::{Denial, Reason};

use super::ending::Rest;
use super::owing::is_all;
use super::{Gate, Held, Phase, cannot_decide};
use crate::checking::Checking;
use crate::host::{Action, Proxy};

impl Gate {
    /// A body is too large to be held: judges its head and lets that go, with what has come of the body.
    pub(super) fn stop_holding(
        &mut self,
        proxy: &mut dyn Proxy,
        mut held: Box<Held>,
        plan: BodyPlan,
        end_of_stream: bool,
    ) -> Action {
        let root = Rc::clone(&self.root);
        let asks = root.policy.rate_limit_service().is_some();
        if asks && !end_of_stream && is_all(&held, held.body_bytes) {
            self.phase = Phase::Held(held);
            return Action::Pause;
        }
        let begun = proxy.now().map_err(cannot_decide).and_then(|now| {
            let body = read_body(proxy, held.body_bytes)?;
            let checking = Checking::begin(
                &root,
                proxy,
                &mut held.decision,
                &mut self.dues,
                plan,
                now,
                &body,
            )?;
            Ok((now, checking))
        });
        let (now, mut checking) = match begun {
            Ok(begun) => begun,
            Err(denial) => return self.refuse(proxy, held, denial),
        };
        let owes = !self.dues.owed.is_empty();
        if !checking.checks() {
            let rest = match (owes, end_of_stream) {
                (true, _) => Rest::Owes,
                (false, true) => Rest::None,
                (false, false) => Rest::Passes,
            };
            let action = self.forward(proxy, held, now, rest);
            return self.ending(action, owes && end_of_stream);
        }
        if end_of_stream && !owes {
            return match checking.end(&mut held.decision) {
                Ok(()) => self.forward(proxy, held, now, Rest::None),
                Err(denial) => self.refuse(proxy, held, denial),
            };
        }
        let action = self.forward(proxy, held, now, Rest::Checked(Box::new(checking)));
        self.ending(action, end_of_stream)
    }

    /// What a request that goes on comes to where all of it is here, but not every charge is told.
    fn ending(&mut self, action: Action, ends: bool) -> Action {
        match action {
            Action::Continue if ends => self.hold_the_end(),
            action => action,
        }
    }

    /// More of a body that is checked as it passes: `bytes` of it, none of which came before.
    pub(super) fn check_piece(
        &mut self,
        proxy: &mut dyn Proxy,
        bytes: usize,
        last: bool,
    ) -> Action {
        let Some((mut held, mut checking)) = self.take_checking() else {
            return Action::Pause;
        };
        let root = Rc::clone(&self.root);
        let owes = !self.dues.owed.is_empty();
        if owes && !last && is_all(&held, checking.bytes_with(bytes)) {
            self.unread_bytes = bytes;
            self.phase = Phase::Checking(held, checking);
            return Action::Pause;
        }
        self.unread_bytes = 0;
        let waits = last && owes;
        let checked = read_body(proxy, bytes).and_then(|piece| {
            checking.piece(&root.policy, &mut held.decision, &piece)?;
            if last && !waits {
                checking.end(&mut held.decision)
            } else {
                Ok(())
            }
        });
        match checked {
            Err(denial) => self.refuse(proxy, held, denial),
            Ok(()) if waits => {
                self.phase = Phase::Checking(held, checking);
                self.hold_the_end()
            }
            Ok(()) if last => {
                self.phase = Phase::Forwarded;
                // What passed may have held something that is in shadow.
                self.outcome.note(&root.policy, &held.decision);
                self.outcome.allowed(proxy, &held.upstream.request_id);
                Action::Continue
            }
            Ok(()) => {
                self.phase = Phase::Checking(held, checking);
                Action::Continue
            }
        }
    }

    /// Refuses a request whose body is passing: what has passed is cut off, and whoever stands behind sees a body that broke off.
    pub(super) fn refuse_gone_on(&mut self, proxy: &mut dyn Proxy, denial: Denial) -> Action {
        match self.take_gone_on() {
            Some((held, _)) => self.refuse(proxy, held, denial),
            None => Action::Pause,
        }
    }

    /// What a phase holds, if it is that one. The phase is final until it is put back.
    pub(super) fn take<T>(&mut self, pick: impl FnOnce(Phase) -> Result<T, Phase>) -> Option<T> {
        match pick(core::mem::replace(&mut self.phase, Phase::Denied)) {
            Ok(taken) => Some(taken),
            Err(other) => {
                self.phase = other;
                None
            }
        }
    }

    /// The held request, if it is on hold.
    pub(super) fn take_held(&mut self) -> Option<Box<Held>> {
        self.take(|phase| match phase {
            Phase::Held(held) => Ok(held),
            other => Err(other),
        })
    }

    pub(super) fn take_checking(&mut self) -> Option<(Box<Held>, Box<Checking>)> {
        self.take(|phase| match phase {
            Phase::Checking(held, checking) => Ok((held, checking)),
            other => Err(other),
        })
    }
}

/// So many bytes of body, all that the proxy has said it holds.
pub(crate) fn read_body(proxy: &mut dyn Proxy, bytes: usize) -> Result<Vec<u8>, Denial> {
    read_body_at(proxy, 0, bytes)
}

/// So many bytes of body from this place on, of what the proxy has said it holds.
pub(crate) fn read_body_at(
    proxy: &mut dyn Proxy,
    start: usize,
    bytes: usize,
) -> Result<Vec<u8>, Denial> {
    if bytes == 0 {
        return Ok(Vec::new());
    }
    let body = proxy.request_body(start, bytes).map_err(cannot_decide)?;
    if body.len() == bytes {
        return Ok(body);
    }
    let cause = format!("proxy gave {} bytes of a body of {bytes}", body.len());
    Err(Denial::new(Reason::Overloaded, cause))
}
