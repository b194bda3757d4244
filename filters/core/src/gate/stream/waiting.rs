//! Requests whose verdict is open. They wait for a key, for an answer of the rate-limit service, or
//! for their body.
//!
//! - A wait for a key buffers body chunks within the worker's limit. A larger body ends the wait,
//!   and the head is evaluated with the keys that are known. The wait's permit is released in any
//!   case.
//! - A wait for a limit, which only a filter without a host has, buffers up to `hold_bytes`, and at
//!   least 256 KiB. A larger body is rejected. A request that was complete before its wait receives
//!   nothing more; its body is read again afterwards.
//! - After a wait, what has arrived meanwhile is evaluated like an event of its own
//!   ([`Arrived`]).

use tensorgate_policy::{Decision, Step};
use tensorgate_wire::expand;

use super::advance::CompleteBody;
use super::arrived::{Arrived, End};
use super::event_context::{Effect, EventContext, Transition};
use super::forward_mode::{collect, collect_trailers};
use super::{
    BodyWait, Event, KeyWait, LimitWait, PendingRequest, Stream, Waiting, delivery, head, streaming,
};
use crate::body::{ALWAYS_BUFFERED_BYTES, Body, within};
use crate::host::{ListenerBounds, cannot_decide};
use crate::quota::rate_limit_service::{cancel_pending_charge, charge_outcome};

impl Waiting {
    /// Waits for more of the body.
    pub(super) fn for_body(pending: Box<PendingRequest>) -> Stream {
        Stream::Waiting(Self::Body(BodyWait {
            pending,
            unread_bytes: 0,
        }))
    }

    /// Handles more of the body: `bytes` are in the proxy's buffer.
    pub(super) fn body(self, ctx: &mut EventContext<'_>, bytes: usize, end: bool) -> Transition {
        match self {
            Self::Key(wait) => wait.body(ctx, bytes, end),
            Self::Limit(wait) => wait.body(ctx, bytes, end),
            Self::Body(wait) => wait.body(ctx, bytes, end),
        }
    }

    /// Handles the trailers.
    pub(super) fn trailers(self, ctx: &mut EventContext<'_>) -> Transition {
        match self {
            Self::Key(mut wait) => {
                wait.arrived = wait.arrived.trailers();
                (Stream::Waiting(Self::Key(wait)), Effect::Pause)
            }
            Self::Limit(mut wait) => {
                wait.arrived = wait.arrived.trailers();
                (Stream::Waiting(Self::Limit(wait)), Effect::Pause)
            }
            Self::Body(wait) => wait.trailers(ctx),
        }
    }

    /// Handles the answer of the rate-limit service: a message or a gRPC status.
    pub(super) fn answer(
        self,
        ctx: &mut EventContext<'_>,
        answer: Result<Vec<u8>, u32>,
    ) -> Transition {
        match self {
            Self::Limit(wait) => {
                let arrived = wait.arrived;
                let transition = wait.charged(ctx, answer);
                evaluate_arrived(ctx, transition, arrived)
            }
            other => (Stream::Waiting(other), Effect::Pause),
        }
    }

    /// Ends a wait whose time is over.
    pub(super) fn tick(self, ctx: &mut EventContext<'_>) -> Transition {
        match self {
            Self::Key(wait) => {
                let arrived = wait.arrived;
                let transition = wait.evaluate(ctx);
                evaluate_arrived(ctx, transition, arrived)
            }
            Self::Body(wait) => match delivery::undelivered(ctx, &wait.pending) {
                Some(denial) => wait.pending.refuse(ctx, denial),
                None => (Stream::Waiting(Self::Body(wait)), Effect::Pause),
            },
            // The call's own answer or timeout ends that wait.
            Self::Limit(_) => (Stream::Waiting(self), Effect::Pause),
        }
    }

    /// The stream ends before its verdict.
    pub(super) fn done(self, ctx: &mut EventContext<'_>) -> Transition {
        match &self {
            Self::Key(_) => {}
            Self::Limit(wait) => wait.cancel(ctx),
            Self::Body(wait) => {
                // A proxy that does not deliver bodies is still worth logging.
                delivery::undelivered(ctx, &wait.pending);
            }
        }
        ctx.aborted(self.decision())
    }

