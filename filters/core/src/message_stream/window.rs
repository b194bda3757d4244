//! Progress within the buffered part of a stream: plain data that is kept while a message waits.

use core::ops::Range;

use tensorgate_policy::{Decision, Denial};
use tensorgate_wire::context::MessageEnvelope;

use super::output::Output;
use crate::body::reader::read_body_at;
use crate::host::Proxy;
use crate::quota::rate_limit_service::PendingCharge;

/// Progress within the buffered data.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) out: Output,
    /// Bytes processed so far.
    pub(super) at: usize,
    /// Bytes in the proxy's buffer.
    pub(super) buffered: usize,
    /// Whether nothing follows.
    pub(super) last: bool,
    /// Whether messages that would wait are rejected.
    pub(super) reject_waiting: bool,
    /// Bytes that were forwarded before.
    pub(super) sent: usize,
    /// Maximum bytes of the output and of what was neither processed nor forwarded.
    pub(super) room: usize,
}

impl Batch {
    /// A batch of `buffered` bytes. `last`: nothing follows.
    pub(super) fn new(buffered: usize, last: bool) -> Self {
        Self {
            out: Output::default(),
            at: 0,
            buffered,
            last,
            reject_waiting: false,
            sent: 0,
            room: usize::MAX,
        }
    }

    /// Whether the result of this message has no room.
    pub(super) fn is_full(&self, place: &Range<usize>) -> bool {
        let to_send = match self.reject_waiting {
            // Of rejected messages only the one that was sent in part is completed.
            true if self.sent > place.start => place.end,
            true => self.sent,
            false => self.buffered,
        };
        let rest = to_send.saturating_sub(place.start.max(self.sent));
        self.out.bytes.saturating_add(rest) > self.room
    }
}

/// A message during evaluation.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) decision: Decision,
    pub(super) envelope: Option<MessageEnvelope>,
    /// Range of its frame in the proxy's buffer.
    pub(super) place: Range<usize>,
    pub(super) summary: MessageSummary,
}

/// A part of the proxy's buffer.
pub(super) struct Window {
    pub(super) start: usize,
    pub(super) bytes: Vec<u8>,
}

impl Window {
    /// Nothing was read.
    pub(super) const NONE: Self = Self {
        start: 0,
        bytes: Vec::new(),
    };

    pub(super) fn read(proxy: &mut dyn Proxy, start: usize, bytes: usize) -> Result<Self, Denial> {
        let bytes = read_body_at(proxy, start, bytes)?;
        Ok(Self { start, bytes })
    }

    /// The bytes from this offset on.
    pub(super) fn from(&self, at: usize) -> &[u8] {
        let from = at.saturating_sub(self.start);
        self.bytes.get(from..).unwrap_or_default()
    }
}

/// What is known of a rejected message.
#[derive(Debug, Default)]
pub(super) struct MessageSummary {
    /// Whether it names a model.
    pub(super) named: bool,
    pub(super) id: Option<String>,
}

/// Result of evaluating a message.
pub(super) enum MessageOutcome {
    /// The result is written.
    Done {
        /// The message ends the stream.
        ends: bool,
    },
    /// The message waits for the rate-limit service.
    Pending(Box<Message>, PendingCharge),
}
