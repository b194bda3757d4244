//! One request at one filter.
//!
//! A [`Gate`] is a state machine (`stream`): the proxy's callbacks are its events. In each state
//! it drives a [`tensorgate_policy::Decision`] and executes the decision's steps: charges, reading
//! the body, responses, upstream headers. The gate itself only decides to reject a request when a
//! step fails. The filter's [`crate::filter::Capabilities`] say which steps the filter executes;
//! the other steps count as done.
//!
//! Headers are held until the verdict. The body stays in the proxy's buffer until it is complete.
//! The verdict falls:
//! - with the headers,
//! - at the end of the body,
//! - at the trailers, which end a body without a body callback,
//! - when a pending call completes (`waiting`),
//! - for each message of a stream separately, here or in the sandbox host (`messages`).
//!
//! A sandbox host behind the filter judges every request again. So the filter only rejects, and the
//! part of a request that it does not read passes unread:
//! - a body above a bound (`PendingRequest::bound`),
//! - what follows a charge that the host makes before it looks at the body (`QuotaStep::Left`).
//!
//! Without a host, a body that is too large to buffer is held until its head is accepted, and the
//! rest is validated while it streams (`streaming`). Where requests may wait for shared limits,
//! such a body is rejected.
//!
//! A rejection is final: after it nothing is forwarded, and there is only one response. The
//! response may wait for the rest of the body, which is discarded (`lingering`). A filter that does
//! not need the body forwards it once the head is accepted.

mod host_release;
mod stream;

use std::rc::Rc;

use tensorgate_policy::Now;

use crate::host::{Action, Level, ListenerBounds, Proxy, SharedStore};
use crate::report::OutcomeReporter;
use crate::report::record::Record;
use crate::root::GateRoot;
use crate::steps::RequestResources;
use crate::store::permits::{PermitFault, max_stream_ns, renew};
use stream::{Effect, Event, EventContext, Stream};

/// One request at one filter.
pub struct Gate {
    root: Rc<GateRoot>,
    stream: Stream,
    outcome: OutcomeReporter,
    /// Permits and memory to release when the response or the stream ends.
    resources: RequestResources,
}

impl Gate {
    /// Creates the gate for one request.
    pub fn new(root: Rc<GateRoot>) -> Self {
        let outcome = OutcomeReporter::new(root.filter());
        Self {
            root,
            stream: Stream::Fresh,
            outcome,
            resources: RequestResources::default(),
        }
    }

    /// When the stream must be ended, in ns of the monotonic clock, if the filter does that.
    pub const fn ends_ns(&self) -> Option<u64> {
        self.resources.ends_ns
    }

    /// Whether headers are forwarded before the body is evaluated.
    pub fn forwards_headers(&self) -> bool {
        self.root.forwards_headers()
    }

    /// Extends the permits of a stream that is still open although its time is over. Outside of a
    /// request the listener's bounds cannot be read, so the policy's apply.
    ///
    /// # Errors
    /// The first permit that could not be extended.
    pub fn renew_permits(
        &mut self,
        store: &mut dyn SharedStore,
        now: Now,
    ) -> Result<(), PermitFault> {
        let limits = self.root.policy().listen().limits();
        let max_stream_ns = max_stream_ns(limits, ListenerBounds::default());
        let permits = &mut self.resources.permits;
        renew(store, permits, now.monotonic_ns, max_stream_ns)
    }

    /// The outcome so far.
    pub const fn record(&self) -> &Record {
        &self.outcome.record
    }

    /// Handles the request headers. `end_of_stream`: nothing follows. Headers arrive once: a proxy
    /// that repeats them gets no second decision.
    pub fn on_request_headers(&mut self, proxy: &mut dyn Proxy, end_of_stream: bool) -> Action {
        self.on(proxy, Event::Head { end: end_of_stream })
    }

    /// Handles more of the body. `body_bytes` is the total in the proxy's buffer.
    pub fn on_request_body(
        &mut self,
        proxy: &mut dyn Proxy,
        body_bytes: usize,
        end_of_stream: bool,
    ) -> Action {
        let action = self.on(
            proxy,
            Event::Body {
                bytes: body_bytes,
                end: end_of_stream,
            },
        );
        if let Some(progress) = &mut self.resources.body_progress {
            progress.on_body(body_bytes, action == Action::Pause);
        }
        if end_of_stream {
            self.end_body();
        }
        action
    }

    /// Handles the trailers: the body is complete, although no body callback said so.
    pub fn on_request_trailers(&mut self, proxy: &mut dyn Proxy) -> Action {
        let action = self.on(proxy, Event::Trailers);
        self.end_body();
        action
    }

    /// Handles the rate-limit service's answer: a message or a gRPC status.
    pub fn on_rate_limit_response(
        &mut self,
        proxy: &mut dyn Proxy,
        token: u32,
        answer: Result<Vec<u8>, u32>,
    ) {
        if self.is_waiting_for(token) {
            self.on_late(proxy, Event::Answer(answer));
        }
    }

