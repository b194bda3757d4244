//! A streamed response body. The next chunk is requested after the previous one was taken, not
//! earlier.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::Frame;
use tensorgate_audit::Ending;

use crate::backends::openai::EventStream;

/// A source of chunks.
pub(crate) trait Source: Send + 'static {
    /// The next chunk, `None` after the last.
    fn next(&mut self) -> impl Future<Output = Option<Frame<Bytes>>> + Send;

    /// Sets the recorder of an early end, before the first chunk is requested.
    fn set_ending(&mut self, ending: Ending) {
        drop(ending);
    }

    /// The number of used tokens, if it is known after the last chunk.
    fn tokens(&self) -> Option<u64> {
        None
    }
}

impl Source for EventStream {
    async fn next(&mut self) -> Option<Frame<Bytes>> {
        Self::next(self).await.map(Frame::data)
    }

    fn set_ending(&mut self, ending: Ending) {
        Self::set_ending(self, ending);
    }

    fn tokens(&self) -> Option<u64> {
        Self::tokens(self)
    }
}

/// A source as a trait object.
pub(super) trait BoxedSource: Send {
    fn wait(self: Box<Self>) -> Next;
    fn tell(&mut self, ending: Ending);
    fn tokens(&self) -> Option<u64>;
}

impl<S: Source> BoxedSource for S {
    fn wait(mut self: Box<Self>) -> Next {
        Box::pin(async move {
            let frame = Source::next(&mut *self).await;
            (self as Box<dyn BoxedSource>, frame)
        })
    }

    fn tell(&mut self, ending: Ending) {
        Source::set_ending(self, ending);
    }

    fn tokens(&self) -> Option<u64> {
        Source::tokens(self)
    }
}

type Next = Pin<Box<dyn Future<Output = (Box<dyn BoxedSource>, Option<Frame<Bytes>>)> + Send>>;

/// The chunks that are still to come.
pub(super) enum ChunkStream {
    /// No chunk is being awaited.
    Ready(Box<dyn BoxedSource>),
    /// A chunk is being awaited.
    Waiting(Next),
    /// There are no more. Holds the number of used tokens, if known.
    Over(Option<u64>),
}

impl ChunkStream {
    pub(super) fn new(source: impl Source) -> Self {
        Self::Ready(Box::new(source))
    }

    /// Sets the recorder of an early end, before the first chunk is requested.
    pub(super) fn set_ending(&mut self, ending: Ending) {
        if let Self::Ready(source) = self {
            source.tell(ending);
        }
    }

    /// The number of used tokens, if it is known after the last chunk.
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

impl fmt::Debug for ChunkStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").finish_non_exhaustive()
    }
}
