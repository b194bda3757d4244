//! Requests of which this filter has nothing left to decide. Where it cannot pass the rest, the
//! request stays on hold, and the proxy's own timeout ends it.

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
        let passes = match &mut self {
            Self::Unread(small_chunks) if ctx.root.filter.capabilities().check => {
                small_chunks.forward(ctx.proxy, bytes, end).is_ok()
            }
            Self::Unread(_) | Self::Exempt => true,
            // After the verdict no more body is expected.
            Self::Complete => bytes == 0,
        };
        (Stream::Forwarded(self), Effect::continue_if(passes))
    }

    /// Passes the end of the request, without the client's trailers.
    pub(super) fn trailers(self, ctx: &mut EventContext<'_>) -> Transition {
        let passes = match &self {
            Self::Exempt => true,
            Self::Complete => ctx.remove_trailers().is_ok(),
            Self::Unread(small_chunks) => {
                small_chunks.end_in_trailers().is_ok() && ctx.remove_trailers().is_ok()
            }
        };
        (Stream::Forwarded(self), Effect::continue_if(passes))
    }
}
