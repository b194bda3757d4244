//! Accepts connections and serves HTTP on them, with limits on connections, streams for each
//! connection, head size, and time until the first request. Draining stops accepting, lets requests
//! finish, and cuts off those that take too long.

mod handshakes;
pub mod listeners;
pub mod peer;
pub mod reader_credential;
mod refusal;
pub mod slot_listener;
pub mod slots;
pub mod socket;
pub mod tls;
mod tls_listener;
mod write_timeout;

use std::convert::Infallible;
use std::future::{Ready, ready};
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
use tensorgate_settings::bounds::Bounds;
use tensorgate_telemetry::metrics::{GaugeGuard, Metrics};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::server::peer::{Connection, GatewayPeer};
use crate::server::slots::Slot;
use crate::server::socket::Socket;

/// The pause after a failed accept, for example without free file descriptors, so that the loop
/// does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The receive window of a stream in bytes: enough for a common tensor at once.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// The largest frame in bytes. A long body then arrives in frames of this size instead of 16 KiB.
const FRAME_BYTES: u32 = STREAM_WINDOW_BYTES;
/// The most streams that a peer may reset before they are processed. Beyond it the connection is
/// closed (CVE-2023-44487). The peer is the gate, and its connection carries the streams of all
/// clients. All of them may leave at once, several times.
const MAX_RESET_STREAMS: usize = 8_192;
/// The time that a peer's TLS handshake has to end once the host stops. The peer may have ended its
/// part, and sent a request with it, before the host could read it. A round trip is enough.
const HANDSHAKE_DRAIN: Duration = Duration::from_secs(1);
/// The interval of checks whether the peer of an open connection is still allowed.
const PEER_CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// How long a connection may last whose peer is no longer allowed. A peer that never acknowledges
/// the end of its connection may begin requests until then, and an access log is one endless
/// request.
const END_TIME: Duration = Duration::from_secs(300);
/// After so long without data, a peer over a network is asked whether it is still there. hyper
/// waits 20 s for its answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How much is read from a connection at once. h2 asks for 8 KiB and then for the rest of one
/// frame, and a gateway passes on the 16 KiB frames of gRPC clients as they are: 602 KB take up to
/// 74 reads.
const READ_AHEAD_BYTES: usize = 64 << 10;
/// The smallest buffer that hyper accepts for HTTP/1.1.
const MIN_BUFFER_BYTES: usize = 8 << 10;

/// A source of connections.
pub trait Listener: Send + Sync + 'static {
    /// The bytes of a connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// Checks the peer of an accepted connection, while others are accepted. `None` if it was
    /// rejected.
    type Handshake: Future<Output = Option<Connection<Self::Stream>>> + Send + 'static;
    /// The next connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Handshake>> + Send;
}

/// A listener on a Unix socket. Only the host's own user, root and the listed users may connect, as
/// the kernel reports it.
#[derive(Debug)]
pub struct CheckedPeers {
    socket: Socket,
    metrics: Arc<Metrics>,
}

impl CheckedPeers {
    /// Creates a listener for a socket.
    pub const fn new(socket: Socket, metrics: Arc<Metrics>) -> Self {
        Self { socket, metrics }
    }
}

impl Listener for CheckedPeers {
    type Stream = UnixStream;
    type Handshake = Ready<Option<Connection<UnixStream>>>;

    async fn accept(&self) -> io::Result<Self::Handshake> {
        let (stream, _) = self.socket.listener().accept().await?;
        let peer = stream.peer_cred();
        let allowed = peer.as_ref().ok().map(tokio::net::unix::UCred::uid);
        if let Some(uid) = allowed.filter(|uid| self.socket.admits(*uid)) {
            let peer = GatewayPeer::local(uid);
            return Ok(ready(Some(Connection::local(stream, Some(peer)))));
        }
        self.metrics.peers_refused.inc();
        let peer = peer.map_or_else(
            |error| error.to_string(),
            |peer| format!("uid {} pid {:?}", peer.uid(), peer.pid()),
        );
        tracing::error!(peer, "connection of another user rejected");
        Ok(ready(None))
    }
}

