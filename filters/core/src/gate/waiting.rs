//! Requests that wait for a call to another server. Data that arrives meanwhile is buffered and
//! evaluated in order once the wait ends.
//!
//! - A wait for a key buffers body chunks within the worker's limit. A larger body ends the wait.
//!   At the end of the wait the head is evaluated with the keys that are known, then the buffered
//!   data. The wait's permit is released in any case.
//! - A wait for limits, which only a filter without a host has, buffers the chunks of a body to
//!   come. A larger body is streamed, and its end waits for the answer. After the answer the
//!   decision continues, then the buffered data is evaluated.
//! - A wait for limits of a complete request receives no more data. After the answer the body is
//!   read again, and the decision continues.
//!
//! If the stream ends during a wait for limits, the answer is ignored.

use tensorgate_policy::{ChargeOutcome, Step};
use tensorgate_wire::expand;

use super::arrived::{Arrived, End};
use super::{Gate, PendingRequest, Phase};
use crate::body::{ALWAYS_BUFFERED_BYTES, Body};
use crate::host::{Action, Level, ListenerBounds, Proxy, cannot_decide};
use crate::keys::AwaitedFetch;
use crate::quota::rate_limit_service::{PendingCharge, cancel_pending_charge, charge_outcome};
use crate::root::WaitPermit;

/// A waiting request.
pub(super) struct Waiting {
    what: WaitReason,
    arrived: Arrived,
    /// Whether the body is buffered during the wait. A stream of messages is not: a client may wait
    /// for the first answer before it sends more, so only new data would resume the stream.
    holds: bool,
}

/// Reason for the wait.
enum WaitReason {
    /// A key that the issuer may have published since the last fetch. Nothing is evaluated yet.
    Keys(AwaitedFetch, WaitPermit),
    /// The rate-limit service's answer to a charge.
    Limits(PendingLimits),
}

/// A request that is accepted so far and has a pending charge.
struct PendingLimits {
    pending: Box<PendingRequest>,
    pending_charge: PendingCharge,
    /// Whether the request is complete, so that nothing more arrives before the answer.
    whole: bool,
}

impl Gate {
    /// Whether the request waits for a key, a response waits for the end of its request, or body
    /// delivery is still unknown. The caller then calls [`Self::wake`] once [`Self::is_due`] is
    /// true.
    pub fn waits(&self) -> bool {
        match &self.phase {
            Phase::Waiting(waiting) => matches!(waiting.what, WaitReason::Keys(..)),
            Phase::Lingering(_) => true,
            _ => self.is_delivery_unknown(),
        }
    }

    /// Whether an answer of the rate-limit service belongs to this request.
    pub fn is_waiting_for(&self, token: u32) -> bool {
        let waits = match &self.phase {
            Phase::Waiting(waiting) => match &waiting.what {
                WaitReason::Limits(limits) => limits.pending_charge.call.token == token,
                WaitReason::Keys(..) => false,
            },
            _ => false,
        };
        waits
            || self
                .resources
                .pending_charges
                .iter()
                .any(|pending_charge| pending_charge.call.token == token)
    }

    /// Whether a call to the rate-limit service is pending.
    pub fn has_pending_call(&self) -> bool {
        let waits = match &self.phase {
            Phase::Waiting(waiting) => matches!(waiting.what, WaitReason::Limits(_)),
            _ => false,
        };
        waits || !self.resources.pending_charges.is_empty()
    }

    /// Whether the wait is over: the result is there or did not come in time.
    pub fn is_due(&self, now_ns: u64) -> bool {
        match &self.phase {
            Phase::Waiting(waiting) => match &waiting.what {
                WaitReason::Keys(awaited, _) => self.root.keys.borrow().is_over(awaited, now_ns),
                // The call's own answer or timeout ends that wait.
                WaitReason::Limits(_) => false,
            },
            Phase::Lingering(lingering) => lingering.is_due(now_ns),
            _ => self.is_delivery_unknown(),
        }
    }

    /// Ends the wait, evaluates the buffered data and resumes the stream if allowed. Called from a
    /// callback that is not the stream's own.
    pub fn wake(&mut self, proxy: &mut dyn Proxy) {
        if matches!(self.phase, Phase::Lingering(_)) {
            self.end_linger(proxy);
            return;
        }
        if let Some(denial) = self.detect_undelivered(proxy)
            && let Some(pending) = self.take_pending()
        {
            self.refuse(proxy, pending, denial);
            return;
        }
        let Some(waiting) = self.take_waiting() else {
            return;
        };
        if !matches!(waiting.what, WaitReason::Keys(..)) {
            self.phase = Phase::Waiting(waiting);
            return;
        }
        self.late = true;
        let arrived = waiting.arrived;
        let action_so_far = self.end_wait(proxy, *waiting);
        self.resume_with(proxy, arrived, action_so_far);
        self.late = false;
    }

