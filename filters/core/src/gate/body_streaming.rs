//! Requests without a host whose body is too large to buffer. The head is forwarded once it is
//! accepted, then each chunk that satisfies the contract. The first invalid chunk ends the request:
//! the client gets a response, and the upstream sees an incomplete body.

use std::rc::Rc;

use tensorgate_policy::Denial;
use tensorgate_policy::decision::BodyPlan;

use super::body_ahead::is_all;
use super::completion::Remainder;
use super::{Gate, PendingRequest, Phase};
use crate::body::reader::read_body;
use crate::host::{Action, Proxy, cannot_decide};
use crate::steps::streaming_validation::StreamingValidator;

impl Gate {
    /// Accepts the head of a body that is too large to buffer and forwards the data so far.
    pub(super) fn start_streaming(
        &mut self,
        proxy: &mut dyn Proxy,
        mut pending: Box<PendingRequest>,
        plan: BodyPlan,
        end_of_stream: bool,
    ) -> Action {
        let root = Rc::clone(&self.root);
        let asks = root.policy.rate_limit_service().is_some();
        if asks && !end_of_stream && is_all(&pending, pending.body_bytes) {
            if pending.forwarded.is_some() {
                return self.continue_incomplete(proxy, pending);
            }
            self.phase = Phase::Buffering(pending);
            return Action::Pause;
        }
        let begun = proxy.now().map_err(cannot_decide).and_then(|now| {
            let body = match &pending.forwarded {
                Some(forwarded) => forwarded.body(),
                None => Rc::new(read_body(proxy, pending.body_bytes)?),
            };
            let validator = StreamingValidator::begin(
                &root,
                proxy,
                &mut pending.decision,
                &mut self.resources,
                plan,
                now,
                &body,
            )?;
            self.release_copy(proxy, &mut pending)?;
            Ok((now, validator))
        });
        let (now, mut validator) = match begun {
            Ok(begun) => begun,
            Err(denial) => return self.refuse(proxy, pending, denial),
        };
        let charging = !self.resources.pending_charges.is_empty();
        if !validator.checks() {
            let rest = match (charging, end_of_stream) {
                (true, _) => Remainder::Charging,
                (false, true) => Remainder::None,
                (false, false) => Remainder::PassThrough,
            };
            let action = self.forward(proxy, pending, now, rest);
            return self.hold_end_after(action, charging && end_of_stream);
        }
        if end_of_stream && !charging {
            return match validator.end(&mut pending.decision) {
                Ok(()) => self.forward(proxy, pending, now, Remainder::None),
                Err(denial) => self.refuse(proxy, pending, denial),
            };
        }
        let action = self.forward(
            proxy,
            pending,
            now,
            Remainder::Validated(Box::new(validator)),
        );
        self.hold_end_after(action, end_of_stream)
    }

    /// Holds the end of a complete request while a charge is pending.
    fn hold_end_after(&mut self, action: Action, ends: bool) -> Action {
        match action {
            Action::Continue if ends => self.hold_end(),
            action => action,
        }
    }

    /// Validates the next chunk: `bytes` new bytes.
    pub(super) fn validate_chunk(
        &mut self,
        proxy: &mut dyn Proxy,
        bytes: usize,
        last: bool,
    ) -> Action {
        let Some((mut pending, mut validator)) = self.take_validating() else {
            return Action::Pause;
        };
        let root = Rc::clone(&self.root);
        let charging = !self.resources.pending_charges.is_empty();
        if charging && !last && is_all(&pending, validator.bytes_with(bytes)) {
            self.unread_bytes = bytes;
            self.phase = Phase::Validating(pending, validator);
            return Action::Pause;
        }
        self.unread_bytes = 0;
        let waits = last && charging;
        let checked = read_body(proxy, bytes).and_then(|chunk| {
            validator.chunk(&root.policy, &mut pending.decision, &chunk)?;
            if last && !waits {
                validator.end(&mut pending.decision)
            } else {
                Ok(())
            }
        });
        match checked {
            Err(denial) => self.refuse(proxy, pending, denial),
            Ok(()) if waits => {
                self.phase = Phase::Validating(pending, validator);
                self.hold_end()
            }
            // A shadowed denial may have occurred while the body streamed.
            Ok(()) if last => {
                self.conclude(proxy, &pending, false);
                Action::Continue
            }
            Ok(()) => {
                self.phase = Phase::Validating(pending, validator);
                Action::Continue
            }
        }
    }

    /// Handles the trailers of a request whose body is validated while it streams.
    pub(super) fn end_validation_in_trailers(&mut self, proxy: &mut dyn Proxy) -> Action {
        self.validate_chunk(proxy, self.unread_bytes, true)
    }

    /// Rejects a request whose body is streaming. The upstream sees an incomplete body.
    pub(super) fn reject_streamed(&mut self, proxy: &mut dyn Proxy, denial: Denial) -> Action {
        match self.take_streamed() {
            Some((pending, _)) => self.refuse(proxy, pending, denial),
            None => Action::Pause,
        }
    }

    /// Takes the contents of a phase if `pick` accepts it. The phase is final until it is set
    /// again.
    pub(super) fn take<T>(&mut self, pick: impl FnOnce(Phase) -> Result<T, Phase>) -> Option<T> {
        match pick(core::mem::replace(&mut self.phase, Phase::Denied)) {
            Ok(taken) => Some(taken),
            Err(other) => {
                self.phase = other;
                None
            }
        }
    }

    /// Takes the pending request out of its phase.
    pub(super) fn take_pending(&mut self) -> Option<Box<PendingRequest>> {
        self.take(|phase| match phase {
            Phase::Buffering(pending) => Ok(pending),
            other => Err(other),
        })
    }

    pub(super) fn take_validating(
        &mut self,
    ) -> Option<(Box<PendingRequest>, Box<StreamingValidator>)> {
        self.take(|phase| match phase {
            Phase::Validating(pending, validator) => Ok((pending, validator)),
            other => Err(other),
        })
    }
}