    /// Whether more of the request is to come.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Key(wait) => wait.arrived.end == End::Open,
            Self::Limit(wait) => wait.arrived.end == End::Open,
            Self::Body(_) => true,
        }
    }

    /// The decision so far, if the head was evaluated.
    pub(super) const fn decision(&self) -> Option<&Decision> {
        match self {
            Self::Key(_) => None,
            Self::Limit(wait) => Some(&wait.pending.decision),
            Self::Body(wait) => Some(&wait.pending.decision),
        }
    }
}

impl KeyWait {
    fn body(
        mut self: Box<Self>,
        ctx: &mut EventContext<'_>,
        bytes: usize,
        end: bool,
    ) -> Transition {
        ctx.delivered();
        let fits = bytes <= can_buffer(ctx, bytes);
        if bytes == 0 || (self.holds && fits && self.permit.try_reserve(bytes)) {
            self.arrived = self.arrived.body(bytes, end);
            return (Stream::Waiting(Waiting::Key(self)), Effect::Pause);
        }
        match self.evaluate(ctx) {
            denied @ (_, Effect::Deny(_)) => denied,
            (next, _) => next.on(ctx, Event::Body { bytes, end }),
        }
    }

    /// Evaluates the head with the keys that are known now.
    fn evaluate(self, ctx: &mut EventContext<'_>) -> Transition {
        let Self {
            fetch,
            permit,
            arrived,
            ..
        } = self;
        let transition = head::evaluate(ctx, arrived.end == End::Head, Some(&fetch));
        drop(permit);
        transition
    }
}

impl LimitWait {
    fn body(
        mut self: Box<Self>,
        ctx: &mut EventContext<'_>,
        bytes: usize,
        end: bool,
    ) -> Transition {
        ctx.delivered();
        let arrived = self.arrived.body(bytes, end);
        if let Err(denial) = within(arrived.bytes, can_buffer(ctx, arrived.bytes)) {
            self.cancel(ctx);
            self.pending.body_bytes = arrived.bytes;
            return self.pending.refuse(ctx, denial);
        }
        self.arrived = arrived;
        (Stream::Waiting(Waiting::Limit(self)), Effect::Pause)
    }

    /// The request ends before the answer.
    fn cancel(&self, ctx: &mut EventContext<'_>) {
        cancel_pending_charge(ctx.proxy, ctx.root.key_prefix(), &self.charge);
    }

    /// Applies the answer.
    fn charged(self, ctx: &mut EventContext<'_>, answer: Result<Vec<u8>, u32>) -> Transition {
        let Self {
            mut pending,
            charge,
            arrived,
        } = self;
        let now = match ctx.proxy.now() {
            Ok(now) => now,
            Err(fault) => {
                cancel_pending_charge(ctx.proxy, ctx.root.key_prefix(), &charge);
                return pending.refuse(ctx, cannot_decide(fault));
            }
        };
        let policy = ctx.root.policy();
        let prefix = ctx.root.key_prefix();
        let outcome = charge_outcome(policy, ctx.proxy, prefix, &charge.charge, answer, now);
        let step = pending.decision.charged(policy, outcome);
        if arrived.end != End::Evaluated {
            return pending.advance(ctx, now, step, None, arrived.end == End::Head);
        }
        match (step, pending.body) {
            // The body is read again: no second copy is kept while a request waits.
            (step @ (Step::Decode | Step::Check), Body::Validate(plan)) => {
                let body = match pending.complete_body(ctx, plan) {
                    Ok(body) => body,
                    Err(denial) => return pending.refuse(ctx, denial),
                };
                match expand(&plan, &*body) {
                    Ok(body) => {
                        let body = CompleteBody::Copied(plan, &body);
                        pending.advance(ctx, now, step, Some(body), true)
                    }
                    Err(denial) => pending.refuse(ctx, denial),
                }
            }
            (step, _) => pending.advance(ctx, now, step, None, true),
        }
    }
}

