//! Connections to one server. Each connection belongs to a channel, which ends with it. Probe
//! results are valid for one connection only: the next one may lead to another server, or to the
//! same one with other models.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::tls::Tls;

/// The connect timeout. Backends are near, and the request's deadline keeps running.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The address of a server, and the TLS settings for it.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    address: ServerAddress,
    tls: Option<Arc<Tls>>,
}

#[derive(Clone, Debug)]
enum ServerAddress {
    Unix(PathBuf),
    Tcp(String, u16),
}

impl Dialer {
    /// Creates a dialer for `unix:/path`, `http://host:port` or, only with TLS,
    /// `https://host:port`.
    pub(super) fn new(uri: &str, tls: Option<Arc<Tls>>) -> Option<Self> {
        if let Some(path) = uri.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let place = ServerAddress::Unix(path.into());
            return (path.starts_with('/') && tls.is_none()).then_some(Self {
                address: place,
                tls: None,
            });
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let parsed: Uri = uri.parse().ok()?;
        if parsed.scheme_str() != Some(scheme) {
            return None;
        }
        let host = parsed.host().filter(|host| !host.is_empty())?;
        // A URI has IPv6 addresses in brackets, a resolver does not.
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let place = ServerAddress::Tcp(host.to_owned(), parsed.port_u16()?);
        Some(Self {
            address: place,
            tls,
        })
    }

    /// Opens a connection, with its TLS handshake.
    pub(super) async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        tokio::time::timeout(CONNECT_TIMEOUT, self.connect())
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Whether no process listens at an address of this machine or pod. Elsewhere a refusal shows
    /// nothing: a firewall refuses, too, and so does a Kubernetes Service without a ready pod.
    pub(super) async fn is_refused_locally(&self) -> bool {
        let connect = async {
            match &self.address {
                ServerAddress::Unix(path) => UnixStream::connect(path).await.map(drop),
                ServerAddress::Tcp(host, port) => {
                    TcpStream::connect((host.as_str(), *port)).await.map(drop)
                }
            }
        };
        let is_unix = match &self.address {
            ServerAddress::Unix(_) => true,
            ServerAddress::Tcp(host, _) if is_loopback(host) => false,
            ServerAddress::Tcp(..) => return false,
        };
        let Ok(Err(error)) = tokio::time::timeout(CONNECT_TIMEOUT, connect).await else {
            return false;
        };
        match error.kind() {
            io::ErrorKind::ConnectionRefused => true,
            // The socket's file is gone.
            io::ErrorKind::NotFound => is_unix,
            _ => false,
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let (host, port) = match &self.address {
            ServerAddress::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            ServerAddress::Tcp(host, port) => (host.as_str(), *port),
        };
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let config = tls.config().await?;
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let http2 = config.alpn_protocols.iter().any(|name| name == b"h2");
        let secured = TlsConnector::from(config).connect(name, stream).await?;
        // gRPC needs HTTP/2 to be negotiated. Many HTTP/1.1 servers negotiate nothing.
        if http2 && secured.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other("the server does not speak HTTP/2 here"));
        }
        Ok(Box::new(secured))
    }
}

/// Whether a host is a loopback address, or the name that stands for one.
fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// The state of a channel's only connection.
#[derive(Debug, Default)]
pub(super) struct ConnectionState {
    opened: AtomicBool,
    lost: AtomicBool,
    /// Whether what the server sent first may be a frame of HTTP/2.
    frames: AtomicBool,
}

impl ConnectionState {
    /// Whether the connection was opened and is gone.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Whether the connection was opened, and the server has sent nothing or no HTTP/2.
    pub(super) fn is_without_http2(&self) -> bool {
        self.opened.load(Ordering::Acquire) && !self.frames.load(Ordering::Acquire)
    }

    /// Marks the connection as closed for further calls.
    pub(super) fn mark_lost(&self) {
        self.lost.store(true, Ordering::Release);
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// The channel had a connection before. A new one might reach a server that was not probed.
    #[error("the connection is lost")]
    Closed,
    /// The server cannot be reached.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Opens the only connection of a channel, and fails if asked for another.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) dialer: Dialer,
    pub(super) state: Arc<ConnectionState>,
}

impl Connector {
    /// Opens the connection.
    pub(super) async fn connect(&self) -> Result<Connection, DialError> {
        let connection_state = Arc::clone(&self.state);
        if connection_state.opened.load(Ordering::Acquire) {
            connection_state.mark_lost();
            return Err(DialError::Closed);
        }
        let stream = self.dialer.dial().await?;
        connection_state.opened.store(true, Ordering::Release);
        Ok(Connection {
            stream,
            has_read: false,
            state: connection_state,
        })
    }
}

/// A transport for a connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection. Dropping it marks it as closed. The task that serves it does so when it reads
/// the end.
pub(super) struct Connection {
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
