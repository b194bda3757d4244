//! Requests without a host whose body is too large to buffer. The head is forwarded once it is
//! accepted, then each chunk that satisfies the contract. The first invalid chunk ends the request:
//! the client gets a response, and the upstream sees an incomplete body.

use tensorgate_policy::Decision;
use tensorgate_policy::decision::BodyPlan;

use super::event_context::{Effect, EventContext, Transition};
use super::{Forwarded, PendingRequest, Remainder, Stream};
use crate::body::reader::read_body;
use crate::body::small_chunks::SmallChunks;
use crate::host::cannot_decide;
use crate::steps::streaming_validation::StreamingValidator;

/// A request whose body is validated while it streams.
pub(in crate::gate) struct Streaming {
    pending: Box<PendingRequest>,
    validator: StreamingValidator,
    small_chunks: SmallChunks,
}

/// Accepts the head of a body that is too large to buffer and forwards the data so far.
pub(super) fn start(
    mut pending: Box<PendingRequest>,
    ctx: &mut EventContext<'_>,
    plan: BodyPlan,
    end: bool,
) -> Transition {
    let started = ctx.proxy.now().map_err(cannot_decide).and_then(|now| {
        let body = pending.received(ctx.proxy, pending.body_bytes)?;
        let validator = StreamingValidator::begin(
            ctx.root,
            ctx.proxy,
            &mut pending.decision,
            ctx.resources,
            plan,
            now,
            &body,
        )?;
        Ok((now, validator))
    });
    let (now, mut validator) = match started {
        Ok(started) => started,
        Err(denial) => return pending.refuse(ctx, denial),
    };
    if !validator.checks() {
        return pending.forward(ctx, now, Remainder::unread(end));
    }
    if !end {
        return pending.forward(ctx, now, Remainder::Validated(validator));
    }
    match validator.end(&mut pending.decision) {
        Ok(()) => pending.forward(ctx, now, Remainder::None),
        Err(denial) => pending.refuse(ctx, denial),
    }
}

impl Streaming {
    /// A request of which the head and the first part are forwarded.
    pub(super) fn begin(pending: Box<PendingRequest>, validator: StreamingValidator) -> Stream {
        Stream::Streaming(Box::new(Self {
            pending,
            validator,
            small_chunks: SmallChunks::streamed(),
        }))
    }

    /// The decision so far.
    pub(super) const fn decision(&self) -> &Decision {
        &self.pending.decision
    }

    /// Validates the next chunk: `bytes` new bytes.
    pub(super) fn body(
        mut self: Box<Self>,
        ctx: &mut EventContext<'_>,
        bytes: usize,
        end: bool,
    ) -> Transition {
        let Self {
            pending,
            validator,
            small_chunks,
        } = &mut *self;
        let checked = read_body(ctx.proxy, bytes).and_then(|chunk| {
            validator.chunk(ctx.root.policy(), &mut pending.decision, &chunk)?;
            if end {
                validator.end(&mut pending.decision)?;
            }
            small_chunks.forward(ctx.proxy, bytes, end)
        });
        match checked {
            Err(denial) => self.pending.refuse(ctx, denial),
            Ok(()) if end => {
                // A shadowed denial may have occurred while the body streamed.
                ctx.outcome.note(ctx.root.policy(), &self.pending.decision);
                ctx.outcome.allowed(ctx.proxy, ctx.root);
                (Stream::Forwarded(Forwarded::Complete), Effect::Continue)
            }
            Ok(()) => (Stream::Streaming(self), Effect::Continue),
        }
    }

    /// Validates what is left, and removes the client's trailers.
    pub(super) fn trailers(self: Box<Self>, ctx: &mut EventContext<'_>) -> Transition {
        let ended = self.small_chunks.end_in_trailers();
        match ended.and_then(|()| ctx.remove_trailers()) {
            Ok(()) => self.body(ctx, 0, true),
            Err(denial) => self.pending.refuse(ctx, denial),
        }
    }

    /// The stream ends before its verdict.
    pub(super) fn done(self, ctx: &mut EventContext<'_>) -> Transition {
        ctx.aborted(Some(&self.pending.decision))
    }
}
