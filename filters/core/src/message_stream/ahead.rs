//! Messages that wait for a limit while headers are forwarded. Envoy Gateway and Istio's EDGE
//! profile configure a buffer of 32 KiB, and a filter can add data only to a body that the proxy
//! holds, or while more of it arrives. So this filter forwards incomplete messages to the host
//! before their result, and keeps a copy for its decision:
//!
//! | after a read | forwarded | the proxy |
//! |---|---|---|
//! | no message waits | results, and the incomplete message | continues |
//! | one waits, little is not forwarded | nothing until the answer | holds the stream |
//! | more, and the last message is incomplete | all data | continues; another read must come |
//! | more, and all messages are complete | rejections of the waiting ones | continues |
//!
//! The data of a held stream is kept by this filter, so the proxy's buffer is free for the next
//! read. The host acts on no message before its result.

use tensorgate_policy::{Denial, Reason};
use tensorgate_wire::context::MessageEnvelope;
use tensorgate_wire::messages::{NextMessage, framed, max_ahead};

use super::pending::PendingMessage;
use super::{Batch, Message, MessageContext, MessageStream, StreamProgress, Window};
use crate::gate::{cannot_decide, read_body};
use crate::rate_limit_service::PendingCharge;

/// The smallest buffer of a control plane. A proxy forwards no more for a stream that it has held.
const BUFFER_BYTES: usize = 32 << 10;
/// Longest envelope for bytes whose results follow, framed.
const ENVELOPE_BYTES: usize = 64;
/// Space in the buffer for the result of one more message.
const RESULT_BYTES: usize = 512;

/// State of a stream whose data is forwarded before its results.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Data without a result: complete messages, of which the first waits, then the beginning of
    /// the next one.
    unjudged: Vec<u8>,
    /// Bytes of that data that were forwarded.
    sent: usize,
    /// Results and messages to forward.
    out: Vec<u8>,
    /// The longest read, which the proxy's buffer can take.
    longest_read: usize,
    /// Whether the proxy holds the stream.
    held: bool,
    /// Whether data can be forwarded in the current callback.
    writable: bool,
    /// Whether the stream ends with the results that are not forwarded yet.
    over: bool,
}

impl Ahead {
    pub(super) const fn is_held(&self) -> bool {
        self.held
    }

    /// Whether some data was not forwarded or has no result.
    pub(super) const fn waits(&self) -> bool {
        !self.unjudged.is_empty() || !self.out.is_empty()
    }

    /// A callback outside a read: data can be forwarded only if the proxy holds the stream.
    pub(super) const fn enter(&mut self) {
        self.writable = self.held;
    }

    /// The data without a result, for the evaluation of a batch that may have begun before some of
    /// it arrived.
    pub(super) fn resume(&mut self, batch: &mut Batch) -> Window {
        batch.buffered = self.unjudged.len();
        batch.sent = self.sent;
        let used = self.out.len().saturating_add(RESULT_BYTES);
        batch.room = self.room().saturating_sub(used);
        Window {
            start: 0,
            bytes: core::mem::take(&mut self.unjudged),
        }
    }

    /// Keeps the results of a batch, and the data from `judged` on.
    fn keep(&mut self, window: Window, batch: &mut Batch, judged: usize) {
        core::mem::take(&mut batch.out).write(&window.bytes, &mut self.out);
        self.sent = batch.sent.saturating_sub(judged);
        self.unjudged = window.bytes;
        self.unjudged.drain(..judged.min(self.unjudged.len()));
    }

    /// Maximum bytes to forward. The proxy's buffer is at least as large as its longest read, and
    /// usually a power of two.
    fn room(&self) -> usize {
        if !self.held {
            return usize::MAX;
        }
        let buffer = self.longest_read.checked_next_power_of_two();
        buffer.unwrap_or_default().max(BUFFER_BYTES)
    }

    const fn unsent(&self) -> usize {
        self.unjudged.len().saturating_sub(self.sent)
    }
}

impl MessageStream {
    /// Handles the `bytes` of one read.
    pub(super) fn take_ahead(
        &mut self,
        ctx: &mut MessageContext<'_>,
        bytes: usize,
        last: bool,
    ) -> Result<StreamProgress, Denial> {
        let kept = self.ahead.as_ref().map_or(0, |it| it.unjudged.len());
        self.reserve(ctx, kept.saturating_add(bytes))?;
        let came = read_body(ctx.proxy, bytes)?;
        let Some(ahead) = &mut self.ahead else {
            return Ok(StreamProgress::Buffer);
        };
        ahead.writable = true;
        ahead.longest_read = ahead.longest_read.max(bytes);
        if ahead.over {
            return self.forward(ctx, last, true);
        }
        ahead.unjudged.extend_from_slice(&came);
        if let Some(pending) = &mut self.pending {
            pending.batch.last |= last;
            return self.hold_or_forward(ctx, last);
        }
        let mut batch = Batch::new(0, last);
        let window = ahead.resume(&mut batch);
        self.process(ctx, window, batch)
    }