    /// Handles the rate-limit service's answer: a message or a gRPC status.
    pub fn on_rate_limit_response(
        &mut self,
        proxy: &mut dyn Proxy,
        token: u32,
        answer: Result<Vec<u8>, u32>,
    ) {
        if self.is_waiting_for(token) {
            self.late = true;
            self.rate_limit_response(proxy, token, answer);
            self.late = false;
        }
    }

    fn rate_limit_response(
        &mut self,
        proxy: &mut dyn Proxy,
        token: u32,
        answer: Result<Vec<u8>, u32>,
    ) {
        if let Some(index) = self
            .resources
            .pending_charges
            .iter()
            .position(|pending_charge| pending_charge.call.token == token)
        {
            let pending_charge = self.resources.pending_charges.remove(index);
            return self.late_charge_response(proxy, &pending_charge, answer);
        }
        let Some(waiting) = self.take_waiting() else {
            return;
        };
        let arrived = waiting.arrived;
        if let WaitReason::Limits(limits) = waiting.what {
            let action_so_far = self.charge_response(proxy, limits, arrived, answer);
            self.resume_with(proxy, arrived, action_so_far);
        }
    }

    /// Applies the answer to the waiting request.
    fn charge_response(
        &mut self,
        proxy: &mut dyn Proxy,
        limits: PendingLimits,
        arrived: Arrived,
        answer: Result<Vec<u8>, u32>,
    ) -> Action {
        let PendingLimits {
            mut pending,
            pending_charge,
            whole,
        } = limits;
        let now = match proxy.now() {
            Ok(now) => now,
            Err(fault) => {
                cancel_pending_charge(proxy, &pending_charge);
                return self.refuse(proxy, pending, cannot_decide(fault));
            }
        };
        let policy = &self.root.policy;
        let outcome = charge_outcome(policy, proxy, &pending_charge.charge, answer, now);
        let step = pending.decision.charged(policy, outcome);
        if !whole {
            return self.advance(proxy, pending, now, step, None, arrived.end == End::Head);
        }
        match (step, pending.body) {
            // The body is read again: no second copy is kept while a request waits.
            (step @ (Step::Decode | Step::Check), Body::Validate(plan)) => {
                let body = match self.whole_body(proxy, &pending, plan) {
                    Ok(body) => body,
                    Err(denial) => return self.refuse(proxy, pending, denial),
                };
                match expand(&plan, body.as_slice()) {
                    Ok(body) => self.advance(proxy, pending, now, step, Some((plan, &body)), true),
                    Err(denial) => self.refuse(proxy, pending, denial),
                }
            }
            (step, _) => self.advance(proxy, pending, now, step, None, true),
        }
    }

    /// Evaluates data that arrived during the wait and resumes the stream if allowed.
    fn resume_with(&mut self, proxy: &mut dyn Proxy, arrived: Arrived, action_so_far: Action) {
        if arrived.continues_by_itself() {
            return self.remember(proxy, arrived);
        }
        let action = match arrived.end {
            End::Open | End::Head => action_so_far,
            End::Body => self.on_request_body(proxy, arrived.bytes, true),
            End::Trailers => {
                if arrived.bytes > 0 {
                    self.on_request_body(proxy, arrived.bytes, false);
                }
                self.on_request_trailers(proxy)
            }
        };
        if action == Action::Continue {
            resume(proxy);
        }
    }

    /// Records how much of an unfinished body has arrived. If only trailers follow, no callback
    /// repeats that number.
    fn remember(&mut self, proxy: &mut dyn Proxy, arrived: Arrived) {
        if let Phase::Waiting(waiting) = &mut self.phase {
            return waiting.received(arrived);
        }
        let Some(mut pending) = self.take_pending() else {
            return;
        };
        if pending.forwarded.is_some() {
            // The next callback collects these bytes too.
            self.unread_bytes = arrived.bytes;
            self.phase = Phase::Buffering(pending);
            return;
        }
        pending.body_bytes = arrived.bytes;
        if pending.bound.is_none() && arrived.bytes > ALWAYS_BUFFERED_BYTES {
            pending.body = pending.body.within(ListenerBounds::read(proxy));
        }
        match pending.body.fits(arrived.bytes) {
            Ok(()) => self.phase = Phase::Buffering(pending),
            Err(denial) => {
                self.refuse(proxy, pending, denial);
            }
        }
    }

    /// Waits for a key. The permit is released when the wait ends.
    pub(super) fn wait_for_key(
        &mut self,
        proxy: &mut dyn Proxy,
        awaited: AwaitedFetch,
        permit: WaitPermit,
        end_of_stream: bool,
        holds: bool,
    ) -> Action {
        self.phase = Phase::Waiting(Box::new(Waiting {
            what: WaitReason::Keys(awaited, permit),
            arrived: Arrived::head(end_of_stream),
            holds,
        }));
        self.request_tick(proxy);
        Action::Pause
    }

