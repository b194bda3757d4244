//! What passed over a connection: the facts that decide whether it is kept and whether a request
//! may be repeated. hyper does not report them: its connection becomes ready for the next request
//! although the end of the last one may still be in its write buffer.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::http2::connection::Stream;

/// The most informational heads (1xx) before an answer. No request has `Expect`, so there should be
/// none. Each is bounded, but their number is not: hyper skips them.
pub(super) const MAX_INFORMATIONAL: u32 = 8;

/// The facts about one connection, shared by its transport, its request and its lease.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<Facts>);

/// What is known about the exchange that is running, or about the idle connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    /// Whether a request has the connection.
    pub(super) is_busy: bool,
    /// Whether a byte of the request was written.
    pub(super) has_written: bool,
    /// Whether the body was taken for writing.
    is_body_taken: bool,
    /// Whether the whole request was written and flushed.
    pub(super) is_sent: bool,
    /// Whether a byte was read since the exchange began.
    pub(super) has_read: bool,
    /// Whether a byte was read before the whole request was sent.
    pub(super) is_early: bool,
    /// Whether a byte was read while no request had the connection.
    pub(super) is_unsolicited: bool,
    /// The number of informational heads.
    pub(super) informational: u32,
    /// Whether the answer's body was read to its end, as its head declares it.
    pub(super) is_answer_read: bool,
    /// When the last part of the answer arrived that its reader waited for. What is read without a
    /// wait may have arrived at any time since.
    pub(super) arrived: Option<Instant>,
}

impl Progress {
    fn with<T>(&self, step: impl FnOnce(&mut Facts) -> T) -> T {
        step(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The facts now.
    pub(super) fn facts(&self) -> Facts {
        self.with(|facts| *facts)
    }

    /// Starts an exchange. What was read while idle stays known.
    pub(super) fn start(&self, is_body_empty: bool) {
        self.with(|facts| {
            *facts = Facts {
                is_busy: true,
                is_body_taken: is_body_empty,
                is_unsolicited: facts.is_unsolicited,
                ..Facts::default()
            };
        });
    }

    /// Ends an exchange after a complete answer.
    pub(super) fn end(&self) {
        self.with(|facts| facts.is_busy = false);
    }

    /// Counts an informational head.
    pub(super) fn count_informational(&self) {
        self.with(|facts| facts.informational = facts.informational.saturating_add(1));
    }

    /// Records that a part of the answer has just arrived.
    pub(super) fn set_arrived(&self) {
        self.with(|facts| facts.arrived = Some(Instant::now()));
    }

    /// Records that the answer's body has ended.
    pub(super) fn set_answer_read(&self) {
        self.with(|facts| facts.is_answer_read = true);
    }

    fn on_read(&self) {
        self.with(|facts| {
            if facts.is_busy {
                facts.has_read = true;
                facts.is_early |= !facts.is_sent;
            } else {
                facts.is_unsolicited = true;
            }
        });
    }

    fn on_flushed(&self) {
        self.with(|facts| facts.is_sent |= facts.has_written && facts.is_body_taken);
    }
}

/// A transport that records what passes.
pub(super) struct RecordedStream {
    stream: Box<dyn Stream>,
    progress: Arc<Progress>,
}

impl RecordedStream {
    pub(super) fn new(stream: Box<dyn Stream>, progress: Arc<Progress>) -> Self {
        Self { stream, progress }
    }
}

impl AsyncRead for RecordedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // An endless sequence of informational heads would be read until the deadline.
        if self.progress.facts().informational > MAX_INFORMATIONAL {
            return Poll::Ready(Err(io::Error::other("too many informational heads")));
        }
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        if into.filled().len() > before {
            self.progress.on_read();
        }
        polled
    }
}

impl AsyncWrite for RecordedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, from);
        note_write(&self.progress);
        polled
    }

    // hyper flushes only when its own buffer is empty.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        if let Poll::Ready(Ok(())) = polled {
            self.progress.on_flushed();
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, from);
        note_write(&self.progress);
        polled
    }
}

/// A write that failed may have reached the server in part, with TLS also one that is pending: the
/// session has taken bytes. So both count as written, and only a repeat within the budget is left.
fn note_write(progress: &Progress) {
    progress.with(|facts| facts.has_written = true);
}

/// A request's body. It records when it was taken for writing.
#[derive(Debug)]
pub struct RequestBody {
    body: Full<Bytes>,
    progress: Arc<Progress>,
}

impl RequestBody {
    pub(super) fn new(body: Bytes, progress: Arc<Progress>) -> Self {
        let body = Full::new(body);
        Self { body, progress }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.progress.with(|facts| facts.is_body_taken = true);
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
