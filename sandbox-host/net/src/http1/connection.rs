//! One connection, and the decision whether it is kept after an answer. All of this must be true:
//!
//! 1. The head is unambiguous, and the server does not close ([`super::framing`]).
//! 2. The body was read to the end that the head declares.
//! 3. The whole request was sent before the first byte of the answer.
//! 4. No informational head came: no request asks for one.
//! 5. No byte came while the connection was idle, and none behind the answer. hyper ends a
//!    connection with such a byte.
//! 6. Its age and the number of its requests are within bounds.
//! 7. It may carry more than one request ([`Reuse`]).
//!
//! Otherwise it is closed. So is one whose caller leaves early: this is the only way to tell such
//! servers that an answer is not needed any more.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tensorgate_base::client_key::ClientKey;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::rustls::ClientConfig;

use super::framing::AfterAnswer;
use super::progress::{Facts, Progress, RecordedStream, RequestBody};
use crate::http2::connection::Stream;

/// The most header fields of an answer. Servers send a dozen.
const MAX_HEADERS: usize = 64;
/// The most bytes of an answer's head.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// The read buffer in bytes, which must have room for the head.
const MAX_BUFFER_BYTES: usize = 64 << 10;
/// The longest idle time. gunicorn closes after 2 s, uvicorn (vLLM, Ray Serve, BentoML) after 5 s
/// by default. A request that meets such a close fails or is repeated.
const MAX_IDLE: Duration = Duration::from_millis(1_500);
/// The longest life. Behind a Kubernetes Service each connection stays with one pod, so new pods
/// would get nothing.
const MAX_AGE: Duration = Duration::from_secs(30);
/// The most requests over one connection.
const MAX_REQUESTS: u32 = 1_000;

const _: () = assert!(MAX_HEAD_BYTES <= MAX_BUFFER_BYTES);

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCause {
    /// The server closed it, or said that it would.
    Server,
    /// Nothing was sent for `MAX_IDLE`, or as long as the server allows.
    Idle,
    /// Its age or its number of requests.
    Age,
    /// There are enough idle ones, or the endpoint failed.
    Surplus,
    /// The TLS identity has changed.
    Identity,
    /// The body was not read to its end.
    Unread,
    /// The answer's end is not certain, or two readers may disagree about it.
    Ambiguous,
    /// An answer or a part of it that no request asked for: bytes while idle, an early answer or
    /// an informational head.
    Unsolicited,
}

/// What happened to a connection, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// It was opened.
    Opened,
    /// It carries another request.
    Reused,
    /// It was closed.
    Closed(CloseCause),
}

/// Which requests a connection carries. HTTP/1.1 does not say which request an answer belongs to.
/// So a server that answers a request twice may be believed the second time, by the sender
/// of the next request over the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Requests of all clients.
    Shared,
    /// Requests of this client.
    OfClient(ClientKey),
    /// One request. The connection of a probe shows that the server accepts connections.
    Never,
}

/// Counts what happens to connections.
pub trait Observe: fmt::Debug + Send + Sync {
    /// Called once for each event.
    fn observe(&self, event: ConnectionEvent);
}

/// A connection. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<RequestBody>,
    task: JoinHandle<()>,
    pub(super) progress: Arc<Progress>,
    /// The TLS settings it was opened with. They are kept, so that their address stays theirs.
    identity: Option<Arc<ClientConfig>>,
    /// The requests that it was opened for.
    pub(super) reuse: Reuse,
    opened: Instant,
    /// When it must not be used any more, if it is idle.
    pub(super) usable_until: Instant,
    requests: u32,
    observer: Arc<dyn Observe>,
    /// Why it will have been closed. A caller that leaves drops it without another word.
    close_cause: CloseCause,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
        self.observer
            .observe(ConnectionEvent::Closed(self.close_cause));
    }
}

impl Connection {
    pub(super) async fn over(
        stream: Box<dyn Stream>,
        identity: Option<Arc<ClientConfig>>,
        reuse: Reuse,
        observer: Arc<dyn Observe>,
    ) -> io::Result<Self> {
        let progress = Arc::new(Progress::default());
        let stream = RecordedStream::new(stream, Arc::clone(&progress));
        let (sender, connection) = Builder::new()
            .max_headers(MAX_HEADERS)
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(MAX_BUFFER_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let task = tokio::spawn(async move {
            // The pending answer reports a failure.
            let _ = connection.await;
        });
        let now = Instant::now();
        observer.observe(ConnectionEvent::Opened);
        Ok(Self {
            sender,
            task,
            progress,
            identity,
            reuse,
            opened: now,
            usable_until: now,
            requests: 0,
            observer,
            close_cause: CloseCause::Unread,
        })
    }

    /// Closes it.
    pub(super) fn close(mut self, cause: CloseCause) {
        self.close_cause = cause;
    }

    /// Whether it was used before.
    pub(super) const fn is_reused(&self) -> bool {
        self.requests > 0
    }

    /// Whether an idle one may be used now with this identity.
    pub(super) fn check_idle(
        &self,
        identity: Option<&Arc<ClientConfig>>,
    ) -> Result<(), CloseCause> {
        let is_same = match (&self.identity, identity) {
            (None, None) => true,
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            _ => false,
        };
        if !is_same {
            return Err(CloseCause::Identity);
        }
        if self.progress.facts().is_unsolicited {
            return Err(CloseCause::Unsolicited);
        }
        if self.sender.is_closed() {
            return Err(CloseCause::Server);
        }
        if Instant::now() >= self.usable_until {
            return Err(CloseCause::Idle);
        }
        Ok(())
    }

    /// Why it failed, as far as its transport shows it.
    pub(super) fn failure(&self) -> CloseCause {
        let facts = self.progress.facts();
        if facts.is_unsolicited || facts.is_early {
            CloseCause::Unsolicited
        } else {
            CloseCause::Server
        }
    }

    /// Whether it is kept after an exchange with these facts. Sets how long.
    pub(super) fn keep(&mut self, after: AfterAnswer) -> Result<(), CloseCause> {
        let idle = match after {
            AfterAnswer::Keep(timeout) => timeout.map_or(MAX_IDLE, |timeout| timeout.min(MAX_IDLE)),
            AfterAnswer::ServerCloses => return Err(CloseCause::Server),
            AfterAnswer::UncertainEnd => return Err(CloseCause::Ambiguous),
            AfterAnswer::SingleUse => return Err(CloseCause::Age),
        };
        let facts = self.progress.facts();
        check_facts(facts)?;
        self.requests = self.requests.saturating_add(1);
        let now = Instant::now();
        let end = self.opened.checked_add(MAX_AGE).unwrap_or(now);
        if self.requests >= MAX_REQUESTS || now >= end {
            return Err(CloseCause::Age);
        }
        // A slow reader takes the end of an answer long after the server has written it.
        let arrived = facts.arrived.unwrap_or(now);
        self.usable_until = arrived.checked_add(idle).unwrap_or(now).min(end);
        if now >= self.usable_until {
            return Err(CloseCause::Idle);
        }
        self.progress.end();
        Ok(())
    }
}

/// What passed over the transport, as the rules for reuse see it.
const fn check_facts(facts: Facts) -> Result<(), CloseCause> {
    if !facts.is_answer_read {
        return Err(CloseCause::Unread);
    }
    let is_solicited = !facts.is_unsolicited && !facts.is_early && facts.informational == 0;
    // An answer that is complete before the request is sent is early, even if no read saw it.
    if is_solicited && facts.is_sent {
        Ok(())
    } else {
        Err(CloseCause::Unsolicited)
    }
}
