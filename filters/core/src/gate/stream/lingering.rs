//! Rejections of a request whose body is still arriving.
//!
//! A proxy that answers before the end of a request closes the connection, or resets the stream of
//! HTTP/2. A client that does not read while it sends then sees a reset and not the response. So
//! the rest of a known client's body is discarded first, and then the response is sent, as nginx's
//! `lingering_close` does. Nothing is buffered, and no permit is held meanwhile.
//!
//! Answered at once are unknown callers, gRPC, whose clients read while they send, and requests
//! whose head has been forwarded, because the server behind would wait too. So is HTTP/2 if this
//! worker has too many bodies to read.

use tensorgate_policy::Denial;
use tensorgate_policy::denial::OverloadCause;
use tensorgate_wire::Answer;

use super::event_context::{Effect, EventContext, Transition};
use super::{Closed, PendingRequest, Stream};

/// Bytes that are discarded beyond the largest body that the policy allows.
const MAX_EXCESS_BYTES: usize = 1 << 20;
/// Longest time until the response, ns.
const MAX_LINGER_NS: u64 = 1_000_000_000;
/// The property with the version of HTTP.
const HTTP_VERSION: [&str; 2] = ["request", "protocol"];
/// The version with many requests at a time on a connection.
const HTTP_2: &[u8] = b"HTTP/2";
/// The versions in which the response may wait.
const HTTP_VERSIONS: [&[u8]; 2] = [b"HTTP/1.1", HTTP_2];

/// Bounds of the bytes that are discarded.
pub(super) struct LingerBounds {
    left_bytes: usize,
    ends_ns: u64,
}

/// A response that waits for the end of its request.
pub(in crate::gate) struct Lingering {
    answer: Answer,
    bounds: LingerBounds,
}

impl LingerBounds {
    /// Discards what has arrived, if the response to this request waits for its end.
    pub(super) fn begin(
        ctx: &mut EventContext<'_>,
        pending: &PendingRequest,
        denial: &Denial,
    ) -> Option<Self> {
        let is_known = pending.decision.client().is_some();
        let reads_meanwhile = pending.upstream.answer_protocol().is_grpc();
        let is_behind = pending.forwarded_head.is_some() || ctx.root.forwards_headers();
        if !ctx.is_open || is_behind || !is_known || reads_meanwhile {
            return None;
        }
        let version = ctx.proxy.property(&HTTP_VERSION).ok()??;
        let is_late = denial.overload == Some(OverloadCause::Worker);
        if !HTTP_VERSIONS.contains(&version.as_slice()) || (is_late && version == HTTP_2) {
            return None;
        }
        let limits = ctx.root.policy().listen().limits();
        let max_bytes = limits.body_bytes.saturating_add(MAX_EXCESS_BYTES);
        // The buffers of both kernels take about as much again. Of a longer body the rest would be
        // reset in any case.
        let sendable_bytes = max_bytes.saturating_add(MAX_EXCESS_BYTES);
        let declared = pending.decision.declared().map(usize::try_from);
        if declared.is_some_and(|bytes| bytes.map_or(true, |bytes| bytes > sendable_bytes)) {
            return None;
        }
        let now = ctx.proxy.now().ok()?;
        let mut left_bytes = max_bytes;
        // The data of a late event is still to come as an event of its own.
        if pending.body_bytes > 0 && !ctx.is_late {
            ctx.proxy.replace_request_body(&[]).ok()?;
            left_bytes = left_bytes.saturating_sub(pending.body_bytes);
        }
        Some(Self {
            left_bytes,
            ends_ns: now.monotonic_ns.saturating_add(MAX_LINGER_NS),
        })
    }
}

impl Lingering {
    /// A rejected request of which the outcome is recorded. It holds nothing but the response.
    pub(super) fn start(
        ctx: &mut EventContext<'_>,
        answer: Answer,
        bounds: LingerBounds,
    ) -> Transition {
        ctx.release_permits();
        ctx.resources.body_memory.release(ctx.proxy);
        ctx.resources.body_progress = None;
        ctx.request_tick();
        let lingering = Box::new(Self { answer, bounds });
        (Stream::Closed(Closed::Lingering(lingering)), Effect::Pause)
    }

    /// Whether the time is over.
    pub(super) const fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.bounds.ends_ns
    }

    /// Discards more of the body.
    pub(super) fn body(
        mut self: Box<Self>,
        ctx: &mut EventContext<'_>,
        bytes: usize,
        end: bool,
    ) -> Transition {
        ctx.root.body_limiter.discard(bytes);
        let now = ctx.proxy.now();
        let is_due = now.map_or(true, |now| self.is_due(now.monotonic_ns));
        let Some(left_bytes) = self.bounds.left_bytes.checked_sub(bytes) else {
            return self.end();
        };
        self.bounds.left_bytes = left_bytes;
        let is_over = end || is_due;
        if is_over || (bytes > 0 && ctx.proxy.replace_request_body(&[]).is_err()) {
            return self.end();
        }
        (Stream::Closed(Closed::Lingering(self)), Effect::Pause)
    }

    /// Sends the response.
    pub(super) fn end(self) -> Transition {
        (Stream::OVER, Effect::Deny(self.answer))
    }
}
