//! Output of a message stream: the forwarded data and the envelope of each message.

use core::ops::Range;

use tensorgate_policy::{Decision, Denial};
use tensorgate_wire::context::MessageEnvelope;

use crate::body::reader::read_body;
use crate::host::{Proxy, cannot_decide};
use crate::root::GateRoot;

/// Envelopes and their frames, by offset in the input.
#[derive(Debug, Default)]
pub(super) struct Output {
    pieces: Vec<(Vec<u8>, Range<usize>)>,
    /// Number of bytes.
    pub(super) bytes: usize,
}

impl Output {
    /// Adds an envelope and its frame; the frame is empty for a rejected message.
    pub(super) fn push(&mut self, envelope: Vec<u8>, frame: Range<usize>) {
        let bytes = envelope.len().saturating_add(frame.len());
        self.bytes = self.bytes.saturating_add(bytes);
        self.pieces.push((envelope, frame));
    }

    /// Number of messages so far.
    pub(super) const fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Appends the output to `bytes`. `came`: the whole input.
    pub(super) fn write(&self, came: &[u8], bytes: &mut Vec<u8>) {
        for (envelope, range) in &self.pieces {
            bytes.extend_from_slice(envelope);
            bytes.extend_from_slice(came.get(range.clone()).unwrap_or_default());
        }
    }

    /// Replaces the proxy's buffer of `held` bytes with the output. `came`: the whole input, if it
    /// was read.
    pub(super) fn put(
        self,
        proxy: &mut dyn Proxy,
        came: Option<&[u8]>,
        buffered: usize,
    ) -> Result<(), Denial> {
        let whole = |range: &Range<usize>| *range == (0..buffered);
        match self.pieces.as_slice() {
            // The usual case: one message without an envelope stays unchanged.
            [(envelope, range)] if whole(range) && envelope.is_empty() => return Ok(()),
            [(envelope, range)] if whole(range) => {
                return proxy.prepend_request_body(envelope).map_err(cannot_decide);
            }
            _ => {}
        }
        let read;
        let came = match came {
            Some(came) => came,
            None => {
                read = read_body(proxy, buffered)?;
                &read
            }
        };
        let mut bytes = Vec::new();
        self.write(came, &mut bytes);
        proxy.replace_request_body(&bytes).map_err(cannot_decide)
    }
}

/// Merges this filter's envelope of an accepted message with the previous filter's: each limit is
/// charged by one filter.
pub(super) fn joined(
    before: Option<MessageEnvelope>,
    root: &GateRoot,
    decision: &Decision,
) -> MessageEnvelope {
    let own: Vec<_> = decision.request_quotas().collect();
    let checks = root.filter.capabilities().check;
    match before {
        Some(MessageEnvelope::Message { checked, quotas }) => MessageEnvelope::Message {
            checked: checks || checked,
            quotas: if own.is_empty() { quotas } else { own },
        },
        _ => MessageEnvelope::Message {
            checked: checks,
            quotas: own,
        },
    }
}