    /// Requests a tick, at which this request is called again.
    pub(super) fn request_tick(&self, proxy: &mut dyn Proxy) {
        self.root.tick_requested.set(true);
        proxy.tick_soon();
    }

    /// Waits for the rate-limit service. `whole`: the request is complete.
    pub(super) fn wait_for_rate_limits(
        &mut self,
        pending: Box<PendingRequest>,
        pending_charge: PendingCharge,
        whole: bool,
        end_of_stream: bool,
    ) -> Action {
        let limits = PendingLimits {
            pending,
            pending_charge,
            whole,
        };
        self.phase = Phase::Waiting(Box::new(Waiting {
            what: WaitReason::Limits(limits),
            // A complete request or a head alone: nothing is left to evaluate at the end of the
            // wait.
            arrived: Arrived::head(end_of_stream || whole),
            holds: true,
        }));
        Action::Pause
    }

    /// Handles more body of a waiting request. A body that is too large to buffer, or a stream of
    /// messages, ends the wait.
    pub(super) fn wait_with_body(
        &mut self,
        proxy: &mut dyn Proxy,
        body_bytes: usize,
        end_of_stream: bool,
    ) -> Action {
        let Some(mut waiting) = self.take_waiting() else {
            return Action::Pause;
        };
        self.delivered();
        let fits = body_bytes <= ALWAYS_BUFFERED_BYTES || body_bytes <= self.may_hold(proxy);
        if body_bytes == 0 || (waiting.holds && fits && waiting.has_room(body_bytes)) {
            waiting.received(Arrived::body(body_bytes, end_of_stream));
            self.phase = Phase::Waiting(waiting);
            return Action::Pause;
        }
        self.end_wait(proxy, *waiting);
        self.on_request_body(proxy, body_bytes, end_of_stream)
    }

    /// Handles the trailers of a waiting request.
    pub(super) fn wait_with_trailers(&mut self) -> Action {
        if let Phase::Waiting(waiting) = &mut self.phase {
            waiting.received(waiting.arrived.trailers());
        }
        Action::Pause
    }

    /// Body bytes that may be buffered before the caller is known.
    fn may_hold(&self, proxy: &mut dyn Proxy) -> usize {
        let own = self.root.policy.listen().limits().hold_bytes;
        ListenerBounds::within_listener(proxy, own)
    }

    /// Ends the wait with the action that the original callback would have returned.
    fn end_wait(&mut self, proxy: &mut dyn Proxy, waiting: Waiting) -> Action {
        let Waiting {
            what,
            arrived,
            holds: _,
        } = waiting;
        match what {
            WaitReason::Keys(awaited, _permit) => {
                let head_only = arrived.end == End::Head;
                self.evaluate_head(proxy, head_only, Some(&awaited))
            }
            WaitReason::Limits(PendingLimits {
                mut pending,
                pending_charge,
                ..
            }) => {
                let now = match proxy.now() {
                    Ok(now) => now,
                    Err(fault) => {
                        cancel_pending_charge(proxy, &pending_charge);
                        return self.refuse(proxy, pending, cannot_decide(fault));
                    }
                };
                // No more of the body is buffered. It is streamed, and its end waits for the
                // charge.
                let step = (pending.decision).charged(&self.root.policy, ChargeOutcome::Pending);
                self.resources.pending_charges.push(pending_charge);
                self.advance(proxy, pending, now, step, None, false)
            }
        }
    }

    pub(super) fn take_waiting(&mut self) -> Option<Box<Waiting>> {
        self.take(|phase| match phase {
            Phase::Waiting(waiting) => Ok(waiting),
            other => Err(other),
        })
    }
}

impl Waiting {
    /// Reserves memory for the body. Requests that wait for keys share a limit, because their
    /// callers are not authenticated yet.
    fn has_room(&mut self, bytes: usize) -> bool {
        match &mut self.what {
            WaitReason::Keys(_, permit) => permit.try_reserve(bytes),
            WaitReason::Limits(_) => true,
        }
    }

    /// Records the arrival of more data. A complete request receives none.
    fn received(&mut self, arrived: Arrived) {
        let whole = match &self.what {
            WaitReason::Keys(..) => false,
            WaitReason::Limits(limits) => limits.whole,
        };
        if !whole {
            self.arrived = arrived;
        }
    }

    /// The accepted request and its pending charge, if the head was evaluated.
    pub(super) const fn judged(&self) -> Option<(&PendingRequest, &PendingCharge)> {
        match &self.what {
            WaitReason::Keys(..) => None,
            WaitReason::Limits(limits) => Some((&limits.pending, &limits.pending_charge)),
        }
    }
}

/// Resumes a stream from a callback that is not its own.
pub(super) fn resume(proxy: &mut dyn Proxy) {
    if let Err(fault) = proxy.resume() {
        // The request stays on hold, and the proxy's own timeout ends it.
        proxy.log(Level::Error, &format!("cannot resume a request: {fault}"));
    }
}
