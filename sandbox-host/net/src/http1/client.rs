//! Sends requests to one endpoint, over a kept connection if there is one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, response};
use tokio::time::{Instant, timeout};

use super::connection::{CloseCause, Connection, ConnectionEvent, Observe, Reuse};
use super::framing::{self, AfterAnswer, AmbiguousHead};
use super::idle::IdleConnections;
use super::lease::{AnswerBody, Lease};
use super::progress::RequestBody;
use crate::dialer::Dialer;
use crate::http2::connection::Stream;

/// How long a kept connection may take to become ready. Its task has only to be run once.
const READY_TIMEOUT: Duration = Duration::from_millis(20);
/// A kept connection that ends within this time after a request was probably closed as idle: the
/// close and the request have crossed. It is longer than a round trip.
const MAX_CLOSE_TIME: Duration = Duration::from_secs(1);

/// Why there is no answer. It decides what may follow.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nothing was written. The request may be sent elsewhere.
    #[error("no connection: {0}")]
    Unsent(io::Error),
    /// The server closed a kept connection without a byte of an answer, as one does whose idle time
    /// is over. It may have processed the request: a repeat needs the retry budget.
    #[error("a kept connection was closed without an answer: {0}")]
    ClosedKept(hyper::Error),
    /// The same on a new connection.
    #[error("no answer: {0}")]
    Closed(hyper::Error),
    /// A part of an answer was read. Never repeated.
    #[error("a broken answer: {0}")]
    Broken(hyper::Error),
    /// Two readers may disagree about the answer. Never repeated.
    #[error("an ambiguous answer: {0}")]
    Ambiguous(#[from] AmbiguousHead),
    /// The answer came before the request was sent, over a connection that was used before. It may
    /// be another request's. Never repeated.
    #[error("a successful answer before the whole request was sent, over a kept connection")]
    Early,
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub struct Answer {
    /// The head.
    pub head: response::Parts,
    /// The body.
    pub body: AnswerBody,
    /// The connection. Keep it until the body was read.
    pub lease: Lease,
}

/// Sends one request over a stream. The connection is closed once the answer is dropped. The head
/// is as for [`Http1Client::send`]. The caller must set a timeout.
///
/// # Errors
/// Returns an error if there is no answer, or none that can be used.
pub async fn send_once(
    stream: Box<dyn Stream>,
    head: &Request<()>,
    body: Bytes,
) -> Result<Answer, SendError> {
    // Gone when this returns, so the connection has no place to be kept in.
    let idle = IdleConnections::new(Arc::new(Unobserved));
    let connection = Connection::over(stream, None, Reuse::Never, idle.observer()).await;
    let connection = connection.map_err(SendError::Unsent)?;
    exchange(&idle, connection, head, body).await
}

/// Nothing counts a connection that is used once.
#[derive(Debug)]
struct Unobserved;

impl Observe for Unobserved {
    fn observe(&self, _: ConnectionEvent) {}
}

/// A client for one endpoint.
#[derive(Debug)]
pub struct Http1Client {
    dialer: Dialer,
    idle: Arc<IdleConnections>,
}

impl Http1Client {
    /// Creates a client without a connection.
    pub fn new(dialer: Dialer, observer: Arc<dyn Observe>) -> Self {
        Self {
            dialer,
            idle: IdleConnections::new(observer),
        }
    }

    /// Sends a request and reads the head of its answer. `head` must have `Host`, and neither
    /// `Connection` nor `Expect`. Dropping the future closes the connection. The caller must set a
    /// timeout.
    ///
    /// # Errors
    /// Returns an error if there is no answer, or none that can be used.
    pub async fn send(
        &self,
        head: &Request<()>,
        body: Bytes,
        reuse: Reuse,
    ) -> Result<Answer, SendError> {
        let identity = self.dialer.identity().await.map_err(SendError::Unsent)?;
        if reuse != Reuse::Never
            && let Some(mut connection) = self.idle.take(identity.as_ref(), reuse)
        {
            // A connection with a surplus byte or an end is never ready again.
            let ready = timeout(READY_TIMEOUT, connection.sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                self.idle.observer().observe(ConnectionEvent::Reused);
                match exchange(&self.idle, connection, head, body.clone()).await {
                    // Closed meanwhile. A new one follows, once.
                    Err(SendError::Unsent(_)) => {}
                    answer => return answer,
                }
            } else {
                let cause = connection.failure();
                connection.close(cause);
            }
        }
        let stream = self.dialer.dial_as(identity.clone()).await;
        let stream = stream.map_err(SendError::Unsent)?;
        let connection = Connection::over(stream, identity, reuse, self.idle.observer()).await;
        let connection = connection.map_err(SendError::Unsent)?;
        exchange(&self.idle, connection, head, body).await
    }

    /// Opens a connection and closes it.
    ///
    /// # Errors
    /// Returns an error if the server accepts none.
    pub async fn connect(&self) -> io::Result<()> {
        self.dialer.dial().await.map(drop)
    }

    /// Closes the idle connections: the endpoint has failed.
    pub fn close_idle(&self) {
        self.idle.clear();
    }
}

/// Sends a request over a connection and reads the head of its answer.
async fn exchange(
    idle: &Arc<IdleConnections>,
    mut connection: Connection,
    head: &Request<()>,
    body: Bytes,
) -> Result<Answer, SendError> {
    let progress = Arc::clone(&connection.progress);
    let is_reused = connection.is_reused();
    progress.start(body.is_empty());
    let mut request = head
        .clone()
        .map(|()| RequestBody::new(body, Arc::clone(&progress)));
    if connection.reuse == Reuse::Never {
        let close = http::HeaderValue::from_static("close");
        request
            .headers_mut()
            .insert(http::header::CONNECTION, close);
    }
    let counted = Arc::clone(&progress);
    hyper::ext::on_informational(&mut request, move |_| counted.count_informational());
    let began = Instant::now();
    let answer = connection.sender.try_send_request(request).await;
    let facts = progress.facts();
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let cause = connection.failure();
            connection.close(cause);
            // A server that was about to close an idle connection does so at once. Later, it has
            // failed at the request.
            let was_idle = is_reused && began.elapsed() < MAX_CLOSE_TIME;
            // hyper gives a request back that it never started.
            let error = error.into_error();
            return Err(match (facts.has_written, facts.has_read) {
                (false, _) => SendError::Unsent(io::Error::other(error)),
                (true, true) => SendError::Broken(error),
                (true, false) if was_idle => SendError::ClosedKept(error),
                (true, false) => SendError::Closed(error),
            });
        }
    };
    progress.set_arrived();
    let (head, body) = answer.into_parts();
    let after = match framing::judge(head.version, head.status, &head.headers) {
        Ok(after) => after,
        Err(error) => {
            connection.close(CloseCause::Ambiguous);
            return Err(error.into());
        }
    };
    let after = match connection.reuse {
        Reuse::Shared | Reuse::OfClient(_) => after,
        Reuse::Never => AfterAnswer::SingleUse,
    };
    if is_reused && facts.is_early && head.status.is_success() {
        connection.close(CloseCause::Unsolicited);
        return Err(SendError::Early);
    }
    Ok(Answer {
        head,
        body: AnswerBody::new(body, progress),
        lease: Lease::new(connection, after, Arc::downgrade(idle)),
    })
}
