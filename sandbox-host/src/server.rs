//! Accepts connections and serves HTTP on them, within bounds of their own: connections, streams a connection, bytes of a
//! head, time for a first request. Draining stops accepting, lets requests end, and cuts what takes too long.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus_client::metrics::gauge::Gauge;
use tensorgate_policy::policy::Limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::metrics::{Metrics, Raised};
use crate::socket::Socket;

/// Time for a connection's first request, and for each HTTP/1.1 head; a peer next door needs none of it.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// After a failed accept (out of file descriptors, for one), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A stream's receive window, bytes: enough for a tensor of common size in one go.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// A frame that a peer may send, bytes: what it has ready of a stream in one, within the window, so that a long body is not read in pieces of 16 KiB.
const FRAME_BYTES: u32 = STREAM_WINDOW_BYTES;
/// A connection's receive window, bytes: what a peer can make us buffer unread, beside one frame that is not whole yet.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Streams that a peer may reset before we have looked at them; beyond, the connection is closed (CVE-2023-44487). The peer is
/// our own gate, whose connection carries every client's streams: all of them may go away at once, several times over.
const MAX_RESET_STREAMS: usize = 8_192;
/// Fields that the gate adds to a client's: the context, claims of its token, and what a proxy writes.
const OWN_FIELDS: usize = 32;
/// Bytes of those fields. The context repeats the path, hence twice the policy's header bytes, and this: claims, and these again in the context.
const OWN_FIELD_BYTES: usize = 24 << 10;
/// Connections that the data plane takes. A proxy's worker keeps its own to us, whatever clients have open, and some more
/// while it drains old ones. Memory is bounded by the byte budget, work by the queues of backends and handlers.
const HOP_CONNECTIONS: usize = 1_024;
/// Streams on each of those. Every client of a worker shares one, so a client's own bound says nothing here.
const HOP_STREAMS_PER_CONNECTION: u32 = 1_024;
/// The least buffer that hyper's HTTP/1.1 can work with.
const MIN_BUFFER_BYTES: usize = 8 << 10;

/// Bounds on a listener's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Open connections.
    pub connections: usize,
    /// Streams on one.
    pub streams: u32,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Fields of a request's head.
    pub head_fields: usize,
}

impl Bounds {
    /// For requests that a gate under these limits sends. Its connections are a proxy's, not a client's: the limits bound
    /// the heads alone.
    pub fn of(limits: &Limits) -> Self {
        Self {
            connections: HOP_CONNECTIONS,
            streams: HOP_STREAMS_PER_CONNECTION,
            head_bytes: limits
                .header_bytes
                .saturating_mul(2)
                .saturating_add(OWN_FIELD_BYTES),
            head_fields: limits.headers.saturating_add(OWN_FIELDS),
        }
    }

    /// What keeps within either.
    #[must_use]
    pub fn widest(self, other: Self) -> Self {
        Self {
            connections: self.connections.max(other.connections),
            streams: self.streams.max(other.streams),
            head_bytes: self.head_bytes.max(other.head_bytes),
            head_fields: self.head_fields.max(other.head_fields),
        }
    }
}

/// Where connections come from.
pub trait Listener: Send + Sync + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next connection; `None` for one that was turned away.
    fn accept(&self) -> impl Future<Output = io::Result<Option<Self::Stream>>> + Send;
}

/// The data plane: only our own user or root may connect, and the kernel says who does.
#[derive(Debug)]
pub struct Peers {
    socket: Socket,
    metrics: Arc<Metrics>,
}

impl Peers {
    /// Peers of a socket.
    pub const fn new(socket: Socket, metrics: Arc<Metrics>) -> Self {
        Self { socket, metrics }
    }
}

impl Listener for Peers {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<Option<UnixStream>> {
        let (stream, _) = self.socket.listener().accept().await?;
        let peer = stream.peer_cred();
        if peer
            .as_ref()
            .is_ok_and(|peer| self.socket.admits(peer.uid()))
        {
            return Ok(Some(stream));
        }
        self.metrics.peers_refused.inc();
        let peer = peer.map_or_else(
            |error| error.to_string(),
            |peer| format!("uid {} pid {:?}", peer.uid(), peer.pid()),
        );
        tracing::error!(peer, "a peer of another user was turned away");
        Ok(None)
    }
}

impl Listener for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<Option<Self::Stream>> {
        Self::accept(self).await.map(|(stream, _)| Some(stream))
    }
}

/// Serves until `shutdown` turns true, then drains for at most `drain`. `open` counts connections. When the bounds change, a new
/// connection keeps the new ones, and one that is open ends its requests and is closed: its peer opens another. True if every
/// connection ended by itself.
pub async fn run<L, H, F, B>(
    listener: L,
    bounds: watch::Receiver<Bounds>,
    open: Gauge,
    handler: H,
    mut shutdown: watch::Receiver<bool>,
    drain: Duration,
) -> bool
where
    L: Listener,
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // The number of connections is the listener's own: no policy changes it.
    let places = Arc::new(Semaphore::new(bounds.borrow().connections));
    let mut connections = JoinSet::new();
    loop {
        // A place first: connections beyond the bound wait in the kernel's backlog.
        let accepted = tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => break,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                listener.accept().await.map(|stream| stream.zip(place.ok()))
            } => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok(Some((stream, place))) => {
                let (bounds, handler, shutdown) =
                    (bounds.clone(), handler.clone(), shutdown.clone());
                let raised = Raised::new(&open);
                connections.spawn(async move {
                    connection(bounds, stream, handler, shutdown).await;
                    drop((place, raised));
                });
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(cause = error.to_string(), "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Nobody can connect any more; what is open may end.
    drop(listener);
    let ended = tokio::time::timeout(drain, async {
        while connections.join_next().await.is_some() {}
    })
    .await
    .is_ok();
    if !ended {
        tracing::warn!(
            connections = connections.len(),
            "connections cut at the end of the drain"
        );
    }
    connections.shutdown().await;
    ended
}

/// Serves one connection to its end.
async fn connection<S, H, F, B>(
    mut bounds: watch::Receiver<Bounds>,
    stream: S,
    handler: H,
    mut shutdown: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let spoke = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&spoke);
    let service = service_fn(move |request| {
        heard.store(true, Ordering::Relaxed);
        handler(request)
    });
    let builder = builder(*bounds.borrow_and_update());
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut silence = std::pin::pin!(tokio::time::sleep(HEAD_TIME));
    let (mut stopping, mut watched) = (false, false);
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    // A peer that leaves mid-request, or speaks no HTTP: each request has its own line.
                    tracing::debug!(cause = error.to_string(), "a connection ended in an error");
                }
                return;
            }
            _ = shutdown.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
            // Nobody changes an admin's bounds: the branch is off once there is nobody who could.
            Ok(()) = bounds.changed(), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
            () = silence.as_mut(), if !watched => {
                watched = true;
                if !spoke.load(Ordering::Relaxed) {
                    serving.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

fn builder(bounds: Bounds) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_headers(bounds.head_fields)
        .max_buf_size(bounds.head_bytes.max(MIN_BUFFER_BYTES));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(bounds.streams)
        .max_header_list_size(u32::try_from(bounds.head_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_frame_size(FRAME_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    builder
}