/// Serves until `shutdown` turns true, then drains for at most `drain`. `open` counts connections.
/// When the limits change, new connections use the new ones. An open connection finishes its
/// requests and closes, and its peer opens another. Returns whether every connection ended by
/// itself.
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
    // The number of connections belongs to the listener. No policy changes it.
    let places = Arc::new(Semaphore::new(bounds.borrow().connections));
    let mut connections = JoinSet::new();
    loop {
        // Acquired first, so that excess connections wait in the kernel's backlog.
        let accepted = tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => break,
            accepted = async {
                let permit = Arc::clone(&places).acquire_owned().await;
                listener.accept().await.map(|handshake| (handshake, permit))
            } => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((handshake, permit)) => {
                let (bounds, handler, open) = (bounds.clone(), handler.clone(), open.clone());
                let mut shutdown = shutdown.clone();
                connections.spawn(async move {
                    let accepted = tokio::select! {
                        biased;
                        accepted = handshake => accepted,
                        () = handshakes_drained(&mut shutdown) => None,
                    };
                    if let Some(accepted) = accepted {
                        let raised = GaugeGuard::new(&open);
                        connection(bounds, accepted, handler, shutdown).await;
                        drop(raised);
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(cause = error.to_string(), "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // No more connections are accepted. Open ones may finish.
    drop(listener);
    let ended = tokio::time::timeout(drain, async {
        while connections.join_next().await.is_some() {}
    })
    .await
    .is_ok();
    if !ended {
        tracing::warn!(
            connections = connections.len(),
            "connections closed at the end of the drain"
        );
    }
    connections.shutdown().await;
    ended
}

/// Waits until the host has been stopping for [`HANDSHAKE_DRAIN`].
async fn handshakes_drained(shutdown: &mut watch::Receiver<bool>) {
    // The sender is dropped with the host only, which then stops, too.
    let _ = shutdown.wait_for(|stop| *stop).await;
    tokio::time::sleep(HANDSHAKE_DRAIN).await;
}

/// Serves one connection to its end.
async fn connection<S, H, F, B>(
    mut bounds: watch::Receiver<Bounds>,
    accepted: Connection<S>,
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
    let Connection {
        stream,
        peer,
        still_allowed,
        over_network,
        mut slot,
    } = accepted;
    let spoke = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&spoke);
    let gateway = peer.clone();
    let permit = slot.as_ref().map(Slot::permit);
    let service = service_fn(move |mut request: Request<Incoming>| {
        heard.store(true, Ordering::Relaxed);
        if let Some(permit) = &permit {
            permit.touch();
        }
        if let Some(gateway) = &gateway {
            request.extensions_mut().insert(gateway.clone());
        }
        handler(request)
    });
    let limits = *bounds.borrow_and_update();
    let builder = builder(limits, over_network, slot.is_some());
    let stream = BufReader::with_capacity(READ_AHEAD_BYTES, stream);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut silence = std::pin::pin!(tokio::time::sleep(limits.head_time));
    let mut checks = tokio::time::interval(PEER_CHECK_INTERVAL);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut stopping, mut watched) = (false, false);
    // Set once the peer is no longer allowed.
    let mut rejected: Option<Instant> = None;
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    // A peer that disconnects mid-request or does not speak HTTP. Each request has
                    // a log line of its own.
                    tracing::debug!(cause = error.to_string(), "a connection ended in an error");
                }
                return;
            }
            _ = shutdown.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
            // A newer connection needs the slot.
            () = lost(&mut slot) => return,
            // The limits of an admin server never change. The branch is disabled once the sender is
            // gone.
            Ok(()) = bounds.changed(), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
            // Also while the connection ends for another reason: its requests may last.
            _ = checks.tick(), if still_allowed.is_some() => {
                let gateway = peer.as_ref().map(|peer| &*peer.name);
                if let Some(since) = rejected {
                    if since.elapsed() >= END_TIME {
                        tracing::warn!(
                            gateway,
                            "connection cut off: its requests lasted too long after the end of the certificate"
                        );
                        return;
                    }
                } else if still_allowed.as_ref().is_some_and(|allowed| !allowed()) {
                    rejected = Some(Instant::now());
                    if !stopping {
                        stopping = true;
                        serving.as_mut().graceful_shutdown();
                    }
                    tracing::warn!(
                        gateway,
                        "connection closed after its requests: the certificate is no longer valid"
                    );
                }
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

/// Waits until a connection has lost its slot, if it has one.
async fn lost(slot: &mut Option<Slot>) {
    match slot {
        Some(slot) => slot.lost().await,
        None => std::future::pending().await,
    }
}

/// The receive window of a connection in bytes: the windows of all its streams.
///
/// Streams of many clients share a connection. With a smaller window, a few streams that wait to be
/// read would stop all others. h2 derives from it how many small unread frames it accepts before it
/// closes the connection, so a client that sends single bytes would end the requests of others.
fn connection_window_bytes(streams: u32) -> u32 {
    const MAX_BYTES: u32 = u32::MAX >> 1;
    streams.saturating_mul(STREAM_WINDOW_BYTES).min(MAX_BYTES)
}

fn builder(bounds: Bounds, over_network: bool, has_slot: bool) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_time)
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
        .initial_connection_window_size(connection_window_bytes(bounds.streams));
    if has_slot {
        // Such a peer shows no credential. It gets one response at a time, because streams whose
        // windows it never opens would keep their responses in memory.
        return builder.http1_only();
    }
    if !over_network {
        return builder;
    }
    builder.http2().keep_alive_interval(PING_INTERVAL);
    builder.http2_only()
}

#[cfg(test)]
mod tests;
