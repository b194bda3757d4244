//! What the handler of one event can use, and what it returns.

use tensorgate_policy::request::Protocol;
use tensorgate_policy::{Decision, Denial};
use tensorgate_wire::Answer;

use super::Stream;
use crate::body::Delivery;
use crate::host::{Level, Proxy, cannot_decide};
use crate::report::OutcomeReporter;
use crate::root::GateRoot;
use crate::steps::RequestResources;
use crate::store::permits::release;

/// The request's surroundings during one event.
pub(in crate::gate) struct EventContext<'t> {
    pub(in crate::gate) root: &'t GateRoot,
    pub(in crate::gate) proxy: &'t mut dyn Proxy,
    pub(in crate::gate) outcome: &'t mut OutcomeReporter,
    /// Permits and memory to release when the response or the stream ends.
    pub(in crate::gate) resources: &'t mut RequestResources,
    /// Whether more of the request is to come.
    pub(in crate::gate) is_open: bool,
    /// Whether the event belongs to a callback other than the request's own: the data that has
    /// arrived meanwhile is still to be evaluated.
    pub(in crate::gate) is_late: bool,
}

/// What the proxy does after an event.
#[derive(Debug)]
pub(in crate::gate) enum Effect {
    /// Forwards the new data and any data held before.
    Continue,
    /// Holds the new data.
    Pause,
    /// Sends this response. Once per request.
    Deny(Answer),
}

/// The next state and what the proxy does.
pub(super) type Transition = (Stream, Effect);

impl EventContext<'_> {
    /// Removes the client's trailers, which would be forwarded unchecked: no inference protocol has
    /// any.
    pub(super) fn remove_trailers(&mut self) -> Result<(), Denial> {
        self.proxy.set_request_trailers(&[]).map_err(cannot_decide)
    }

    /// Records that the stream ended before its verdict.
    pub(super) fn aborted(&mut self, decision: Option<&Decision>) -> Transition {
        self.outcome
            .aborted(self.proxy, self.root.policy(), decision);
        (Stream::OVER, Effect::Pause)
    }

    /// Rejects a request of which no more than the protocol is known.
    pub(super) fn deny(&mut self, denial: &Denial, protocol: Protocol) -> Transition {
        let answer = Answer::to_denial(denial, protocol, &self.outcome.record.request_id);
        self.respond(denial, answer)
    }

    /// Rejects a request with this response.
    pub(super) fn respond(&mut self, denial: &Denial, answer: Answer) -> Transition {
        self.outcome.denied(self.proxy, self.root, denial);
        (Stream::OVER, Effect::Deny(answer))
    }

    /// Requests a tick, at which this request is called again.
    pub(super) fn request_tick(&mut self) {
        // A proxy starts the period anew at each call, so one is enough until the tick.
        if !self.root.tick_requested.replace(true) {
            self.proxy.tick_soon();
        }
    }

    /// Records that part of a body arrived while its headers are held.
    pub(super) fn delivered(&self) {
        if self.root.delivery.get() == Delivery::Unknown {
            self.root.delivery.set(Delivery::Works);
        }
    }

    /// Releases the concurrency permits.
    pub(in crate::gate) fn release_permits(&mut self) {
        let permits = core::mem::take(&mut self.resources.permits);
        if permits.is_empty() {
            return;
        }
        // Without a clock no permit counts as expired, and all are still released.
        let now_ns = self.proxy.now().map_or(0, |now| now.monotonic_ns);
        for fault in release(self.proxy, &permits, now_ns) {
            self.proxy
                .log(Level::Error, &format!("concurrency permits: {fault}"));
        }
    }
}
