//! Accepts connections on one thread: HTTP/1.1 or HTTP/2, detected from the client's first bytes,
//! on a Unix socket and optionally a TCP port.

use std::net::SocketAddr;
use std::path::Path;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use super::Body;
use crate::outcome::Outcome;

/// Flow-control window, bytes. Large enough that no request waits for it.
const WINDOW_BYTES: u32 = 32 << 20;
/// Size of HTTP/2 frames, bytes: large, so that large bodies need few of them.
const FRAME_BYTES: u32 = 1 << 20;
/// Streams of one connection: a proxy multiplexes all its requests on one.
const STREAMS: u32 = 4096;

/// Serves for ever.
pub(super) async fn serve<F>(
    unix: &Path,
    tcp: Option<SocketAddr>,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
) -> Outcome<()>
where
    F: Future<Output = Outcome<Response<Body>>> + Send + 'static,
{
    let by_path = UnixListener::bind(unix)?;
    let by_port = match tcp {
        Some(address) => {
            let listener = TcpListener::bind(address).await?;
            println!("listening on {}", listener.local_addr()?);
            Some(listener)
        }
        None => None,
    };
    loop {
        tokio::select! {
            accepted = by_path.accept() => connection(accepted?.0, answer.clone()),
            accepted = accept(by_port.as_ref()) => {
                let stream = accepted?;
                stream.set_nodelay(true)?;
                connection(stream, answer.clone());
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<tokio::net::TcpStream> {
    match listener {
        Some(listener) => Ok(listener.accept().await?.0),
        None => std::future::pending().await,
    }
}

fn connection<S, F>(stream: S, answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Future<Output = Outcome<Response<Body>>> + Send + 'static,
{
    tokio::spawn(async move {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http2()
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .max_concurrent_streams(STREAMS);
        // A peer that disconnects early is not an error of the bench.
        let service = service_fn(answer);
        drop(
            builder
                .serve_connection(TokioIo::new(stream), service)
                .await,
        );
    });
}
