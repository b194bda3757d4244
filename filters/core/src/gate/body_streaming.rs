//! Requests whose body is too large to buffer. The head is forwarded once it is accepted, then each
//! chunk that satisfies the contract. The first invalid chunk ends the request: the client gets a
//! response, and the upstream sees an incomplete body.

use std::rc::Rc;

use tensorgate_policy::decision::BodyPlan;
use tensorgate_policy::{ChargeOutcome, Denial, Reason, Step};
use tensorgate_wire::messages::INCOMPLETE;

use super::completion::Remainder;
use super::forwarding::add_trailer;
use super::{Gate, PendingRequest, Phase, cannot_decide};
use crate::host::{Action, HostFault, Level, Proxy};
use crate::message_stream::{MessageContext, MessageStream, StreamProgress};
use crate::quota::Reservations;
use crate::rate_limit_service::{PendingCharge, cancel_pending_charge, charge_outcome};
use crate::streaming_validation::StreamingValidator;

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
        let forwarded = pending.forwarded.is_some();
        if asks && !end_of_stream && !forwarded && is_all(&pending, pending.body_bytes) {
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
        let forwarded = pending.forwarded.is_some();
        if charging && !last && !forwarded && is_all(&pending, validator.bytes_with(bytes)) {
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
            Ok(()) if last => self.conclude(proxy, pending, false),
            Ok(()) => {
                self.phase = Phase::Validating(pending, validator);
                Action::Continue
            }
        }
    }

    /// Handles the trailers of a request whose body is validated while it streams.
    pub(super) fn end_validation_in_trailers(&mut self, proxy: &mut dyn Proxy) -> Action {
        if let Phase::Validating(pending, _) = &mut self.phase {
            pending.ends_in_trailers();
        }
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

/// Reads `bytes` of body, the whole amount in the proxy's buffer.
pub(crate) fn read_body(proxy: &mut dyn Proxy, bytes: usize) -> Result<Vec<u8>, Denial> {
    read_body_at(proxy, 0, bytes)
}

/// Reads `bytes` of body from offset `start` of the proxy's buffer.
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

// A gate whose request is a stream of inferences.
//
// The head is forwarded once it is accepted. Each accepted message is forwarded after a signed
// envelope; a rejected message is replaced by an envelope alone. The sandbox host answers both
// kinds. An error that no envelope can express ends the stream. While a message waits for the
// rate-limit service, the proxy buffers that message and the following ones. The callback of the
// service's answer resumes the stream.

impl Gate {
    /// Handles more data of a stream.
    pub(super) fn messages(&mut self, proxy: &mut dyn Proxy, bytes: usize, last: bool) -> Action {
        let Some((pending, mut stream)) = self.take_messages() else {
            return Action::Pause;
        };
        let came = self.with_context(proxy, &pending, |ctx| stream.take(ctx, bytes, last));
        self.apply_progress(proxy, pending, stream, came)
    }

    /// Handles the rate-limit service's answer for the waiting message. That message and the
    /// buffered ones are evaluated, and the stream resumes if allowed.
    pub(super) fn message_charge_response(
        &mut self,
        proxy: &mut dyn Proxy,
        answer: Result<Vec<u8>, u32>,
    ) {
        let Some((pending, mut stream)) = self.take_messages() else {
            return;
        };
        let came = self.with_context(proxy, &pending, |ctx| stream.charge_response(ctx, answer));
        if self.apply_progress(proxy, pending, stream, came) == Action::Continue {
            super::waiting::resume(proxy);
        }
    }

    fn with_context<T>(
        &mut self,
        proxy: &mut dyn Proxy,
        pending: &PendingRequest,
        work: impl FnOnce(&mut MessageContext<'_>) -> T,
    ) -> T {
        let root = Rc::clone(&self.root);
        work(&mut MessageContext {
            root: &root,
            proxy,
            stream: &pending.decision,
            resources: &mut self.resources,
            outcome: &mut self.outcome,
            request_id: &pending.upstream.request_id,
        })
    }

    /// Applies the result of processing stream data.
    fn apply_progress(
        &mut self,
        proxy: &mut dyn Proxy,
        pending: Box<PendingRequest>,
        stream: Box<MessageStream>,
        came: Result<StreamProgress, Denial>,
    ) -> Action {
        match came {
            Err(denial) => {
                stream.cancel(proxy);
                self.refuse(proxy, pending, denial)
            }
            Ok(StreamProgress::Buffer) => {
                self.phase = Phase::Messages(pending, stream);
                Action::Pause
            }
            Ok(StreamProgress::Forward { ends, last }) => {
                self.phase = match (last, ends) {
                    (true, _) => Phase::Forwarded,
                    (false, true) => Phase::Discarding,
                    (false, false) => Phase::Messages(pending, stream),
                };
                Action::Continue
            }
        }
    }

    /// A stream ends in trailers, either after its last message or within a message.
    pub(super) fn messages_end(
        &mut self,
        proxy: &mut dyn Proxy,
        cleared: Result<(), HostFault>,
    ) -> Action {
        let Some((pending, mut stream)) = self.take_messages() else {
            return Action::Pause;
        };
        if let Err(fault) = cleared {
            stream.cancel(proxy);
            return self.refuse(proxy, pending, cannot_decide(fault));
        }
        if stream.has_pending_call() && stream.is_held() {
            stream.set_last();
            self.phase = Phase::Messages(pending, stream);
            return Action::Pause;
        }
        if stream.waits() {
            return self.end_incomplete(proxy, pending, &mut stream);
        }
        self.phase = Phase::Forwarded;
        Action::Continue
    }

    /// Ends a stream whose trailers arrived inside a message. Nothing can be inserted into its body
    /// any more, so a trailer tells the host, which still answers the messages before.
    fn end_incomplete(
        &mut self,
        proxy: &mut dyn Proxy,
        pending: Box<PendingRequest>,
        stream: &mut MessageStream,
    ) -> Action {
        let ended = self.with_context(proxy, &pending, |ctx| stream.end_incomplete(ctx));
        let keeps_verdicts = self.keeps_verdicts;
        let ended = ended
            .and_then(|()| add_trailer(proxy, INCOMPLETE, keeps_verdicts).map_err(cannot_decide));
        if let Err(denial) = ended {
            stream.cancel(proxy);
            return self.refuse(proxy, pending, denial);
        }
        self.phase = Phase::Forwarded;
        Action::Continue
    }

    /// Discards data that arrives after the end of a stream.
    pub(super) fn discard(&mut self, proxy: &mut dyn Proxy, bytes: usize) -> Action {
        if bytes == 0 {
            return Action::Continue;
        }
        match proxy.replace_request_body(&[]) {
            Ok(()) => Action::Continue,
            // The data is then held and released with the stream.
            Err(_) => Action::Pause,
        }
    }

    pub(super) fn take_messages(&mut self) -> Option<(Box<PendingRequest>, Box<MessageStream>)> {
        self.take(|phase| match phase {
            Phase::Messages(pending, stream) => Ok((pending, stream)),
            other => Err(other),
        })
    }
}

// Streaming bodies with a rate-limit check in flight.
//
// A body larger than `hold_bytes` is not buffered while the rate-limit service is asked. Its
// chunks are validated and forwarded at once. Only the end is held until every charge is answered,
// so the upstream never receives a complete request that was rejected.

impl Gate {
    /// Handles more of a pass-through body while a charge is pending.
    pub(super) fn pass_while_charging(
        &mut self,
        proxy: &mut dyn Proxy,
        bytes: usize,
        last: bool,
    ) -> Action {
        if last {
            return self.end_passing(proxy, false);
        }
        if let Phase::Charging(pending) = &mut self.phase {
            pending.body_bytes = pending.body_bytes.saturating_add(bytes);
            if pending.forwarded.is_none() && is_all(pending, pending.body_bytes) {
                return Action::Pause;
            }
        }
        Action::Continue
    }

    /// Handles the end of a pass-through body. The end waits while a charge is pending.
    pub(super) fn end_passing(&mut self, proxy: &mut dyn Proxy, in_trailers: bool) -> Action {
        if let Phase::Charging(pending) = &mut self.phase {
            if in_trailers {
                pending.ends_in_trailers();
            } else {
                pending.ends_in_body();
            }
        }
        if !self.resources.pending_charges.is_empty() {
            return self.hold_end();
        }
        match self.take_streamed() {
            Some((pending, _)) => self.conclude(proxy, pending, true),
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
            Ok(now) => {
                // The request is streaming, so its reservation is not settled.
                let reserved = &mut Reservations::default();
                charge_outcome(policy, proxy, &pending_charge.charge, answer, now, reserved)
            }
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
            self.outcome.allowed(proxy, &pending.upstream.request_id);
        }
        let forwarded = pending.forwarded.is_some();
        match (
            self.resources.pending_charges.is_empty(),
            self.ended,
            validator,
        ) {
            (true, true, validator) => self.finish_late(proxy, pending, validator),
            // The rest of the body passes through.
            (true, false, None) if !forwarded => self.phase = Phase::PassThrough,
            (true, false, None) => self.phase = Phase::Charging(pending),
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
        let told = validator.is_none();
        if let Some(mut validator) = validator
            && let Err(denial) = validator.end(&mut pending.decision)
        {
            self.refuse(proxy, pending, denial);
            return;
        }
        if self.conclude(proxy, pending, told) == Action::Continue {
            super::waiting::resume(proxy);
        }
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
