//! A body that is asked for piece by piece: the next one is waited for when the one before was taken, and no sooner.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::backends::openai::Streamed;

type Next = Pin<Box<dyn Future<Output = (Box<Streamed>, Option<Bytes>)> + Send>>;

/// The pieces that are still to come; none once they are over.
pub(super) struct Pieces(Option<Next>);

impl Pieces {
    pub(super) fn new(streamed: Streamed) -> Self {
        Self(Some(next(Box::new(streamed))))
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(waiting) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let Poll::Ready((streamed, piece)) = waiting.as_mut().poll(context) else {
            return Poll::Pending;
        };
        self.0 = piece.is_some().then(|| next(streamed));
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
