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

use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::{Denial, Reason};
use tensorgate_wire::context::MessageEnvelope;
use tensorgate_wire::messages::{NextMessage, framed, max_ahead};

use super::pending::PendingMessage;
use super::{Batch, Message, MessageContext, MessageStream, StreamProgress, Window};
use crate::body::reader::{MIN_CHUNK_BYTES, read_body};
use crate::host::cannot_decide;
use crate::quota::rate_limit_service::PendingCharge;
use crate::steps::out_of_order;

/// The smallest buffer of a control plane. A proxy forwards no more for a stream that it has held.
const BUFFER_BYTES: usize = 32 << 10;
/// Longest envelope for bytes whose results follow, framed.
const ENVELOPE_BYTES: usize = 64;
/// Space in the buffer for the result of one more message.
const RESULT_BYTES: usize = 512;

/// State of a stream whose data is forwarded before its results. Positions count from the beginning
/// of `data`.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Data without a result from `start` on: complete messages, of which the first waits, then the
    /// beginning of the next one.
    data: Vec<u8>,
    start: usize,
    /// End of the data that was forwarded.
    sent: usize,
    /// End of the messages that are known to be complete.
    complete: usize,
    /// Results and messages to forward.
    out: Vec<u8>,
    /// The longest read, which the proxy's buffer can take.
    longest_read: usize,
    /// Whether the proxy holds the stream. A message waits then.
    held: bool,
    /// Whether data can be forwarded in the current callback.
    writable: bool,
    /// Whether the stream ends with the results in `out`.
    over: bool,
}

impl Ahead {
    /// Whether some data was not forwarded or has no result.
    pub(super) const fn waits(&self) -> bool {
        self.without_result() > 0 || !self.out.is_empty()
    }

    /// Whether some results were not forwarded.
    pub(super) const fn has_results(&self) -> bool {
        !self.out.is_empty()
    }

    /// Begins a callback outside a read: data can be forwarded only if the proxy holds the stream.
    pub(super) const fn begin_answer(&mut self) {
        self.writable = self.held;
    }

    /// The data, for the evaluation of a batch that may have begun before some of it arrived.
    pub(super) fn begin_batch(&mut self, batch: &mut Batch) -> Window {
        batch.buffered = self.data.len();
        batch.sent = self.sent;
        batch.room = match self.held {
            true => {
                let used = self.out.len().saturating_add(RESULT_BYTES);
                self.held_room().saturating_sub(used)
            }
            false => usize::MAX,
        };
        Window {
            start: 0,
            bytes: core::mem::take(&mut self.data),
        }
    }

    /// Keeps the results of a batch, and the data from `judged` on. Returns by how much positions
    /// have moved: the data before is removed once it is half of all, so that each byte is copied
    /// once.
    fn end_batch(&mut self, window: Window, batch: &mut Batch, judged: usize) -> usize {
        core::mem::take(&mut batch.out).write(&window.bytes, &mut self.out);
        let bytes = window.bytes;
        let rest = bytes.len().saturating_sub(judged);
        let removed = if judged >= rest { judged } else { 0 };
        self.data = match bytes.get(removed..) {
            // A copy, because the longer buffer would stay allocated without a reservation.
            Some(rest) if removed > 0 => rest.to_vec(),
            _ => bytes,
        };
        self.start = judged.saturating_sub(removed);
        self.sent = batch.sent.max(judged).saturating_sub(removed);
        self.complete = self.complete.max(judged).saturating_sub(removed);
        removed
    }

    /// Maximum bytes to forward for a held stream. The proxy's buffer is at least as large as its
    /// longest read, and usually a power of two.
    fn held_room(&self) -> usize {
        let buffer = self.longest_read.checked_next_power_of_two();
        buffer.unwrap_or_default().max(BUFFER_BYTES)
    }

    const fn without_result(&self) -> usize {
        self.data.len().saturating_sub(self.start)
    }

    const fn unsent(&self) -> usize {
        self.data.len().saturating_sub(self.sent)
    }

    /// Bytes to reserve.
    const fn kept(&self) -> usize {
        self.data.len().saturating_add(self.out.len())
    }
}

impl MessageStream {
    /// Whether the proxy holds the stream of a waiting message, so that data can be added to it.
    pub(crate) fn is_held(&self) -> bool {
        self.ahead.as_ref().is_none_or(|ahead| ahead.held)
    }

