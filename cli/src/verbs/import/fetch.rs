//! A bounded request over HTTP or HTTPS, for metadata. Redirects, other statuses than 200 and
//! longer responses are errors.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::time::Duration;

use tensorgate_cli_common::Failure;
use tensorgate_cli_common::trust::Trust;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConnection, StreamOwned};

use super::{MAX_METADATA_BYTES, bad};

/// Timeout for connecting, reading and writing.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of header fields in a response.
const MAX_HEADERS: usize = 64;

/// TLS settings, and the name that the server's certificate must have.
type Tls = (Trust, ServerName<'static>);

/// A response as it came.
struct Answer {
    bytes: Vec<u8>,
    /// Whether the server ended it, instead of the connection.
    ended: bool,
}

/// Whether a source is a URL rather than a file.
pub fn is_url(source: &str) -> bool {
    source.contains("://")
}

/// Returns the body of a 200 response. `ca` replaces the system's certificate authorities.
pub fn get(base: &str, path: &str, ca: Option<&Path>) -> Result<Vec<u8>, Failure> {
    send_request("GET", base, path, ca)
}

/// The same for a POST request without a body.
pub fn post(base: &str, path: &str, ca: Option<&Path>) -> Result<Vec<u8>, Failure> {
    send_request("POST", base, path, ca)
}

fn send_request(
    method: &str,
    base: &str,
    path: &str,
    ca: Option<&Path>,
) -> Result<Vec<u8>, Failure> {
    let length = match method {
        "POST" => "content-length: 0\r\n",
        _ => "",
    };
    let url = format!("{}{path}", base.trim_end_matches('/'));
    let (rest, default_port) = if let Some(rest) = url.strip_prefix("https://") {
        (rest, 443)
    } else if let Some(rest) = url.strip_prefix("http://") {
        (rest, 80)
    } else {
        let why = "only http:// and https:// are supported; for other servers, save the metadata to a file";
        return Err(bad(&url, why));
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let named = !authority.is_empty()
        && authority
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte));
    let sent = path.bytes().all(|byte| byte.is_ascii_graphic());
    if !named || !sent {
        return Err(bad(&url, "is not a valid URL"));
    }
    let (host, address) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, authority.to_owned()),
        _ => (authority, format!("{authority}:{default_port}")),
    };
    let tls = if default_port == 443 {
        let host = host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|error| bad(&url, &error.to_string()))?;
        Some((Trust::from_file(ca).map_err(Failure::Input)?, name))
    } else {
        None
    };
    let answer = exchange(
        &address,
        tls.as_ref(),
        format!("{method} /{path} HTTP/1.1\r\nhost: {authority}\r\naccept: application/json\r\n{length}connection: close\r\n\r\n")
            .as_bytes(),
    )
    .map_err(|error| {
        let error = error.to_string();
        let untrusted = tls.is_some() && ca.is_none() && error.contains("certificate");
        let hint = if untrusted { "; name its authority with --ca FILE" } else { "" };
        bad(&url, &format!("{error}{hint}"))
    })?;
    body(&answer).map_err(|why| bad(&url, &why))
}

fn exchange(address: &str, tls: Option<&Tls>, question: &[u8]) -> std::io::Result<Answer> {
    let mut last = std::io::Error::from(ErrorKind::AddrNotAvailable);
    for address in address.to_socket_addrs()? {
        let stream = match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => stream,
            Err(error) => {
                last = error;
                continue;
            }
        };
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let Some((trust, name)) = tls else {
            return ask(stream, question);
        };
        let connection = ClientConnection::new(trust.config(), name.clone());
        let connection = connection.map_err(std::io::Error::other)?;
        return ask(StreamOwned::new(connection, stream), question);
    }
    Err(last)
}

fn ask(mut stream: impl Read + Write, question: &[u8]) -> std::io::Result<Answer> {
    stream.write_all(question)?;
    stream.flush()?;
    let mut bytes = Vec::new();
    // Twice the limit, because chunk framing and header fields count too.
    let read = stream
        .take(MAX_METADATA_BYTES.saturating_mul(2))
        .read_to_end(&mut bytes);
    match read {
        Ok(_) => Ok(Answer { bytes, ended: true }),
        // Many servers close a TLS connection without the message that ends it.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof && !bytes.is_empty() => {
            let ended = false;
            Ok(Answer { bytes, ended })
        }
        Err(error) => Err(error),
    }
}

fn body(answer: &Answer) -> Result<Vec<u8>, String> {
    let bytes = answer.bytes.as_slice();
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut fields);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Err("the answer is cut short".into()),
        Err(error) => return Err(format!("the answer is not HTTP: {error}")),
    };
    if head.code != Some(200) {
        return Err(format!(
            "responded with status {}",
            head.code.unwrap_or_default()
        ));
    }
    let field = |name: &str| {
        head.headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name))
            .map(|field| String::from_utf8_lossy(field.value).into_owned())
    };
    let rest = bytes.get(length..).unwrap_or_default();
    let body = match (field("transfer-encoding"), field("content-length")) {
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => dechunk(rest)?,
        (Some(coding), _) => return Err(format!("transfer-encoding {coding:?} is not supported")),
        (None, Some(length)) => {
            let length = length
                .parse::<usize>()
                .map_err(|_| "the length is not a number")?;
            rest.get(..length)
                .ok_or("the answer is cut short")?
                .to_vec()
        }
        (None, None) if answer.ended => rest.to_vec(),
        (None, None) => return Err("the answer is cut short".into()),
    };
    if u64::try_from(body.len()).is_ok_and(|bytes| bytes <= MAX_METADATA_BYTES) {
        Ok(body)
    } else {
        Err(format!(
            "the answer is larger than {MAX_METADATA_BYTES} bytes"
        ))
    }
}

fn dechunk(mut rest: &[u8]) -> Result<Vec<u8>, String> {
    let cut = || "the answer is cut short".to_owned();
    let mut body = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(rest) else {
            return Err(cut());
        };
        if size == 0 {
            return Ok(body);
        }
        let size = usize::try_from(size).map_err(|_| cut())?;
        let (data, after) = rest
            .get(start..)
            .and_then(|piece| piece.split_at_checked(size))
            .ok_or_else(cut)?;
        body.extend_from_slice(data);
        rest = after.strip_prefix(b"\r\n").ok_or_else(cut)?;
    }
}