impl BodyWait {
    fn body(mut self, ctx: &mut EventContext<'_>, bytes: usize, end: bool) -> Transition {
        if self.pending.forwarded_head.is_some() {
            return collect(self.pending, ctx, bytes, end);
        }
        ctx.delivered();
        let before = core::mem::replace(&mut self.pending.body_bytes, bytes);
        let mut pending = self.pending;
        // Read once.
        if before <= ALWAYS_BUFFERED_BYTES {
            pending.apply_listener_bounds(ctx, bytes);
        }
        if let Err(denial) = pending.body.fits(bytes) {
            return pending.refuse(ctx, denial);
        }
        if pending.exceeds_bound() {
            return pending.leave_to_host(ctx, end);
        }
        if let Body::Validate(plan) = pending.body
            && bytes > plan.hold_bytes
        {
            return streaming::start(pending, ctx, plan, end);
        }
        if end {
            return pending.finish(ctx);
        }
        (Waiting::for_body(pending), Effect::Pause)
    }

    fn trailers(self, ctx: &mut EventContext<'_>) -> Transition {
        let Self {
            mut pending,
            unread_bytes,
        } = self;
        let removed = ctx.remove_trailers();
        let collected = removed.and_then(|()| collect_trailers(&mut pending, ctx, unread_bytes));
        if let Err(denial) = collected {
            return pending.refuse(ctx, denial);
        }
        if pending.exceeds_bound() {
            return pending.leave_to_host(ctx, true);
        }
        match pending.body {
            // The body is too large to validate as a whole.
            Body::Validate(plan) if pending.body_bytes > plan.hold_bytes => {
                streaming::start(pending, ctx, plan, true)
            }
            _ => pending.finish(ctx),
        }
    }
}

/// Evaluates the data that arrived during a wait.
fn evaluate_arrived(
    ctx: &mut EventContext<'_>,
    after_wait: Transition,
    arrived: Arrived,
) -> Transition {
    let (stream, effect) = after_wait;
    if matches!(effect, Effect::Deny(_)) {
        return (stream, effect);
    }
    if arrived.continues_by_itself() {
        return remember(ctx, stream, arrived);
    }
    match arrived.end {
        End::Open | End::Head | End::Evaluated => (stream, effect),
        End::Body => {
            let bytes = arrived.bytes;
            stream.on(ctx, Event::Body { bytes, end: true })
        }
        End::Trailers => {
            let bytes = arrived.bytes;
            let (stream, effect) = if bytes > 0 {
                stream.on(ctx, Event::Body { bytes, end: false })
            } else {
                (stream, effect)
            };
            match effect {
                Effect::Deny(_) => (stream, effect),
                _ => stream.on(ctx, Event::Trailers),
            }
        }
    }
}

/// Records how much of an unfinished body has arrived. If only trailers follow, no callback repeats
/// that number. The next callback of the stream applies the verdict.
fn remember(ctx: &mut EventContext<'_>, stream: Stream, arrived: Arrived) -> Transition {
    let waiting = match stream {
        Stream::Waiting(waiting) => waiting,
        other => return (other, Effect::Pause),
    };
    let mut wait = match waiting {
        Waiting::Key(mut wait) => {
            wait.arrived = arrived;
            return (Stream::Waiting(Waiting::Key(wait)), Effect::Pause);
        }
        Waiting::Limit(mut wait) => {
            wait.arrived = arrived;
            return (Stream::Waiting(Waiting::Limit(wait)), Effect::Pause);
        }
        Waiting::Body(wait) => wait,
    };
    if wait.pending.forwarded_head.is_some() {
        // The next callback collects these bytes too.
        wait.unread_bytes = arrived.bytes;
        return (Stream::Waiting(Waiting::Body(wait)), Effect::Pause);
    }
    let pending = &mut wait.pending;
    pending.body_bytes = arrived.bytes;
    pending.apply_listener_bounds(ctx, arrived.bytes);
    match pending.body.fits(arrived.bytes) {
        Ok(()) => (Stream::Waiting(Waiting::Body(wait)), Effect::Pause),
        Err(denial) => wait.pending.refuse(ctx, denial),
    }
}

/// Body bytes that the proxy can buffer, if they are fewer than `bytes`.
fn can_buffer(ctx: &mut EventContext<'_>, bytes: usize) -> usize {
    if bytes <= ALWAYS_BUFFERED_BYTES {
        return ALWAYS_BUFFERED_BYTES;
    }
    let own = ctx.root.policy().listen().limits().hold_bytes;
    ListenerBounds::within_listener(ctx.proxy, own).max(ALWAYS_BUFFERED_BYTES)
}
