//! A body that is asked for piece by piece: the next one is waited for when the one before was taken, and no sooner.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::Frame;

use crate::backends::openai::Streamed;

/// Where pieces come from.
pub(crate) trait Source: Send + 'static {
    /// The next one; `None` once they are over.
    fn next(&mut self) -> impl Future<Output = Option<Frame<Bytes>>> + Send;
}

impl Source for Streamed {
    async fn next(&mut self) -> Option<Frame<Bytes>> {
        Self::next(self).await.map(Frame::data)
    }
}

/// A piece, and how to wait for the one after it.
struct Piece {
    frame: Frame<Bytes>,
    after: Box<dyn FnOnce() -> Next + Send>,
}

type Next = Pin<Box<dyn Future<Output = Option<Piece>> + Send>>;

/// The pieces that are still to come; none once they are over.
pub(super) struct Pieces(Option<Next>);

impl Pieces {
    pub(super) fn new(source: impl Source) -> Self {
        Self(Some(next(Box::new(source))))
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        let Some(waiting) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let Poll::Ready(piece) = waiting.as_mut().poll(context) else {
            return Poll::Pending;
        };
        let Some(Piece { frame, after }) = piece else {
            self.0 = None;
            return Poll::Ready(None);
        };
        self.0 = Some(after());
        Poll::Ready(Some(frame))
    }
}

fn next<S: Source>(mut source: Box<S>) -> Next {
    Box::pin(async move {
        let frame = source.next().await?;
        let after = Box::new(move || next(source));
        Some(Piece { frame, after })
    })
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").finish_non_exhaustive()
    }
}
