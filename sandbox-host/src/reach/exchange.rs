//! One question over HTTP to one address, and its answer. Nothing goes along but what is written here and by whoever asks: no cookie, no header of a
//! client's, no proxy, and no connection is used twice.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ACCEPT_ENCODING, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::resolve::{MAX_ADDRESSES, Resolve};
use crate::backends::tls::Tls;
use crate::sandbox::{Missing, Reached};

/// Header fields of an answer; servers send a dozen.
const MAX_HEADERS: usize = 64;
/// What is read ahead of an answer's head, bytes.
const MAX_BUFFER_BYTES: usize = 64 << 10;
/// Who asks.
const AGENT: &str = "tensorgate";

/// Why nothing came: what the guest is told, and what the log is.
pub(super) struct Refusal {
    pub(super) missing: Missing,
    pub(super) cause: String,
}

impl Refusal {
    pub(super) fn new(missing: Missing, cause: impl ToString) -> Self {
        Self {
            missing,
            cause: cause.to_string(),
        }
    }
}

/// The addresses of a name, all of which may be connected to. One that may not speaks against the name: it may answer with that one the next time.
pub(super) async fn addresses(
    resolver: &dyn Resolve,
    (host, client): (&str, &Arc<str>),
    admits: impl Fn(IpAddr) -> Result<(), &'static str>,
) -> Result<Vec<IpAddr>, Refusal> {
    let found = resolver.resolve(host, client).await;
    let mut found = found.map_err(|error| Refusal::new(Missing::Unavailable, error))?;
    for address in &found {
        admits(*address).map_err(|what| {
            Refusal::new(Missing::Refused, format!("its address {address} is {what}"))
        })?;
    }
    found.truncate(MAX_ADDRESSES);
    Ok(found)
}

/// Where to ask.
pub(super) struct Place<'q> {
    /// Every address of the host, each judged.
    pub(super) addresses: &'q [IpAddr],
    pub(super) host: &'q str,
    pub(super) port: u16,
    pub(super) tls: Option<&'q Arc<Tls>>,
}

/// What to ask.
pub(super) struct Question<'q> {
    pub(super) place: Place<'q>,
    pub(super) method: Method,
    pub(super) path: &'q str,
    /// Media types that are wanted.
    pub(super) accept: &'q str,
    /// What goes along beside.
    pub(super) fields: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
}

/// An answer whose body is still to be read. The connection ends with it.
pub(super) struct Exchange {
    pub(super) answer: Response<Incoming>,
    _connection: Connection,
}

/// What reads and writes for an exchange.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks. The first address that takes a connection is asked, and no other.
pub(super) async fn ask(question: Question<'_>) -> io::Result<Exchange> {
    let Question {
        place,
        method,
        path,
        accept,
        fields,
        body,
    } = question;
    let usual = if place.tls.is_some() { 443 } else { 80 };
    let authority = if place.port == usual {
        place.host.to_owned()
    } else {
        format!("{}:{}", place.host, place.port)
    };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, authority)
        .header(USER_AGENT, AGENT)
        .header(ACCEPT, accept)
        .header(ACCEPT_ENCODING, "identity");
    for (name, value) in fields {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(body)).map_err(io::Error::other)?;
    let (mut sender, connection) = connected(&place).await?;
    let answer = sender.send_request(request).await;
    Ok(Exchange {
        answer: answer.map_err(io::Error::other)?,
        _connection: connection,
    })
}

async fn connected(place: &Place<'_>) -> io::Result<(SendRequest<Full<Bytes>>, Connection)> {
    let stream = connect(place.addresses, place.port).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = place.tls else {
        return speaking(stream).await;
    };
    let config = tls.config().await?;
    let name = ServerName::try_from(place.host.to_owned()).map_err(io::Error::other)?;
    speaking(TlsConnector::from(config).connect(name, stream).await?).await
}

async fn speaking(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
) -> io::Result<(SendRequest<Full<Bytes>>, Connection)> {
    let (sender, connection) = Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let task = tokio::spawn(async move {
        // What broke is told to whoever reads the answer.
        let _ = connection.await;
    });
    Ok((sender, Connection(task)))
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

/// An answer's body, counted as it comes.
pub(super) async fn body(
    answer: &mut Response<Incoming>,
    max_bytes: usize,
    told: &mut Reached,
) -> Result<Bytes, Refusal> {
    let too_large = || {
        let cause = format!("it has more than {max_bytes} bytes");
        Refusal::new(Missing::TooLarge, cause)
    };
    let length = single(answer.headers(), &http::header::CONTENT_LENGTH);
    let length = length.and_then(|text| text.parse::<usize>().ok());
    if length.is_some_and(|length| length > max_bytes) {
        return Err(too_large());
    }
    let mut data = BytesMut::new();
    while let Some(frame) = answer.body_mut().frame().await {
        let frame = frame.map_err(|error| Refusal::new(Missing::Unavailable, error))?;
        // Trailers say nothing here.
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        told.bytes = told.bytes.saturating_add(bytes);
        if data.len().saturating_add(piece.len()) > max_bytes {
            return Err(too_large());
        }
        data.extend_from_slice(&piece);
    }
    Ok(data.freeze())
}

/// The one value of a field; nothing if it is repeated or no text.
pub(super) fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}
