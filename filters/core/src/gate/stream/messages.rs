//! A request that is a stream of inferences.
//!
//! The head is forwarded once it is accepted. The sandbox host judges and answers the messages, and
//! the filter passes them unread, within the bound of [`UnansweredChunks`]. Without a host the
//! filter judges each message and forwards the accepted ones. The first rejection ends the stream.

use tensorgate_policy::Denial;
use tensorgate_policy::decision::BodyPlan;

use super::event_context::{Effect, EventContext, Transition};
use super::{Forwarded, PendingRequest, Stream};
use crate::host::{Action, Proxy};
use crate::message_stream::{MessageContext, MessageStream, UnansweredChunks};

/// A request whose head is forwarded and whose messages follow.
pub(in crate::gate) struct Messages {
    /// The stream's head.
    pending: Box<PendingRequest>,
    judge: MessageJudge,
}

/// Who judges the messages.
enum MessageJudge {
    /// This filter.
    Filter(MessageStream),
    /// The sandbox host.
    Host(UnansweredChunks),
}

impl Messages {
    /// A stream whose head is accepted.
    pub(super) fn start(
        ctx: &EventContext<'_>,
        pending: Box<PendingRequest>,
        plan: BodyPlan,
    ) -> Stream {
        let judge = if ctx.root.has_host() {
            let client = pending.decision.client();
            let policy = ctx.root.policy();
            let has_several = client.is_some_and(|client| policy.may_get_several_answers(client));
            MessageJudge::Host(UnansweredChunks::new(!has_several))
        } else {
            MessageJudge::Filter(MessageStream::new(plan, pending.until_unix_s))
        };
        Stream::Messages(Box::new(Self { pending, judge }))
    }

    /// Handles more of the stream: `bytes` are in the proxy's buffer.
    pub(super) fn body(
        mut self: Box<Self>,
        ctx: &mut EventContext<'_>,
        bytes: usize,
        end: bool,
    ) -> Transition {
        let taken = match &mut self.judge {
            MessageJudge::Filter(stream) => {
                stream.take(&mut context(ctx, &self.pending), bytes, end)
            }
            MessageJudge::Host(chunks) => pass(chunks, ctx, bytes).map(|()| Action::Continue),
        };
        let effect = match taken {
            Ok(Action::Continue) => Effect::Continue,
            Ok(Action::Pause) => Effect::Pause,
            Err(denial) => return self.pending.refuse(ctx, denial),
        };
        if end {
            return (Stream::Forwarded(Forwarded::Complete), effect);
        }
        (Stream::Messages(self), effect)
    }

    /// Ends the stream, without the client's trailers.
    pub(super) fn trailers(mut self, ctx: &mut EventContext<'_>) -> Transition {
        let removed = ctx.remove_trailers();
        let ended = removed.and_then(|()| match &mut self.judge {
            MessageJudge::Filter(stream) => {
                stream.end_in_trailers(&mut context(ctx, &self.pending))
            }
            MessageJudge::Host(_) => Ok(()),
        });
        match ended {
            Ok(()) => (Stream::Forwarded(Forwarded::Complete), Effect::Continue),
            Err(denial) => self.pending.refuse(ctx, denial),
        }
    }

    /// Handles more of the response: `bytes` new bytes. They are looked at only if the host judges.
    pub(super) fn response(&mut self, proxy: &mut dyn Proxy, bytes: usize) {
        if let MessageJudge::Host(chunks) = &mut self.judge {
            chunks.answer(bytes, |start, most| proxy.response_body(start, most));
        }
    }
}

/// Passes more data of a stream that the host judges.
fn pass(
    chunks: &mut UnansweredChunks,
    ctx: &mut EventContext<'_>,
    bytes: usize,
) -> Result<(), Denial> {
    let added = chunks.add(bytes, |start, most| ctx.proxy.request_body(start, most));
    // The stream is counted as allowed since its head.
    if let Err(Denial {
        overload: Some(cause),
        ..
    }) = &added
    {
        ctx.proxy.count_overload(*cause);
    }
    added
}

fn context<'c>(ctx: &'c mut EventContext<'_>, pending: &'c PendingRequest) -> MessageContext<'c> {
    MessageContext {
        root: ctx.root,
        proxy: &mut *ctx.proxy,
        stream: &pending.decision,
        resources: &mut *ctx.resources,
        outcome: &mut *ctx.outcome,
        request_id: pending.upstream.request_id(),
    }
}
