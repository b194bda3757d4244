//! Client of an HTTP admin interface: Envoy's and the host's.

use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

use crate::load::Address;
use crate::outcome::{Outcome, failure};

/// Sends one request and returns the body of a 200 response.
pub async fn ask(address: &Address, method: Method, path: &str) -> Outcome<Bytes> {
    match address {
        Address::Tcp(address) => over(TcpStream::connect(address).await?, method, path).await,
        Address::Unix(file) => over(UnixStream::connect(file).await?, method, path).await,
        Address::Tls(..) => failure("admin interfaces have no TLS"),
    }
}

async fn over<S>(stream: S, method: Method, path: &str) -> Outcome<Bytes>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move { drop(connection.await) });
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .body(Full::<Bytes>::default())?;
    let answer = sender.send_request(request).await?;
    if answer.status() != 200 {
        return failure(format!("{path} answers {}", answer.status()));
    }
    Ok(answer.into_body().collect().await?.to_bytes())
}
