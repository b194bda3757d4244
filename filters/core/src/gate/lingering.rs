//! Rejections of a request whose body is still arriving.
//!
//! A proxy that answers before the end of a request closes the connection, or resets the stream of
//! HTTP/2. A client that does not read while it sends then sees a reset and not the response. So
//! the rest of a known client's body is discarded first, and then the response is sent, as nginx's
//! `lingering_close` does. Nothing is buffered, and no permit is held meanwhile.
//!
//! Answered at once are unknown callers, gRPC, whose clients read while they send, and requests
//! whose head has been forwarded, because the server behind would wait too.

use tensorgate_policy::Denial;
use tensorgate_wire::Answer;

use super::{Gate, PendingRequest, Phase};
use crate::host::{Action, Proxy};

/// Bytes that are discarded beyond the largest body that the policy allows.
const MAX_EXCESS_BYTES: usize = 1 << 20;
/// Longest time until the response, ns.
const MAX_LINGER_NS: u64 = 1_000_000_000;
/// The property with the version of HTTP.
const HTTP_VERSION: [&str; 2] = ["request", "protocol"];
/// The versions in which the response may wait.
const HTTP_VERSIONS: [&[u8]; 2] = [b"HTTP/1.1", b"HTTP/2"];

/// Bounds of the bytes that are discarded.
pub(super) struct LingerBounds {
    left_bytes: usize,
    ends_ns: u64,
}

/// A response that waits for the end of its request.
pub(super) struct Lingering {
    answer: Answer,
    bounds: LingerBounds,
}

impl Lingering {
    /// Whether the time is over.
    pub(super) const fn is_due(&self, now_ns: u64) -> bool {
        now_ns >= self.bounds.ends_ns
    }
}

impl Gate {
    /// Discards what has arrived, if the response to this request waits for its end.
    pub(super) fn begin_linger(
        &self,
        proxy: &mut dyn Proxy,
        pending: &PendingRequest,
    ) -> Option<LingerBounds> {
        let is_known = pending.decision.client().is_some();
        let reads_meanwhile = pending.upstream.answer_protocol().is_grpc();
        let is_open = self.incomplete && !self.dispatched && !self.forwards_headers();
        if !is_open || !is_known || reads_meanwhile {
            return None;
        }
        let version = proxy.property(&HTTP_VERSION).ok()??;
        if !HTTP_VERSIONS.contains(&version.as_slice()) {
            return None;
        }
        let limits = self.root.policy.listen().limits();
        let max_bytes = limits.body_bytes.saturating_add(MAX_EXCESS_BYTES);
        // The buffers of both kernels take about as much again. Of a longer body the rest would be
        // reset in any case.
        let sendable_bytes = max_bytes.saturating_add(MAX_EXCESS_BYTES);
        let declared = pending.decision.declared().map(usize::try_from);
        if declared.is_some_and(|bytes| bytes.map_or(true, |bytes| bytes > sendable_bytes)) {
            return None;
        }
        let now = proxy.now().ok()?;
        let mut left_bytes = max_bytes;
        // Outside of a body's callback the next one repeats what is buffered.
        if pending.body_bytes > 0 && !self.late {
            proxy.replace_request_body(&[]).ok()?;
            left_bytes = left_bytes.saturating_sub(pending.body_bytes);
        }
        Some(LingerBounds {
            left_bytes,
            ends_ns: now.monotonic_ns.saturating_add(MAX_LINGER_NS),
        })
    }

    /// Rejects a request whose response waits for its end.
    pub(super) fn deny_after_body(
        &mut self,
        proxy: &mut dyn Proxy,
        denial: &Denial,
        answer: Answer,
        bounds: LingerBounds,
    ) -> Action {
        self.phase = Phase::Lingering(Box::new(Lingering { answer, bounds }));
        self.outcome.denied(proxy, &self.root, denial);
        self.release_permits(proxy);
        self.resources.body_memory.release(proxy);
        self.request_tick(proxy);
        Action::Pause
    }

    /// Discards more of the body: `body_bytes` are in the proxy's buffer.
    pub(super) fn linger(
        &mut self,
        proxy: &mut dyn Proxy,
        body_bytes: usize,
        end_of_stream: bool,
    ) -> Action {
        let Phase::Lingering(lingering) = &mut self.phase else {
            return Action::Pause;
        };
        let now = proxy.now();
        let is_due = now.map_or(true, |now| lingering.is_due(now.monotonic_ns));
        let left_bytes = lingering.bounds.left_bytes.checked_sub(body_bytes);
        let is_over = end_of_stream || is_due || left_bytes.is_none();
        lingering.bounds.left_bytes = left_bytes.unwrap_or_default();
        if is_over || (body_bytes > 0 && proxy.replace_request_body(&[]).is_err()) {
            return self.end_linger(proxy);
        }
        Action::Pause
    }

    /// Sends the response that has waited.
    pub(super) fn end_linger(&mut self, proxy: &mut dyn Proxy) -> Action {
        let taken = self.take(|phase| match phase {
            Phase::Lingering(lingering) => Ok(lingering),
            other => Err(other),
        });
        if let Some(lingering) = taken {
            self.send_answer(proxy, &lingering.answer);
        }
        Action::Pause
    }
}
