//! A request whose verdict is open: what is known of it, how it is forwarded and rejected.

use std::ops::Deref;
use std::rc::Rc;

use tensorgate_policy::decision::{BodyFormat, BodyPlan};
use tensorgate_policy::{Denial, Now, Reason, Step};
use tensorgate_wire::{Answer, context};

use super::event_context::{Effect, EventContext, Transition};
use super::lingering::{LingerBounds, Lingering};
use super::messages::Messages;
use super::signed_context::{previous_rates, sign};
use super::streaming::Streaming;
use super::{Forwarded, PendingRequest, Remainder, Stream};
use crate::body::reader::read_body;
use crate::body::{ALWAYS_BUFFERED_BYTES, Body, reads_body};
use crate::host::{ListenerBounds, Proxy, cannot_decide};
use crate::identify::shared_identity::SharedIdentity;
use crate::root::GateRoot;

/// A body as it was received.
pub(super) enum ReceivedBody {
    /// Just read from the proxy.
    Read(Vec<u8>),
    /// The filter's copy.
    Copy(Rc<Vec<u8>>),
}

impl Deref for ReceivedBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Read(body) => body,
            Self::Copy(body) => body,
        }
    }
}

impl Remainder {
    /// A body that this filter does not read, or no more than has arrived.
    pub(super) const fn unread(end: bool) -> Self {
        if end { Self::None } else { Self::PassThrough }
    }
}

impl PendingRequest {
    /// Whether this filter may judge a body in this format: none is declared above the bound. A
    /// body that must be empty is always judged, because nothing of it is read.
    pub(super) fn may_judge(&self, format: BodyFormat) -> bool {
        let Some(bound) = self.bound else {
            return true;
        };
        let fits = |bytes: u64| usize::try_from(bytes).is_ok_and(|bytes| bytes <= bound);
        format == BodyFormat::Empty || (bound > 0 && self.decision.declared().is_none_or(fits))
    }

    /// Lowers the limits of a body of which so many bytes have arrived, if it may exceed what the
    /// listener of an older policy buffers. With a host, the bound is within that.
    pub(super) fn apply_listener_bounds(&mut self, ctx: &mut EventContext<'_>, bytes: usize) {
        if self.bound.is_none() && bytes > ALWAYS_BUFFERED_BYTES {
            let bounds = ListenerBounds::read(ctx.proxy);
            let may_stream = ctx.root.may_stream();
            self.body = self.body.lowered_to(bounds, may_stream);
        }
    }

    /// Whether more of the body has arrived than this filter judges.
    pub(super) fn exceeds_bound(&self) -> bool {
        let is_judged = matches!(self.body, Body::Validate(_));
        is_judged && self.bound.is_some_and(|bound| self.body_bytes > bound)
    }

    /// Whether the whole declared body has arrived. It is evaluated before its last bytes are
    /// forwarded: for a host that counts bytes, they are the end.
    pub(super) fn is_all_for_host(&self, root: &GateRoot) -> bool {
        let arrived = u64::try_from(self.body_bytes).unwrap_or(u64::MAX);
        let declared = self.decision.declared();
        root.has_host() && declared.is_some_and(|declared| arrived >= declared)
    }

    /// A complete body as it arrived; empty if this filter does not read it.
    pub(super) fn complete_body(
        &self,
        ctx: &mut EventContext<'_>,
        plan: BodyPlan,
    ) -> Result<ReceivedBody, Denial> {
        let capabilities = ctx.root.filter().capabilities();
        let is_read = reads_body(capabilities, plan.format, &self.decision, ctx.root.policy());
        self.received(ctx.proxy, if is_read { self.body_bytes } else { 0 })
    }

    /// The received body: the filter's copy, or `bytes` of the proxy's buffer.
    pub(super) fn received(
        &self,
        proxy: &mut dyn Proxy,
        bytes: usize,
    ) -> Result<ReceivedBody, Denial> {
        match &self.forwarded_head {
            Some(head) => Ok(ReceivedBody::Copy(head.body())),
            None => read_body(proxy, bytes).map(ReceivedBody::Read),
        }
    }

