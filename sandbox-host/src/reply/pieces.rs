//! A body that is asked for piece by piece: the next one is waited for when the one before was taken, and no sooner.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::backends::openai::Streamed;
use crate::record::Ending;

type Next = Pin<Box<dyn Future<Output = (Box<Streamed>, Option<Bytes>)> + Send>>;

/// The pieces that are still to come.
pub(super) enum Pieces {
    /// Nobody has asked yet.
    Ready(Box<Streamed>),
    /// One is waited for.
    Waiting(Next),
    /// There are no more. How many tokens were used, if that is known.
    Over(Option<u64>),
}

impl Pieces {
    pub(super) fn new(streamed: Streamed) -> Self {
        Self::Ready(Box::new(streamed))
    }

    /// Whom to tell if they break off; before the first is asked for.
    pub(super) fn tell(&mut self, ending: Ending) {
        if let Self::Ready(streamed) = self {
            streamed.tell(ending);
        }
    }

    /// How many tokens were used, once there are no more and if that is known.
    pub(super) const fn tokens(&self) -> Option<u64> {
        match self {
            Self::Over(tokens) => *tokens,
            Self::Ready(_) | Self::Waiting(_) => None,
        }
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut waiting = match std::mem::replace(self, Self::Over(None)) {
            Self::Ready(streamed) => next(streamed),
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
        let (streamed, piece) = ready!(polled);
        *self = match piece {
            Some(_) => Self::Ready(streamed),
            None => Self::Over(streamed.tokens()),
        };
        Poll::Ready(piece)
    }
}

fn next(mut streamed: Box<Streamed>) -> Next {
    Box::pin(async move {
        let piece = streamed.next().await;
        (streamed, piece)
    })
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").finish_non_exhaustive()
    }
}
