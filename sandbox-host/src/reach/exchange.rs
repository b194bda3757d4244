//! One question over HTTPS to one address, and its answer's head. Nothing goes along but what is written here: no cookie, no credential, no header of
//! a client's, no proxy, and no connection is used twice.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, HOST, USER_AGENT};
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::backends::tls::Tls;

/// Header fields of an answer; servers send a dozen.
const MAX_HEADERS: usize = 64;
/// What is read ahead of an answer's head, bytes.
const MAX_BUFFER_BYTES: usize = 64 << 10;
/// Who asks.
const AGENT: &str = "tensorgate";

/// Where to ask, and for what.
pub(super) struct Question<'q> {
    /// Every address of the host, each judged.
    pub(super) addresses: &'q [IpAddr],
    pub(super) host: &'q str,
    pub(super) port: u16,
    pub(super) path: &'q str,
    /// Media types that are wanted.
    pub(super) accept: &'q str,
}

/// An answer whose body is still to be read. The connection ends with it.
pub(super) struct Exchange {
    pub(super) answer: Response<Incoming>,
    task: JoinHandle<()>,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Asks. The first address that takes a connection is asked, and no other.
pub(super) async fn ask(question: Question<'_>, tls: &Arc<Tls>) -> io::Result<Exchange> {
    let Question {
        addresses,
        host,
        port,
        path,
        accept,
    } = question;
    let stream = connect(addresses, port).await?;
    stream.set_nodelay(true)?;
    let reading = Arc::clone(tls);
    let config = tokio::task::spawn_blocking(move || reading.config())
        .await
        .map_err(io::Error::other)?;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let secured = TlsConnector::from(config).connect(name, stream).await?;
    let (mut sender, connection) = Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER_BYTES)
        .handshake(TokioIo::new(secured))
        .await
        .map_err(io::Error::other)?;
    let task = tokio::spawn(async move {
        // What broke is told to whoever reads the answer.
        let _ = connection.await;
    });
    let authority = if port == 443 {
        host.to_owned()
    } else {
        format!("{host}:{port}")
    };
    let request = Request::get(path)
        .header(HOST, authority)
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, accept)
        .header(ACCEPT_ENCODING, "identity")
        .body(Empty::<Bytes>::new());
    let sent = match request {
        Ok(request) => sender.send_request(request).await.map_err(io::Error::other),
        Err(error) => Err(io::Error::other(error)),
    };
    match sent {
        Ok(answer) => Ok(Exchange { answer, task }),
        Err(error) => {
            task.abort();
            Err(error)
        }
    }
}

async fn connect(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let mut failed = io::Error::other("the name has no address");
    for address in addresses {
        match TcpStream::connect(SocketAddr::new(*address, port)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
