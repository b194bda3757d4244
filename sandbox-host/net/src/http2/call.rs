//! One call over a connection: the request is sent while the response is awaited. Dropping an
//! unfinished call resets its stream.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::Response;
use hyper::body::{Body as _, Frame};
use tonic::Status;
use tonic::body::Body;

/// A chunk up to this size is sent without waiting for the server's window. The connection queues
/// it. Longer chunks wait, so that a blocked stream does not reserve window that other streams
/// could use.
const MAX_UNRESERVED_CHUNK_BYTES: usize = 16 << 10;

/// The connection or the stream failed. The source of the status tells which.
pub(super) fn connection_error(error: h2::Error) -> Status {
    let mut status = Status::unknown(error.to_string());
    status.set_source(Arc::new(error));
    status
}

/// A call whose response has not started.
#[derive(Debug)]
pub struct Exchange {
    response: ResponseFuture,
    sending: Option<RequestBody>,
}

impl Exchange {
    /// A call whose head was sent.
    pub const fn new(response: ResponseFuture, stream: SendStream<Bytes>, body: Body) -> Self {
        let sending = Some(RequestBody {
            stream,
            body,
            next: None,
        });
        Self { response, sending }
    }
}

impl Future for Exchange {
    type Output = Result<Response<Incoming>, Status>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        send(&mut self.sending, context)?;
        let response =
            ready!(Pin::new(&mut self.response).poll(context)).map_err(connection_error)?;
        let sending = self.sending.take();
        Poll::Ready(Ok(response.map(|stream| Incoming {
            stream,
            sending,
            data_finished: false,
        })))
    }
}

/// The body of a request that is being sent.
#[derive(Debug)]
struct RequestBody {
    stream: SendStream<Bytes>,
    body: Body,
    /// The next chunk, if it is available already.
    next: Option<Bytes>,
}

/// Sends what is available and fits in the window. Sending ends after the last chunk, or when the
/// server stops reading. In that case its response has the reason.
///
/// # Errors
/// Returns an error if the body fails.
fn send(sending: &mut Option<RequestBody>, context: &mut Context<'_>) -> Result<(), Status> {
    while let Some(left) = sending {
        match left.send_chunk(context) {
            Poll::Ready(Ok(SendState::More)) => {}
            Poll::Ready(Ok(SendState::Last)) => *sending = None,
            Poll::Ready(Err(status)) => {
                left.stream.send_reset(Reason::CANCEL);
                return Err(status);
            }
            Poll::Pending => return Ok(()),
        }
    }
    Ok(())
}

/// Whether more data follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendState {
    More,
    Last,
}

impl RequestBody {
    /// Sends one chunk.
    fn send_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<SendState, Status>> {
        let piece = match self.next.take() {
            Some(piece) => piece,
            None => match ready!(self.next_chunk(context)?) {
                Some(piece) => piece,
                None => {
                    // An error here is ignored. The response reports it.
                    let _ = self.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(Ok(SendState::Last));
                }
            },
        };
        if piece.len() > MAX_UNRESERVED_CHUNK_BYTES && self.stream.capacity() == 0 {
            self.stream.reserve_capacity(1);
            match self.stream.poll_capacity(context) {
                Poll::Ready(Some(Ok(1..))) => {}
                Poll::Ready(Some(Ok(0))) => {
                    self.next = Some(piece);
                    return Poll::Ready(Ok(SendState::More));
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Ok(SendState::Last)),
                Poll::Pending => {
                    self.next = Some(piece);
                    return Poll::Pending;
                }
            }
        }
        // Checks for the last chunk before sending, so that the end needs no frame of its own.
        let last = match self.next_chunk(context)? {
            Poll::Ready(next) => {
                self.next = next;
                self.next.is_none()
            }
            Poll::Pending => false,
        };
        let sent = match self.stream.send_data(piece, last) {
            Ok(()) if !last => SendState::More,
            Ok(()) | Err(_) => SendState::Last,
        };
        Poll::Ready(Ok(sent))
    }

    /// The next chunk of the body, `None` at its end. Requests have no trailers.
    fn next_chunk(&mut self, context: &mut Context<'_>) -> Result<Poll<Option<Bytes>>, Status> {
        Ok(match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(frame)) => Poll::Ready(frame?.into_data().ok()),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
    }
}

/// A response body: data, then trailers. The rest of the request is sent meanwhile.
#[derive(Debug)]
pub struct Incoming {
    stream: RecvStream,
    sending: Option<RequestBody>,
    data_finished: bool,
}

impl hyper::body::Body for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        send(&mut self.sending, context)?;
        if !self.data_finished {
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(data)) => {
                    // The data is counted elsewhere from here on. A finished stream has no window
                    // to release.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(stream_end(error)),
                None => self.data_finished = true,
            }
        }
        match ready!(self.stream.poll_trailers(context)) {
            Ok(trailers) => Poll::Ready(trailers.map(|fields| Ok(Frame::trailers(fields)))),
            Err(error) => Poll::Ready(stream_end(error)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}

/// A stream that is reset without an error was answered before its request ended (RFC 9113, 8.1).
fn stream_end<T>(error: h2::Error) -> Option<Result<T, Status>> {
    (error.reason() != Some(Reason::NO_ERROR)).then(|| Err(connection_error(error)))
}
