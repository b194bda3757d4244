//! One connection with one request at a time.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::{Address, Expect, Http, Shot};
use crate::outcome::{Outcome, failure};

/// Flow-control window, bytes. Large enough that no request waits for it.
const WINDOW_BYTES: u32 = 32 << 20;
/// Bytes shown of an unexpected response.
const SHOWN_BYTES: usize = 300;

/// An open connection.
pub enum Connection {
    /// HTTP/1.1.
    One(http1::SendRequest<Full<Bytes>>),
    /// HTTP/2.
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Connects.
    pub async fn open(address: &Address, http: Http) -> Outcome<Self> {
        match address {
            Address::Tcp(address) => Self::over(tcp(*address).await?, http).await,
            Address::Tls(address, trust) => {
                let connector = TlsConnector::from(Arc::clone(&trust.0));
                let name = ServerName::IpAddress(address.ip().into());
                let stream = connector.connect(name, tcp(*address).await?).await?;
                Self::over(stream, http).await
            }
            Address::Unix(path) => Self::over(UnixStream::connect(path).await?, http).await,
        }
    }

    async fn over<S>(stream: S, http: Http) -> Outcome<Self>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        match http {
            Http::One => {
                let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
                // The sender reports the end of the connection.
                tokio::spawn(async move { drop(connection.await) });
                Ok(Self::One(sender))
            }
            Http::Two => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .initial_stream_window_size(WINDOW_BYTES)
                    .initial_connection_window_size(WINDOW_BYTES)
                    .handshake(TokioIo::new(stream))
                    .await?;
                tokio::spawn(async move { drop(connection.await) });
                Ok(Self::Two(sender))
            }
        }
    }

    /// Whether the connection is closed.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::One(sender) => sender.is_closed(),
            Self::Two(sender) => sender.is_closed(),
        }
    }

    /// Sends one request and reads the whole response.
    pub async fn ask(&mut self, shot: &Shot, expect: Expect) -> Outcome<()> {
        let answer = self.send(shot).await?;
        let status = answer.status().as_u16();
        // A gRPC response without a message has its status in the headers.
        let early = grpc_status(answer.headers());
        let body = answer.into_body().collect().await?;
        let as_expected = match expect {
            Expect::Status(expected) => status == expected,
            Expect::Grpc => {
                let late = body.trailers().and_then(grpc_status);
                status == 200 && early.clone().or(late).as_deref() == Some("0")
            }
        };
        if as_expected {
            return Ok(());
        }
        let trailers = body.trailers().cloned();
        let bytes = body.to_bytes();
        let shown = bytes.get(..SHOWN_BYTES).unwrap_or(&bytes);
        failure(format!(
            "{} {}: status {status}, {early:?}, trailers {trailers:?}, {}",
            shot.method,
            shot.path,
            String::from_utf8_lossy(shown)
        ))
    }

    async fn send(&mut self, shot: &Shot) -> Outcome<Response<Incoming>> {
        let mut request = Request::new(Full::new(shot.body.clone()));
        *request.method_mut() = shot.method.clone();
        *request.headers_mut() = shot.headers.clone();
        Ok(match self {
            Self::One(sender) => {
                *request.uri_mut() = shot.path.parse::<Uri>()?;
                request
                    .headers_mut()
                    .insert(http::header::HOST, http::HeaderValue::from_static("bench"));
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Two(sender) => {
                *request.uri_mut() = format!("http://bench{}", shot.path).parse::<Uri>()?;
                sender.ready().await?;
                sender.send_request(request).await?
            }
        })
    }
}

async fn tcp(address: SocketAddr) -> Outcome<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn grpc_status(fields: &http::HeaderMap) -> Option<String> {
    Some(fields.get("grpc-status")?.to_str().ok()?.to_owned())
}
