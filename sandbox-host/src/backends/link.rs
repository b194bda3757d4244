//! Connections to one server, counted as they come and go. What was learnt of a server holds for the connection over which it
//! was learnt: behind the next one may stand another server, or the same one with other models.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::codegen::Service;

/// The port of a URI that names none.
const HTTP_PORT: u16 = 80;

/// Counts connections made and connections lost. Between two equal readings nothing of either happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<AtomicU64>);

impl Turns {
    /// How many there have been.
    pub(super) fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn turn(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// Opens connections, to a Unix socket or to where the URI says.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) unix: Option<PathBuf>,
    pub(super) turns: Turns,
}

impl Service<Uri> for Connector {
    type Response = Connection;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Connection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { unix, turns } = self.clone();
        Box::pin(async move {
            let stream: Box<dyn Stream> = match unix {
                Some(path) => Box::new(UnixStream::connect(path).await?),
                None => Box::new(tcp(&uri).await?),
            };
            turns.turn();
            Ok(Connection {
                io: TokioIo::new(stream),
                turns,
            })
        })
    }
}

async fn tcp(uri: &Uri) -> io::Result<TcpStream> {
    // A URI spells IPv6 in brackets, a resolver does not.
    let host = uri.host().unwrap_or_default();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(HTTP_PORT))).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What a connection runs on.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection. It is lost when this is dropped, which the HTTP client does as soon as it reads the end.
pub(super) struct Connection {
    io: TokioIo<Box<dyn Stream>>,
    turns: Turns,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.turns.turn();
    }
}

impl Read for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

impl Write for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, from)
    }
}
