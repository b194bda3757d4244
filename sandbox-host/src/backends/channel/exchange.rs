//! One call over a connection: its request goes out while its answer is waited for. Dropped before it is over, it is reset at the server.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::Response;
use hyper::body::{Body as _, Frame};
use tonic::Status;
use tonic::body::Body;

use super::broken;

/// A piece that is handed over without asking for room in the server's window first, bytes: the connection keeps it until there is some. What is longer
/// asks, so that a stream which waits lays no claim to a window that others could use.
const SMALL_BYTES: usize = 16 << 10;

/// A call whose answer has not begun.
#[derive(Debug)]
pub(super) struct Exchange {
    response: ResponseFuture,
    sending: Option<Sending>,
}

impl Exchange {
    /// A call whose head is on its way.
    pub(super) const fn new(
        response: ResponseFuture,
        stream: SendStream<Bytes>,
        body: Body,
    ) -> Self {
        let sending = Some(Sending {
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
        let response = ready!(Pin::new(&mut self.response).poll(context)).map_err(broken)?;
        let sending = self.sending.take();
        Poll::Ready(Ok(response.map(|stream| Incoming {
            stream,
            sending,
            data_is_over: false,
        })))
    }
}

/// A request's body on its way out.
#[derive(Debug)]
struct Sending {
    stream: SendStream<Bytes>,
    body: Body,
    /// The piece that comes next, if it is there already.
    next: Option<Bytes>,
}

/// Hands over what is there and what there is room for. Nothing is left to be sent once the last piece is handed over, or the server takes no more; of that
/// its answer says why.
///
/// # Errors
/// The body cannot be made.
fn send(sending: &mut Option<Sending>, context: &mut Context<'_>) -> Result<(), Status> {
    while let Some(left) = sending {
        match left.piece(context) {
            Poll::Ready(Ok(Sent::More)) => {}
            Poll::Ready(Ok(Sent::Last)) => *sending = None,
            Poll::Ready(Err(status)) => {
                left.stream.send_reset(Reason::CANCEL);
                return Err(status);
            }
            Poll::Pending => return Ok(()),
        }
    }
    Ok(())
}

/// Whether more is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    More,
    Last,
}

impl Sending {
    /// Hands over one piece.
    fn piece(&mut self, context: &mut Context<'_>) -> Poll<Result<Sent, Status>> {
        let piece = match self.next.take() {
            Some(piece) => piece,
            None => match ready!(self.more(context)?) {
                Some(piece) => piece,
                None => {
                    // Nobody hears of a stream that has ended: its answer says so.
                    let _ = self.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(Ok(Sent::Last));
                }
            },
        };
        if piece.len() > SMALL_BYTES && self.stream.capacity() == 0 {
            self.stream.reserve_capacity(1);
            match self.stream.poll_capacity(context) {
                Poll::Ready(Some(Ok(1..))) => {}
                Poll::Ready(Some(Ok(0))) => {
                    self.next = Some(piece);
                    return Poll::Ready(Ok(Sent::More));
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Ok(Sent::Last)),
                Poll::Pending => {
                    self.next = Some(piece);
                    return Poll::Pending;
                }
            }
        }
        // Whether it is the last is asked first, so that the end needs no frame of its own.
        let last = match self.more(context)? {
            Poll::Ready(next) => {
                self.next = next;
                self.next.is_none()
            }
            Poll::Pending => false,
        };
        let sent = match self.stream.send_data(piece, last) {
            Ok(()) if !last => Sent::More,
            Ok(()) | Err(_) => Sent::Last,
        };
        Poll::Ready(Ok(sent))
    }

    /// The next piece of the body; `None` at its end. Requests have no trailers.
    fn more(&mut self, context: &mut Context<'_>) -> Result<Poll<Option<Bytes>>, Status> {
        Ok(match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(frame)) => Poll::Ready(frame?.into_data().ok()),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
    }
}

/// What comes back: data, then trailers. What is left of the request goes out meanwhile.
#[derive(Debug)]
pub(in crate::backends) struct Incoming {
    stream: RecvStream,
    sending: Option<Sending>,
    data_is_over: bool,
}

impl hyper::body::Body for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        send(&mut self.sending, context)?;
        if !self.data_is_over {
            match ready!(self.stream.poll_data(context)) {
                Some(Ok(data)) => {
                    // It is ours now, and counted where it is kept. A stream that is over has no window to give back.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(ended(error)),
                None => self.data_is_over = true,
            }
        }
        match ready!(self.stream.poll_trailers(context)) {
            Ok(trailers) => Poll::Ready(trailers.map(|fields| Ok(Frame::trailers(fields)))),
            Err(error) => Poll::Ready(ended(error)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}

/// A stream that is reset without an error is one that was answered before its request was over (RFC 9113, 8.1).
fn ended<T>(error: h2::Error) -> Option<Result<T, Status>> {
    (error.reason() != Some(Reason::NO_ERROR)).then(|| Err(broken(error)))
}