    /// Forwards the request: its headers, unless they were forwarded before, and the part of the
    /// body that has arrived.
    pub(super) fn forward(
        mut self: Box<Self>,
        ctx: &mut EventContext<'_>,
        now: Now,
        rest: Remainder,
    ) -> Transition {
        ctx.outcome.note(ctx.root.policy(), &self.decision);
        let sent = if self.forwarded_head.is_some() {
            self.release_copy(ctx)
        } else {
            let is_complete = matches!(rest, Remainder::None);
            self.send_headers(ctx, now, is_complete && !ctx.root.forwards_headers())
        };
        if let Err(denial) = sent {
            return self.refuse(ctx, denial);
        }
        let next = match rest {
            Remainder::None => Stream::Forwarded(Forwarded::Complete),
            Remainder::PassThrough => {
                let head = self.forwarded_head.take();
                let small_chunks = head.map(|head| head.small_chunks);
                Stream::Forwarded(Forwarded::Unread(small_chunks.unwrap_or_default()))
            }
            // The verdict is still open.
            Remainder::Validated(validator) => {
                ctx.outcome.forwarded(ctx.proxy);
                self.forwarded_head.get_or_insert_default();
                return (Streaming::begin(self, validator), Effect::Continue);
            }
            Remainder::Messages(plan) => {
                self.forwarded_head.get_or_insert_default();
                Messages::start(ctx, self, plan)
            }
        };
        ctx.outcome.allowed(ctx.proxy, ctx.root);
        (next, Effect::Continue)
    }

    /// Ends the evaluation of a body, or of the head of one that streams. A host has received what
    /// has arrived; for another server, the withheld body is restored, all of it at once.
    fn release_copy(&mut self, ctx: &mut EventContext<'_>) -> Result<(), Denial> {
        let Some(head) = &mut self.forwarded_head else {
            return Ok(());
        };
        let copy = core::mem::take(&mut head.copy);
        ctx.resources.body_memory.release(ctx.proxy);
        if head.in_trailers {
            head.small_chunks.end_in_trailers()?;
        }
        if ctx.root.has_host() || copy.is_empty() {
            return Ok(());
        }
        if head.in_trailers {
            let cause = "request trailers follow a body that is withheld from its server";
            return Err(Denial::new(Reason::Malformed, cause));
        }
        ctx.proxy.replace_request_body(&copy).map_err(cannot_decide)
    }

    /// Leaves a body above the bound to the host: forwards the head and what has arrived.
    pub(super) fn leave_to_host(
        self: Box<Self>,
        ctx: &mut EventContext<'_>,
        end: bool,
    ) -> Transition {
        match ctx.proxy.now() {
            Ok(now) => self.forward(ctx, now, Remainder::unread(end)),
            Err(fault) => self.refuse(ctx, cannot_decide(fault)),
        }
    }

    /// Forwards the headers and passes the caller's identity on. If this filter identifies callers,
    /// its own header fields replace the client's. A signed context is added if a host reads it and
    /// this filter has something to add. `buffered`: the whole body has arrived.
    pub(super) fn send_headers(
        &self,
        ctx: &mut EventContext<'_>,
        now: Now,
        buffered: bool,
    ) -> Result<(), Denial> {
        let signed = sign(self, ctx, now, buffered)?;
        let added = signed.as_deref().map(|signed| (context::HEADER, signed));
        self.rewrite
            .carry_out(ctx.proxy, &self.upstream.fields(), added)
            .map_err(cannot_decide)?;
        if ctx.root.filter().shares_identity() && self.previous.is_empty() {
            let record = &ctx.outcome.record;
            let identity = SharedIdentity {
                client: record.client.clone(),
                credential: record.credential.clone(),
                proofs: self.decision.proofs(),
                request_id: record.request_id.clone(),
            };
            identity.publish(ctx.proxy).map_err(cannot_decide)?;
        }
        Ok(())
    }

    /// Rejects the request for a cause found in the filter.
    pub(super) fn refuse(
        mut self: Box<Self>,
        ctx: &mut EventContext<'_>,
        denial: Denial,
    ) -> Transition {
        let fallback = denial.clone();
        let denial = match self.decision.refuse(ctx.root.policy(), denial) {
            Step::Deny(denial) => denial,
            // The cause found here stands, whatever else the decision returns.
            _ => fallback,
        };
        self.deny(ctx, &denial)
    }

    /// Rejects the request by its decision.
    pub(super) fn deny(&self, ctx: &mut EventContext<'_>, denial: &Denial) -> Transition {
        ctx.outcome.note(ctx.root.policy(), &self.decision);
        let before = previous_rates(self, ctx);
        let shown = Denial {
            rates: before.into_iter().chain(denial.rates.clone()).collect(),
            ..denial.clone()
        };
        let protocol = self.upstream.answer_protocol();
        let request_id = &ctx.outcome.record.request_id;
        let answer = Answer::to_denial_of_path(&shown, protocol, request_id, self.upstream.path());
        match LingerBounds::begin(ctx, self, denial) {
            Some(bounds) => {
                ctx.outcome.denied(ctx.proxy, ctx.root, &shown);
                Lingering::start(ctx, answer, bounds)
            }
            None => ctx.respond(&shown, answer),
        }
    }
}
