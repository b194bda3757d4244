//! Requests of which this filter has nothing left to decide. It rejects them all the same if it
//! cannot forward the rest as it came.

use tensorgate_policy::request::Protocol;
use tensorgate_policy::{Denial, Reason};

use super::event_context::{Effect, EventContext, Transition};
use super::{Forwarded, Stream};

impl Forwarded {
    /// Passes more of the body.
    pub(super) fn body(
        mut self,
        ctx: &mut EventContext<'_>,
        bytes: usize,
        end: bool,
    ) -> Transition {
        let passed = match &mut self {
            Self::Unread(small_chunks) => small_chunks.forward(ctx.proxy, bytes, end),
            Self::Exempt => Ok(()),
            Self::Complete if bytes == 0 => Ok(()),
            Self::Complete => {
                let cause = "more of the body arrived than the request declared";
                Err(Denial::new(Reason::Malformed, cause))
            }
        };
        self.after(ctx, passed)
    }

    /// Passes the end of the request, without the client's trailers.
    pub(super) fn trailers(self, ctx: &mut EventContext<'_>) -> Transition {
        let removed = match &self {
            Self::Exempt => Ok(()),
            Self::Complete => ctx.remove_trailers(),
            Self::Unread(small_chunks) => {
                let ended = small_chunks.end_in_trailers();
                ended.and_then(|()| ctx.remove_trailers())
            }
        };
        self.after(ctx, removed)
    }

    fn after(self, ctx: &mut EventContext<'_>, passed: Result<(), Denial>) -> Transition {
        match passed {
            Ok(()) => (Stream::Forwarded(self), Effect::Continue),
            Err(denial) => ctx.deny(&denial, Protocol::OipRest),
        }
    }
}
