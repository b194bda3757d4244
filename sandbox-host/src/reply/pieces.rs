//! A body that is asked for piece by piece: the next one is waited for when the one before was taken, and no sooner.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::Frame;

use crate::audit::Ending;
use crate::backends::openai::Streamed;

/// Where pieces come from.
pub(crate) trait Source: Send + 'static {
    /// The next one; `None` once they are over.
    fn next(&mut self) -> impl Future<Output = Option<Frame<Bytes>>> + Send;

    /// Whom to tell if they break off; before the first is asked for.
    fn tell(&mut self, ending: Ending) {
        drop(ending);
    }

    /// How many tokens were used, once there are no more and if that is known.
    fn tokens(&self) -> Option<u64> {
        None
    }
}

impl Source for Streamed {
    async fn next(&mut self) -> Option<Frame<Bytes>> {
        Self::next(self).await.map(Frame::data)
    }

    fn tell(&mut self, ending: Ending) {
        Self::tell(self, ending);
    }

    fn tokens(&self) -> Option<u64> {
        Self::tokens(self)
    }
}

/// A source, and how to wait for its next piece.
pub(super) trait Waits: Send {
    fn wait(self: Box<Self>) -> Next;
    fn tell(&mut self, ending: Ending);
    fn tokens(&self) -> Option<u64>;
}

impl<S: Source> Waits for S {
    fn wait(mut self: Box<Self>) -> Next {
        Box::pin(async move {
            let frame = Source::next(&mut *self).await;
            (self as Box<dyn Waits>, frame)
        })
    }

    fn tell(&mut self, ending: Ending) {
        Source::tell(self, ending);
    }

    fn tokens(&self) -> Option<u64> {
        Source::tokens(self)
    }
}

pub(super) type Next = Pin<Box<dyn Future<Output = (Box<dyn Waits>, Option<Frame<Bytes>>)> + Send>>;

/// The pieces that are still to come.
pub(super) enum Pieces {
    /// Nobody has asked yet.
    Ready(Box<dyn Waits>),
    /// One is waited for.
    Waiting(Next),
    /// There are no more. How many tokens were used, if that is known.
    Over(Option<u64>),
}

impl Pieces {
    pub(super) fn new(source: impl Source) -> Self {
        Self::Ready(Box::new(source))
    }

    /// Whom to tell if they break off; before the first is asked for.
    pub(super) fn tell(&mut self, ending: Ending) {
        if let Self::Ready(source) = self {
            source.tell(ending);
        }
    }

    /// How many tokens were used, once there are no more and if that is known.
    pub(super) const fn tokens(&self) -> Option<u64> {
        match self {
            Self::Over(tokens) => *tokens,
            Self::Ready(_) | Self::Waiting(_) => None,
        }
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        let mut waiting = match std::mem::replace(self, Self::Over(None)) {
            Self::Ready(source) => source.wait(),
            Self::Waiting(waiting) => waiting,
            Self::Over(tokens) => {
                *self = Self::Over(tokens);
                return Poll::Ready(None);
            }
        };
        let polled = waiting.as_mut().poll(context);
        if polled.is_pending() {
            *self = Self::Waiting(waiting);
        }
        let (source, piece) = ready!(polled);
        *self = match piece {
            Some(_) => Self::Ready(source),
            None => Self::Over(source.tokens()),
        };
        Poll::Ready(piece)
    }
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").finish_non_exhaustive()
    }
}
