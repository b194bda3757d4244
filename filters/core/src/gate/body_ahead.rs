//! Streaming bodies with a rate-limit check in flight, which only a filter without a host has.
//!
//! A body larger than `hold_bytes` is not buffered while the rate-limit service is asked. Its
//! chunks are validated and forwarded at once. Only the end is held until every charge is answered,
//! so the upstream never receives a complete request that was rejected.

use std::rc::Rc;

use tensorgate_policy::{ChargeOutcome, Step};

use super::{Gate, PendingRequest, Phase};
use crate::host::{Action, Level, Proxy};
use crate::quota::rate_limit_service::{PendingCharge, cancel_pending_charge, charge_outcome};
use crate::steps::streaming_validation::StreamingValidator;

impl Gate {
    /// Handles more of a pass-through body while a charge is pending.
    pub(super) fn pass_while_charging(
        &mut self,
        proxy: &mut dyn Proxy,
        bytes: usize,
        last: bool,
    ) -> Action {
        if last {
            return self.end_passing(proxy);
        }
        if let Phase::Charging(pending) = &mut self.phase {
            pending.body_bytes = pending.body_bytes.saturating_add(bytes);
            if is_all(pending, pending.body_bytes) {
                return Action::Pause;
            }
        }
        Action::Continue
    }

    /// Handles the end of a pass-through body. The end waits while a charge is pending.
    pub(super) fn end_passing(&mut self, proxy: &mut dyn Proxy) -> Action {
        if !self.resources.pending_charges.is_empty() {
            return self.hold_end();
        }
        match self.take_streamed() {
            Some((pending, _)) => {
                self.conclude(proxy, &pending, true);
                Action::Continue
            }
            None => Action::Pause,
        }
    }

    /// The request is complete; its end is held.
    pub(super) fn hold_end(&mut self) -> Action {
        self.ended = true;
        Action::Pause
    }

    /// Handles the answer to a charge of a request that is already streaming.
    pub(super) fn late_charge_response(
        &mut self,
        proxy: &mut dyn Proxy,
        pending_charge: &PendingCharge,
        answer: Result<Vec<u8>, u32>,
    ) {
        let root = Rc::clone(&self.root);
        let policy = &root.policy;
        // The answer also counts for a request that is rejected by now: it updates the circuit
        // breaker.
        let outcome = match proxy.now() {
            Ok(now) => charge_outcome(policy, proxy, &pending_charge.charge, answer, now),
            Err(fault) => {
                cancel_pending_charge(proxy, pending_charge);
                proxy.log(Level::Error, &fault.to_string());
                ChargeOutcome::Failed
            }
        };
        let streamed = self.take_streamed();
        let is_streamed = streamed.is_some();
        // A request that is not streaming holds its whole body until then.
        let waits = || self.take_pending().map(|pending| (pending, None));
        let Some((mut pending, validator)) = streamed.or_else(waits) else {
            return;
        };
        let noted = pending.decision.shadowed().len();
        if let Step::Deny(denial) =
            pending
                .decision
                .charged_late(policy, &pending_charge.charge, outcome)
        {
            self.deny_pending(proxy, &pending, &denial);
            return;
        }
        if !is_streamed {
            self.phase = Phase::Buffering(pending);
            return;
        }
        // Shadowed denials are logged as well.
        if validator.is_none() && pending.decision.shadowed().len() > noted {
            self.outcome.note(&self.root.policy, &pending.decision);
            self.outcome.allowed(proxy, &self.root);
        }
        match (
            self.resources.pending_charges.is_empty(),
            self.ended,
            validator,
        ) {
            (true, true, validator) => self.finish_late(proxy, pending, validator),
            // The rest of the body passes through.
            (true, false, None) => self.phase = Phase::PassThrough,
            (_, _, Some(validator)) => self.phase = Phase::Validating(pending, validator),
            (false, _, None) => self.phase = Phase::Charging(pending),
        }
    }

    /// Every charge is answered and the request is complete: releases its end, if valid.
    fn finish_late(
        &mut self,
        proxy: &mut dyn Proxy,
        mut pending: Box<PendingRequest>,
        validator: Option<Box<StreamingValidator>>,
    ) {
        let is_recorded = validator.is_none();
        if let Some(mut validator) = validator
            && let Err(denial) = validator.end(&mut pending.decision)
        {
            self.refuse(proxy, pending, denial);
            return;
        }
        self.conclude(proxy, &pending, is_recorded);
        super::waiting::resume(proxy);
    }

    /// Takes the request out of its phase if it is streaming.
    pub(super) fn take_streamed(
        &mut self,
    ) -> Option<(Box<PendingRequest>, Option<Box<StreamingValidator>>)> {
        self.take(|phase| match phase {
            Phase::Charging(pending) => Ok((pending, None)),
            Phase::Validating(pending, validator) => Ok((pending, Some(validator))),
            other => Err(other),
        })
    }
}

/// Whether so many bytes are the whole declared body. The last bytes are held with the end: for a
/// server that counts bytes, they are the end.
pub(super) fn is_all(pending: &PendingRequest, bytes: usize) -> bool {
    let declared = pending.decision.declared();
    declared.is_some_and(|declared| u64::try_from(bytes).is_ok_and(|bytes| bytes >= declared))
}