    /// Ends the wait, evaluates the buffered data and resumes the stream if allowed. Called from a
    /// callback that is not the stream's own.
    pub fn wake(&mut self, proxy: &mut dyn Proxy) {
        self.on_late(proxy, Event::Tick);
    }

    /// Handles more of the response: `bytes` new bytes. They are looked at only for a stream that
    /// the host judges and that has not ended.
    pub fn on_response_body(&mut self, proxy: &mut dyn Proxy, bytes: usize) {
        self.stream.response(proxy, bytes);
    }

    /// Handles the response trailers. What a host says to the filter is always removed. In a chain
    /// of two gates, the first one does that.
    pub fn on_response_trailers(&mut self, proxy: &mut dyn Proxy) -> Action {
        if !self.stream.is_exempt() {
            host_release::remove_trailer(&self.root, proxy);
        }
        Action::Continue
    }

    /// Handles the access log callback. It may run more than once, and the stream may continue.
    pub fn on_log(&mut self, proxy: &mut dyn Proxy) {
        if self.stream.is_exempt() {
            // The first gate numbers the request. The probe's listener has no access log.
            return;
        }
        if let Some(decision) = self.stream.open_decision() {
            self.outcome.aborted(proxy, self.root.policy(), decision);
        }
        self.outcome.number(proxy);
    }

    /// Handles the end of the stream, for any reason. Called once.
    pub fn on_done(&mut self, proxy: &mut dyn Proxy) {
        self.resources.body_progress = None;
        self.on(proxy, Event::Done);
        self.resources.body_memory.release(proxy);
        self.outcome.done(proxy);
        self.context(proxy, false, false).release_permits();
    }

    /// Whether the request waits for a key, a response waits for the end of its request, or body
    /// delivery is still unknown. The caller then calls [`Self::wake`] once [`Self::is_due`] is
    /// true.
    pub fn waits(&self) -> bool {
        self.stream.waits(&self.root)
    }

    /// Whether the wait is over: the result is there or did not come in time.
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.stream.is_due(&self.root, now_ns)
    }

    /// Whether an answer of the rate-limit service belongs to this request.
    pub fn is_waiting_for(&self, token: u32) -> bool {
        self.stream.pending_call() == Some(token)
    }

    /// Whether a call to the rate-limit service is pending.
    pub fn has_pending_call(&self) -> bool {
        self.stream.pending_call().is_some()
    }

    /// The body is complete: this worker has no more to do for it.
    fn end_body(&mut self) {
        if let Some(progress) = self.resources.body_progress.take() {
            progress.finish();
        }
    }

    /// Handles an event in a callback of the request.
    fn on(&mut self, proxy: &mut dyn Proxy, event: Event) -> Action {
        let is_open = match event {
            Event::Head { end } | Event::Body { end, .. } => !end,
            Event::Trailers | Event::Answer(_) | Event::Tick | Event::Done => false,
        };
        self.apply(proxy, event, is_open, false)
    }

    /// Handles an event in another callback, and resumes the request if allowed.
    fn on_late(&mut self, proxy: &mut dyn Proxy, event: Event) {
        let is_open = self.stream.is_open();
        if self.apply(proxy, event, is_open, true) == Action::Pause {
            return;
        }
        if let Err(fault) = proxy.resume() {
            // The request stays on hold, and the proxy's own timeout ends it.
            proxy.log(Level::Error, &format!("cannot resume a request: {fault}"));
        }
    }

    /// Handles an event, stores the next state and tells the proxy. Meanwhile the state is final,
    /// so that a panic forwards nothing.
    fn apply(
        &mut self,
        proxy: &mut dyn Proxy,
        event: Event,
        is_open: bool,
        is_late: bool,
    ) -> Action {
        let stream = core::mem::replace(&mut self.stream, Stream::OVER);
        let (next, effect) = stream.on(&mut self.context(proxy, is_open, is_late), event);
        self.stream = next;
        match effect {
            Effect::Continue => Action::Continue,
            Effect::Pause => Action::Pause,
            Effect::Deny(answer) => {
                // What still arrives is dropped.
                self.resources.body_progress = None;
                if let Err(fault) = proxy.respond(&answer) {
                    // The request stays on hold, and the proxy's own timeout ends it.
                    let request_id = &self.outcome.record.request_id;
                    proxy.log(Level::Error, &format!("request {request_id}: {fault}"));
                }
                Action::Pause
            }
        }
    }

    fn context<'t>(
        &'t mut self,
        proxy: &'t mut dyn Proxy,
        is_open: bool,
        is_late: bool,
    ) -> EventContext<'t> {
        EventContext {
            root: &self.root,
            proxy,
            outcome: &mut self.outcome,
            resources: &mut self.resources,
            is_open,
            is_late,
        }
    }
}