    /// Handles the `bytes` of one read.
    pub(super) fn take_ahead(
        &mut self,
        ctx: &mut MessageContext<'_>,
        bytes: usize,
        last: bool,
    ) -> Result<StreamProgress, Denial> {
        let Some(ahead) = &mut self.ahead else {
            return Err(out_of_order());
        };
        ahead.writable = true;
        if ahead.over {
            return self.forward(ctx, true, last);
        }
        ahead.longest_read = ahead.longest_read.max(bytes);
        let kept = ahead.kept();
        self.reserve(ctx, kept.saturating_add(bytes))?;
        let came = read_body(ctx.proxy, bytes)?;
        let Some(ahead) = &mut self.ahead else {
            return Err(out_of_order());
        };
        if ahead.data.is_empty() {
            ahead.data = came;
        } else {
            ahead.data.extend_from_slice(&came);
        }
        if let Some(pending) = &mut self.pending {
            pending.batch.last |= last;
            return self.hold_or_forward(ctx, last);
        }
        let mut batch = Batch::new(0, last);
        batch.at = ahead.start;
        let window = ahead.begin_batch(&mut batch);
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
        let Some(ahead) = &mut self.ahead else {
            return Err(out_of_order());
        };
        let last = batch.last;
        let place = message.place.clone();
        let removed = ahead.end_batch(window, &mut batch, place.start);
        let moved = |at: usize| at.saturating_sub(removed);
        message.place = moved(place.start)..moved(place.end);
        batch.at = message.place.end;
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
            return Err(out_of_order());
        };
        let judged = if ends { batch.buffered } else { batch.at };
        ahead.end_batch(window, &mut batch, judged);
        ahead.over |= ends;
        if !ahead.writable {
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
        let Some(ahead) = &mut self.ahead else {
            return Err(out_of_order());
        };
        if !ahead.writable {
            return Ok(StreamProgress::Buffer);
        }
        let waiting = ahead.out.len().saturating_add(ahead.unsent());
        let too_much = ahead.without_result() > most;
        if waiting.saturating_add(RESULT_BYTES) <= ahead.held_room() && !too_much {
            ahead.held = true;
            (ctx.proxy.replace_request_body(&[])).map_err(cannot_decide)?;
            return Ok(StreamProgress::Buffer);
        }
        if too_much || last || !self.is_incomplete() {
            return self.reject_waiting(ctx);
        }
        self.forward(ctx, false, last)
    }

    /// Whether the data behind the waiting message ends inside a message. The rest of that message
    /// then brings another read.
    fn is_incomplete(&mut self) -> bool {
        let (Some(ahead), Some(pending)) = (&mut self.ahead, &self.pending) else {
            return false;
        };
        ahead.complete = ahead.complete.max(pending.batch.at);
        loop {
            let rest = ahead.data.get(ahead.complete..).unwrap_or_default();
            match self.messages.take(rest) {
                Ok(NextMessage::Message { used, .. }) => {
                    ahead.complete = ahead.complete.saturating_add(used);
                }
                next => {
                    return !rest.is_empty() && matches!(next, Ok(NextMessage::Incomplete(_)));
                }
            }
        }
    }

    /// Forwards the results, and the data without a result: it ends inside a message, so another
    /// read must come.
    fn forward(
        &mut self,
        ctx: &mut MessageContext<'_>,
        ends: bool,
        last: bool,
    ) -> Result<StreamProgress, Denial> {
        let (Some(ahead), Some(codec)) = (&mut self.ahead, &mut self.codec) else {
            return Err(out_of_order());
        };
        let room = match ahead.held {
            true => ahead.held_room(),
            false => usize::MAX,
        };
        let mut out = core::mem::take(&mut ahead.out);
        let space = room.saturating_sub(out.len().saturating_add(ENVELOPE_BYTES));
        let bytes = ahead.unsent().min(space);
        let end = ahead.sent.saturating_add(bytes);
        if bytes >= MIN_CHUNK_BYTES
            && let Some(part) = ahead.data.get(ahead.sent..end)
        {
            out.extend(framed(&codec.write(&MessageEnvelope::Ahead { bytes })));
            out.extend_from_slice(part);
            ahead.sent = end;
        }
        if out.len() > room {
            let cause = "no memory for the results of waiting messages in the proxy's buffer";
            let denial = Denial::new(Reason::Overloaded, cause);
            return Err(denial.overloaded_by(OverloadCause::Memory));
        }
        (ctx.proxy.replace_request_body(&out)).map_err(cannot_decide)?;
        ahead.held = false;
        if ahead.data.is_empty() {
            ctx.resources.body_memory.release(ctx.proxy);
        }
        Ok(StreamProgress::Forward { ends, last })
    }
}
