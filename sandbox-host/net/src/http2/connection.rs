//! Connections to one server. Each connection belongs to a channel, which ends with it. Probe
//! results are valid for one connection only: the next one may lead to another server, or to the
//! same one with other models.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The connect timeout. Backends are near, and the request's deadline keeps running.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The state of a channel's only connection.
#[derive(Debug, Default)]
pub struct ConnectionState {
    opened: AtomicBool,
    lost: AtomicBool,
    /// Whether what the server sent first may be a frame of HTTP/2.
    frames: AtomicBool,
}

impl ConnectionState {
    /// Whether the connection was opened and is gone.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Whether the connection was opened, and the server has sent nothing or no HTTP/2.
    pub fn is_without_http2(&self) -> bool {
        self.opened.load(Ordering::Acquire) && !self.frames.load(Ordering::Acquire)
    }

    /// Marks the connection as closed for further calls.
    pub(crate) fn mark_lost(&self) {
        self.lost.store(true, Ordering::Release);
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The channel had a connection before. A new one might reach a server that was not probed.
    #[error("the connection is lost")]
    Closed,
    /// The server cannot be reached.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Opens the only connection of a channel, and fails if asked for another.
#[derive(Clone, Debug)]
pub struct Connector {
    /// Dials the server.
    pub dialer: Arc<dyn Dial>,
    /// The state of its connection.
    pub state: Arc<ConnectionState>,
}

impl Connector {
    /// Opens the connection.
    pub async fn connect(&self) -> Result<Connection, DialError> {
        let connection_state = Arc::clone(&self.state);
        if connection_state.opened.load(Ordering::Acquire) {
            connection_state.mark_lost();
            return Err(DialError::Closed);
        }
        let stream = self.dialer.open().await?;
        connection_state.opened.store(true, Ordering::Release);
        Ok(Connection {
            stream,
            has_read: false,
            state: connection_state,
        })
    }
}

/// A connection that is being opened.
pub type Dialing<'d> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'd>>;

/// Dials one server.
pub trait Dial: fmt::Debug + Send + Sync {
    /// Opens a connection, within [`CONNECT_TIMEOUT`].
    fn open(&self) -> Dialing<'_>;
}

/// The path of a server at `unix:/path` or `unix:///path`. `None` for other addresses.
pub(crate) fn unix_path(uri: &str) -> Option<&str> {
    let path = uri.strip_prefix("unix:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    path.starts_with('/').then_some(path)
}

/// Awaits a connection for at most [`CONNECT_TIMEOUT`].
pub(crate) async fn in_time<T>(connect: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(CONNECT_TIMEOUT, connect)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// A transport for a connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection. Dropping it marks it as closed. The task that serves it does so when it reads
/// the end.
pub struct Connection {
    stream: Box<dyn Stream>,
    /// Whether the server has sent anything.
    has_read: bool,
    state: Arc<ConnectionState>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.state.mark_lost();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        if !self.has_read
            && let Some(first) = into.filled().get(before)
        {
            self.has_read = true;
            // A frame starts with the upper byte of its length. That of the first one, SETTINGS,
            // is zero (RFC 9113, 3.4 and 4.2).
            self.state.frames.store(*first == 0, Ordering::Release);
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
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
        Pin::new(&mut self.stream).poll_write_vectored(context, from)
    }
}
