//! Connections to one server, each of a line that ends with it. What was learnt of a server holds for the connection over which it
//! was learnt: behind the next one may stand another server, or the same one with other models.

use std::io;
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

/// Time to connect: a backend is near, and a request's deadline runs meanwhile.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a server is, and how its connections are secured.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    place: Place,
    tls: Option<Arc<Tls>>,
}

#[derive(Clone, Debug)]
enum Place {
    Unix(PathBuf),
    Tcp(String, u16),
}

impl Dialer {
    /// To `unix:/path`, `http://host:port` or, with TLS and only then, `https://host:port`.
    pub(super) fn new(uri: &str, tls: Option<Arc<Tls>>) -> Option<Self> {
        if let Some(path) = uri.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let place = Place::Unix(path.into());
            return (path.starts_with('/') && tls.is_none()).then_some(Self { place, tls: None });
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let parsed: Uri = uri.parse().ok()?;
        if parsed.scheme_str() != Some(scheme) {
            return None;
        }
        let host = parsed.host().filter(|host| !host.is_empty())?;
        // A URI spells IPv6 in brackets, a resolver does not.
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let place = Place::Tcp(host.to_owned(), parsed.port_u16()?);
        Some(Self { place, tls })
    }

    /// A new connection, its handshake done.
    pub(super) async fn dial(&self) -> io::Result<Box<dyn Stream>> {
        tokio::time::timeout(CONNECT_TIMEOUT, self.connect())
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let (host, port) = match &self.place {
            Place::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Place::Tcp(host, port) => (host.as_str(), *port),
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
        // gRPC over TLS is agreed on; many a server of HTTP/1.1 says nothing.
        if http2 && secured.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other("the server does not speak HTTP/2 here"));
        }
        Ok(Box::new(secured))
    }
}

/// What became of a line's one connection.
#[derive(Debug, Default)]
pub(super) struct Fate {
    made: AtomicBool,
    lost: AtomicBool,
}

impl Fate {
    /// Whether there was one, and there is none any more.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// It takes no more calls, or is gone.
    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }
}

/// No connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// There was one already. What would be sent over another would reach a server that nobody has looked at.
    #[error("the connection is lost")]
    Spent,
    /// The server cannot be reached.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Opens the one connection of a line: asked for another, it refuses.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) dialer: Dialer,
    pub(super) fate: Arc<Fate>,
}

impl Connector {
    /// The connection.
    pub(super) async fn connect(&self) -> Result<Connection, DialError> {
        let fate = Arc::clone(&self.fate);
        if fate.made.load(Ordering::Acquire) {
            fate.lose();
            return Err(DialError::Spent);
        }
        let stream = self.dialer.dial().await?;
        fate.made.store(true, Ordering::Release);
        Ok(Connection { stream, fate })
    }
}

/// What a connection runs on.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection. It is lost when this is dropped, which whoever serves it does as soon as it reads the end.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    fate: Arc<Fate>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.fate.lose();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
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
