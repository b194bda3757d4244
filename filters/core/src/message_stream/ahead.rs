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
use tensorgate_wire::context::{EnvelopeCodec, MessageEnvelope};
use tensorgate_wire::messages::{Messages, NextMessage, framed};

use super::{Batch, MessageContext, Window};
use crate::body::reader::{MIN_CHUNK_BYTES, read_body};
use crate::host::cannot_decide;

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
    pub(super) const fn is_held(&self) -> bool {
        self.held
    }

    /// Whether some data was not forwarded or has no result.
    pub(super) const fn waits(&self) -> bool {
        self.without_result() > 0 || !self.out.is_empty()
    }

    /// Whether some results were not forwarded.
    pub(super) const fn has_results(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether data can be forwarded in the current callback.
    pub(super) const fn is_writable(&self) -> bool {
        self.writable
    }

    /// Number of bytes without a result.
    pub(super) const fn without_result(&self) -> usize {
        self.data.len().saturating_sub(self.start)
    }

    /// Begins a callback of a read. Returns whether the stream is over, so that the read is
    /// discarded.
    pub(super) const fn begin_read(&mut self) -> bool {
        self.writable = true;
        self.over
    }

    /// Adds the `bytes` of a read to the data, and reserves memory for it: a power of two, up to
    /// `most`.
    pub(super) fn read(
        &mut self,
        ctx: &mut MessageContext<'_>,
        bytes: usize,
        most: usize,
    ) -> Result<(), Denial> {
        self.longest_read = self.longest_read.max(bytes);
        ctx.reserve(self.kept().saturating_add(bytes), most)?;
        let came = read_body(ctx.proxy, bytes)?;
        if self.data.is_empty() {
            self.data = came;
        } else {
            self.data.extend_from_slice(&came);
        }
        Ok(())
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
    pub(super) fn end_batch(&mut self, window: Window, batch: &mut Batch, judged: usize) -> usize {
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

    const fn unsent(&self) -> usize {
        self.data.len().saturating_sub(self.sent)
    }

    /// Bytes to reserve.
    const fn kept(&self) -> usize {
        self.data.len().saturating_add(self.out.len())
    }

    /// Position of the first message of the next batch.
    pub(super) const fn start(&self) -> usize {
        self.start
    }

    /// Ends the stream with the results so far.
    pub(super) const fn set_over(&mut self) {
        self.over = true;
    }

    /// Lets the proxy hold the stream, if its buffer has room for the data and a result. Returns
    /// whether it does.
    pub(super) fn hold(&mut self, ctx: &mut MessageContext<'_>) -> Result<bool, Denial> {
        let waiting = self.out.len().saturating_add(self.unsent());
        if waiting.saturating_add(RESULT_BYTES) > self.held_room() {
            return Ok(false);
        }
        self.held = true;
        (ctx.proxy.replace_request_body(&[])).map_err(cannot_decide)?;
        Ok(true)
    }

    /// Whether the data behind the waiting message, which ends at `judged`, ends inside a message.
    /// The rest of that message then brings another read.
    pub(super) fn is_incomplete(&mut self, messages: &mut Messages, judged: usize) -> bool {
        self.complete = self.complete.max(judged);
        loop {
            let rest = self.data.get(self.complete..).unwrap_or_default();
            match messages.take(rest) {
                Ok(NextMessage::Message { used, .. }) => {
                    self.complete = self.complete.saturating_add(used);
                }
                next => {
                    return !rest.is_empty() && matches!(next, Ok(NextMessage::Incomplete(_)));
                }
            }
        }
    }

    /// Forwards the results, and the data without a result: it ends inside a message, so another
    /// read must come.
    pub(super) fn forward(
        &mut self,
        ctx: &mut MessageContext<'_>,
        codec: &mut EnvelopeCodec,
    ) -> Result<(), Denial> {
        let room = match self.held {
            true => self.held_room(),
            false => usize::MAX,
        };
        let mut out = core::mem::take(&mut self.out);
        let space = room.saturating_sub(out.len().saturating_add(ENVELOPE_BYTES));
        let bytes = self.unsent().min(space);
        let end = self.sent.saturating_add(bytes);
        if bytes >= MIN_CHUNK_BYTES
            && let Some(part) = self.data.get(self.sent..end)
        {
            out.extend(framed(&codec.write(&MessageEnvelope::Ahead { bytes })));
            out.extend_from_slice(part);
            self.sent = end;
        }
        if out.len() > room {
            let cause = "no memory for the results of waiting messages in the proxy's buffer";
            let denial = Denial::new(Reason::Overloaded, cause);
            return Err(denial.overloaded_by(OverloadCause::Memory));
        }
        (ctx.proxy.replace_request_body(&out)).map_err(cannot_decide)?;
        self.held = false;
        if self.data.is_empty() {
            ctx.resources.body_memory.release(ctx.proxy);
        }
        Ok(())
    }
}