    /// Lets a message wait for its charge.
    pub(super) fn wait_ahead(
        &mut self,
        ctx: &mut MessageContext<'_>,
        mut message: Message,
        pending_charge: PendingCharge,
        window: Window,
        mut batch: Batch,
    ) -> Result<StreamProgress, Denial> {
        let last = batch.last;
        if let Some(ahead) = &mut self.ahead {
            ahead.keep(window, &mut batch, message.place.start);
            message.place = 0..message.place.len();
            batch.at = message.place.end;
        }
        self.pending = Some(Box::new(PendingMessage::new(
            message,
            pending_charge,
            batch,
        )));
        self.hold_or_forward(ctx, last)
    }

    /// Handles the end of a batch in which no message waits.
    pub(super) fn end_ahead(
        &mut self,
        ctx: &mut MessageContext<'_>,
        window: Window,
        mut batch: Batch,
        ends: bool,
    ) -> Result<StreamProgress, Denial> {
        let Some(ahead) = &mut self.ahead else {
            return Ok(StreamProgress::Buffer);
        };
        let judged = if ends { batch.buffered } else { batch.at };
        ahead.keep(window, &mut batch, judged);
        ahead.over |= ends;
        if !ahead.writable {
            return Ok(StreamProgress::Buffer);
        }
        self.forward(ctx, batch.last, ends)
    }

    /// A message waits: holds the stream, forwards its data, or rejects what waits.
    fn hold_or_forward(
        &mut self,
        ctx: &mut MessageContext<'_>,
        last: bool,
    ) -> Result<StreamProgress, Denial> {
        let most = max_ahead(self.plan.max_bytes);
        let Some(ahead) = &mut self.ahead else {
            return Ok(StreamProgress::Buffer);
        };
        if !ahead.writable {
            return Ok(StreamProgress::Buffer);
        }
        let waiting = ahead.out.len().saturating_add(ahead.unsent());
        let too_much = ahead.unjudged.len() > most;
        let was_held = core::mem::replace(&mut ahead.held, true);
        if waiting.saturating_add(RESULT_BYTES) <= ahead.room() && !too_much {
            (ctx.proxy.replace_request_body(&[])).map_err(cannot_decide)?;
            return Ok(StreamProgress::Buffer);
        }
        ahead.held = was_held;
        if too_much || last || !self.is_incomplete() {
            return self.reject_waiting(ctx);
        }
        self.forward(ctx, last, false)
    }

    /// Whether the data behind the waiting message ends inside a message. The rest of that message
    /// then brings another read.
    fn is_incomplete(&mut self) -> bool {
        let (Some(ahead), Some(pending)) = (&self.ahead, &self.pending) else {
            return false;
        };
        let mut rest = ahead.unjudged.get(pending.batch.at..).unwrap_or_default();
        while let Ok(NextMessage::Message { used, .. }) = self.messages.take(rest) {
            rest = rest.get(used..).unwrap_or_default();
        }
        let next = self.messages.take(rest);
        !rest.is_empty() && matches!(next, Ok(NextMessage::Incomplete(_)))
    }

    /// Forwards the results and the data without a result.
    fn forward(
        &mut self,
        ctx: &mut MessageContext<'_>,
        last: bool,
        ends: bool,
    ) -> Result<StreamProgress, Denial> {
        let (Some(ahead), Some(codec)) = (&mut self.ahead, &mut self.codec) else {
            return Ok(StreamProgress::Buffer);
        };
        let room = ahead.room();
        let mut out = core::mem::take(&mut ahead.out);
        let space = room.saturating_sub(out.len().saturating_add(ENVELOPE_BYTES));
        let bytes = ahead.unsent().min(space);
        let end = ahead.sent.saturating_add(bytes);
        if let Some(part) = ahead.unjudged.get(ahead.sent..end)
            && !part.is_empty()
        {
            out.extend(framed(&codec.write(&MessageEnvelope::Ahead { bytes })));
            out.extend_from_slice(part);
            ahead.sent = end;
        }
        if out.len() > room {
            let cause = "the results of waiting messages are longer than the proxy's buffer";
            return Err(Denial::new(Reason::Overloaded, cause));
        }
        (ctx.proxy.replace_request_body(&out)).map_err(cannot_decide)?;
        ahead.held = false;
        if ahead.unjudged.is_empty() {
            ctx.resources.body_memory.release(ctx.proxy);
        }
        Ok(StreamProgress::Forward { ends, last })
    }
}
