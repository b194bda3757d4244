//! A message of a stream whose charge is pending at the rate-limit service. The following data
//! waits in order, up to a limit: in the proxy's buffer, or in this filter (the module `ahead`).
//! Data beyond that limit ends the wait with a rejection, so a fast sender cannot bypass a limit.

use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::{Denial, Reason, Step};
use tensorgate_wire::expand;
use tensorgate_wire::messages::max_ahead;

use super::ahead::Ahead;
use super::{
    Batch, Message, MessageContext, MessageOutcome, MessageStream, StreamProgress, Window,
};
use crate::body::ALWAYS_BUFFERED_BYTES;
use crate::body::reader::read_body_at;
use crate::host::{ListenerBounds, Proxy, cannot_decide};
use crate::quota::rate_limit_service::{PendingCharge, cancel_pending_charge, charge_outcome};
use crate::steps::out_of_order;

/// A waiting message.
#[derive(Debug)]
pub(super) struct PendingMessage {
    message: Message,
    pending_charge: PendingCharge,
    /// The batch up to this message.
    pub(super) batch: Batch,
}

impl PendingMessage {
    pub(super) const fn new(message: Message, pending_charge: PendingCharge, batch: Batch) -> Self {
        Self {
            message,
            pending_charge,
            batch,
        }
    }
}

impl MessageStream {
    /// Whether a message waits.
    pub(crate) const fn has_pending_call(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether the proxy holds the stream of a waiting message, so that data can be added to it.
    pub(crate) fn is_held(&self) -> bool {
        self.ahead.as_ref().is_none_or(Ahead::is_held)
    }

    /// Whether an answer belongs to the waiting message.
    pub(crate) fn is_waiting_for(&self, token: u32) -> bool {
        let pending = self.pending.as_ref();
        pending.is_some_and(|pending| pending.pending_charge.call.token == token)
    }

    /// Cancels the charge because the stream ends.
    pub(crate) fn cancel(&self, proxy: &mut dyn Proxy) {
        if let Some(pending) = &self.pending {
            cancel_pending_charge(proxy, &pending.pending_charge);
        }
    }

    /// Records that nothing follows the buffered data.
    pub(crate) fn set_last(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.batch.last = true;
        }
    }

    /// Handles more data after the waiting message: `bytes` are buffered now.
    pub(super) fn buffer_more(
        &mut self,
        ctx: &mut MessageContext<'_>,
        bytes: usize,
        last: bool,
    ) -> Result<StreamProgress, Denial> {
        let Some(pending) = &mut self.pending else {
            return Ok(StreamProgress::Buffer);
        };
        pending.batch.buffered = bytes;
        pending.batch.last |= last;
        if bytes <= max_buffered(ctx) {
            return Ok(StreamProgress::Buffer);
        }
        self.reject_waiting(ctx)
    }

    /// Rejects the waiting message and the complete ones behind it.
    pub(super) fn reject_waiting(
        &mut self,
        ctx: &mut MessageContext<'_>,
    ) -> Result<StreamProgress, Denial> {
        let Some(pending) = self.pending.take() else {
            return Ok(StreamProgress::Buffer);
        };
        let PendingMessage {
            message,
            pending_charge,
            mut batch,
        } = *pending;
        cancel_pending_charge(ctx.proxy, &pending_charge);
        batch.reject_waiting = true;
        let window = self.window(&mut batch);
        self.go_on(ctx, message, Err(queue_full()), window, batch)
    }

    /// Closes the message that has waited, and processes those behind it.
    fn go_on(
        &mut self,
        ctx: &mut MessageContext<'_>,
        message: Message,
        judged: Result<(), Denial>,
        window: Window,
        mut batch: Batch,
    ) -> Result<StreamProgress, Denial> {
        match self.close(ctx, &mut batch, message, judged, false)? {
            MessageOutcome::Done { ends: true } => self.end(ctx, window, batch, true),
            _ => self.process(ctx, window, batch),
        }
    }

    /// The data that this filter has kept itself; otherwise it is read from the proxy's buffer.
    fn window(&mut self, batch: &mut Batch) -> Window {
        let Some(ahead) = &mut self.ahead else {
            return Window::NONE;
        };
        ahead.begin_batch(batch)
    }

    /// Handles the service's answer: a message or a gRPC status.
    pub(crate) fn charge_response(
        &mut self,
        ctx: &mut MessageContext<'_>,
        answer: Result<Vec<u8>, u32>,
    ) -> Result<StreamProgress, Denial> {
        if let Some(ahead) = &mut self.ahead {
            ahead.begin_answer();
        }
        let Some(pending) = self.pending.take() else {
            return Ok(StreamProgress::Buffer);
        };
        let PendingMessage {
            mut message,
            pending_charge,
            mut batch,
        } = *pending;
        let now = match ctx.proxy.now() {
            Ok(now) => now,
            Err(fault) => {
                cancel_pending_charge(ctx.proxy, &pending_charge);
                return Err(cannot_decide(fault));
            }
        };
        let policy = &ctx.root.policy;
        let outcome = charge_outcome(policy, ctx.proxy, &pending_charge.charge, answer, now);
        let step = message.decision.charged(policy, outcome);
        let window = self.window(&mut batch);
        let judged = match &step {
            Step::Decode | Step::Check => {
                let place = message.place.clone();
                // The proxy's buffer is read again: no second copy is kept.
                let read;
                let frame = if self.ahead.is_some() {
                    window.bytes.get(place).unwrap_or_default()
                } else {
                    read = read_body_at(ctx.proxy, place.start, place.len())?;
                    &read
                };
                expand(&self.plan, frame)
                    .and_then(|body| self.steps(ctx, &mut message, &batch, &body, now, step))
            }
            _ => self.steps(ctx, &mut message, &batch, &[], now, step),
        };
        let judged = match judged {
            Ok(Some(pending_charge)) => {
                return self.wait(ctx, message, pending_charge, window, batch);
            }
            Ok(None) => Ok(()),
            Err(denial) => Err(denial),
        };
        self.go_on(ctx, message, judged, window, batch)
    }

