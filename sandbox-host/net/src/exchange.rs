//! One HTTP request to one address, and its response. It carries only what this module and its
//! caller write: no cookies, no client headers, no proxy. After the response, the connection is
//! closed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, ACCEPT_ENCODING, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use tensorgate_base::egress_log::{EgressRecord, ResolveFailure};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::resolve::{MAX_ADDRESSES, Resolve};
use crate::http1::client::{Answer, send_once};
use crate::http2::connection::Stream;
use crate::tls::Tls;

/// The user agent.
const AGENT: &str = "tensorgate";

/// Why a request failed: the failure for the guest, and the cause for the log.
pub struct EgressError {
    /// What the guest learns.
    pub missing: ResolveFailure,
    /// What the log says.
    pub cause: String,
}

impl EgressError {
    /// A failure with its cause.
    pub fn new(missing: ResolveFailure, cause: impl ToString) -> Self {
        Self {
            missing,
            cause: cause.to_string(),
        }
    }
}

/// The addresses of a name. All of them must be allowed, because the name may resolve to any of
/// them the next time.
pub async fn addresses(
    resolver: &dyn Resolve,
    (host, client): (&str, &Arc<str>),
    admits: impl Fn(IpAddr) -> Result<(), &'static str>,
) -> Result<Vec<IpAddr>, EgressError> {
    let found = resolver.resolve(host, client).await;
    let mut found = found.map_err(|error| EgressError::new(ResolveFailure::Unavailable, error))?;
    for address in &found {
        admits(*address).map_err(|what| {
            EgressError::new(
                ResolveFailure::Refused,
                format!("its address {address} is {what}"),
            )
        })?;
    }
    found.truncate(MAX_ADDRESSES);
    Ok(found)
}

/// The destination of a request.
pub struct Destination<'q> {
    /// The addresses of the host, each checked.
    pub addresses: &'q [IpAddr],
    /// The name or address of the host, for the `Host` field and the certificate.
    pub host: &'q str,
    /// Its port.
    pub port: u16,
    /// TLS, for `https`.
    pub tls: Option<&'q Arc<Tls>>,
}

/// A request.
pub struct EgressRequest<'q> {
    /// Where it goes.
    pub destination: Destination<'q>,
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: &'q str,
    /// The accepted media types.
    pub accept: &'q str,
    /// Additional header fields.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
}

/// Sends a request to the first address that accepts a connection.
pub async fn send(question: EgressRequest<'_>) -> io::Result<Answer> {
    let EgressRequest {
        destination: place,
        method,
        path,
        accept,
        fields,
        body,
    } = question;
    let usual = if place.tls.is_some() { 443 } else { 80 };
    // An IPv6 address has brackets, unlike its name in a certificate.
    let [open, close] = if place.host.contains(':') {
        ["[", "]"]
    } else {
        [""; 2]
    };
    let host = format!("{open}{}{close}", place.host);
    let authority = if place.port == usual {
        host
    } else {
        format!("{host}:{}", place.port)
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
    let request = request.body(()).map_err(io::Error::other)?;
    let stream = secured(&place).await?;
    let answer = send_once(stream, &request, body).await;
    answer.map_err(io::Error::other)
}

async fn secured(place: &Destination<'_>) -> io::Result<Box<dyn Stream>> {
    let stream = connect(place.addresses, place.port).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = place.tls else {
        return Ok(Box::new(stream));
    };
    let config = tls.config().await?;
    let name = ServerName::try_from(place.host.to_owned()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    Ok(Box::new(stream))
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

/// Reads a response's body and counts its bytes.
pub async fn body(
    answer: &mut Answer,
    max_bytes: usize,
    record: &mut EgressRecord,
) -> Result<Bytes, EgressError> {
    let too_large = || {
        let cause = format!("it has more than {max_bytes} bytes");
        EgressError::new(ResolveFailure::TooLarge, cause)
    };
    let length = single(&answer.head.headers, &http::header::CONTENT_LENGTH);
    let length = length.and_then(|text| text.parse::<usize>().ok());
    if length.is_some_and(|length| length > max_bytes) {
        return Err(too_large());
    }
    let mut data = BytesMut::new();
    while let Some(piece) = answer.body.data().await {
        let piece = piece.map_err(|error| EgressError::new(ResolveFailure::Unavailable, error))?;
        let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        record.bytes = record.bytes.saturating_add(bytes);
        if data.len().saturating_add(piece.len()) > max_bytes {
            return Err(too_large());
        }
        data.extend_from_slice(&piece);
    }
    Ok(data.freeze())
}

/// The value of a field. `None` if it is repeated or not text.
pub fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}