    /// Handles the `bytes` of one read, if data is forwarded before its results.
    pub(super) fn take_ahead(
        &mut self,
        ctx: &mut MessageContext<'_>,
        bytes: usize,
        last: bool,
    ) -> Result<StreamProgress, Denial> {
        let most = max_ahead(self.plan.max_bytes);
        let ahead = self.ahead.as_mut().ok_or_else(out_of_order)?;
        if ahead.begin_read() {
            return self.forward(ctx, true, last);
        }
        ahead.read(ctx, bytes, most)?;
        if let Some(pending) = &mut self.pending {
            pending.batch.last |= last;
            return self.hold_or_forward(ctx, last);
        }
        let mut batch = Batch::new(0, last);
        batch.at = ahead.start();
        let window = ahead.begin_batch(&mut batch);
        self.process(ctx, window, batch)
    }

    /// Lets a message wait for its charge, if data is forwarded before its results.
    pub(super) fn wait_ahead(
        &mut self,
        ctx: &mut MessageContext<'_>,
        mut message: Message,
        pending_charge: PendingCharge,
        window: Window,
        mut batch: Batch,
    ) -> Result<StreamProgress, Denial> {
        let ahead = self.ahead.as_mut().ok_or_else(out_of_order)?;
        let last = batch.last;
        let place = message.place.clone();
        let removed = ahead.end_batch(window, &mut batch, place.start);
        let moved = |at: usize| at.saturating_sub(removed);
        message.place = moved(place.start)..moved(place.end);
        batch.at = message.place.end;
        let pending = PendingMessage::new(message, pending_charge, batch);
        self.pending = Some(Box::new(pending));
        self.hold_or_forward(ctx, last)
    }

    /// Handles the end of a batch in which no message waits, if data is forwarded before its
    /// results.
    pub(super) fn end_ahead(
        &mut self,
        ctx: &mut MessageContext<'_>,
        window: Window,
        mut batch: Batch,
        ends: bool,
    ) -> Result<StreamProgress, Denial> {
        let ahead = self.ahead.as_mut().ok_or_else(out_of_order)?;
        let judged = if ends { batch.buffered } else { batch.at };
        ahead.end_batch(window, &mut batch, judged);
        if ends {
            ahead.set_over();
        }
        if !ahead.is_writable() {
            return Ok(StreamProgress::Buffer);
        }
        self.forward(ctx, ends, batch.last)
    }

    /// A message waits: holds the stream, forwards its data, or rejects what waits.
    fn hold_or_forward(
        &mut self,
        ctx: &mut MessageContext<'_>,
        last: bool,
    ) -> Result<StreamProgress, Denial> {
        let most = max_ahead(self.plan.max_bytes);
        let ahead = self.ahead.as_mut().ok_or_else(out_of_order)?;
        if !ahead.is_writable() {
            return Ok(StreamProgress::Buffer);
        }
        let too_much = ahead.without_result() > most;
        if !too_much && ahead.hold(ctx)? {
            return Ok(StreamProgress::Buffer);
        }
        let messages = &mut self.messages;
        let is_incomplete = !too_much
            && !last
            && (self.pending.as_ref())
                .is_some_and(|pending| ahead.is_incomplete(messages, pending.batch.at));
        if !is_incomplete {
            return self.reject_waiting(ctx);
        }
        self.forward(ctx, false, last)
    }

    /// Forwards results, and data without a result.
    fn forward(
        &mut self,
        ctx: &mut MessageContext<'_>,
        ends: bool,
        last: bool,
    ) -> Result<StreamProgress, Denial> {
        let (Some(ahead), Some(codec)) = (&mut self.ahead, &mut self.codec) else {
            return Err(out_of_order());
        };
        ahead.forward(ctx, codec)?;
        Ok(StreamProgress::Forward { ends, last })
    }
}

/// Maximum bytes of a stream in the proxy's buffer while a message waits: one message and one read.
fn max_buffered(ctx: &mut MessageContext<'_>) -> usize {
    let own = ctx.root.policy.listen().limits().hold_bytes;
    let bounds = ListenerBounds::read(ctx.proxy).hold_bytes.unwrap_or(own);
    bounds.min(own).saturating_add(ALWAYS_BUFFERED_BYTES)
}

/// Rejection of a message that cannot wait.
pub(super) fn queue_full() -> Denial {
    let cause =
        "no memory for the data of a stream that arrives while a message waits for its limits";
    Denial::new(Reason::Overloaded, cause).overloaded_by(OverloadCause::Memory)
}
