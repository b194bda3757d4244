//! A bounded request over plain HTTP, for metadata. Redirects, other statuses than 200 and
//! longer responses are errors.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use super::{MAX_METADATA_BYTES, bad};
use crate::Failure;

/// Timeout for connecting, reading and writing.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of header fields in a response.
const MAX_HEADERS: usize = 64;

/// Whether a source is a URL rather than a file.
pub fn is_url(source: &str) -> bool {
    source.contains("://")
}

/// Returns the body of a 200 response.
pub fn get(base: &str, path: &str) -> Result<Vec<u8>, Failure> {
    send_request("GET", base, path)
}

/// The same for a POST request without a body.
pub fn post(base: &str, path: &str) -> Result<Vec<u8>, Failure> {
    send_request("POST", base, path)
}

fn send_request(method: &str, base: &str, path: &str) -> Result<Vec<u8>, Failure> {
    let length = match method {
        "POST" => "content-length: 0\r\n",
        _ => "",
    };
    let url = format!("{}{path}", base.trim_end_matches('/'));
    let rest = url.strip_prefix("http://").ok_or_else(|| {
        bad(
            &url,
            "only http:// is supported; for other servers, save the metadata to a file",
        )
    })?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let named = !authority.is_empty()
        && authority
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte));
    let sent = path.bytes().all(|byte| byte.is_ascii_graphic());
    if !named || !sent {
        return Err(bad(&url, "is not a valid URL"));
    }
    let address = if authority
        .rsplit(']')
        .next()
        .is_some_and(|end| end.contains(':'))
    {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let answer = exchange(
        &address,
        format!("{method} /{path} HTTP/1.1\r\nhost: {authority}\r\naccept: application/json\r\n{length}connection: close\r\n\r\n")
            .as_bytes(),
    )
    .map_err(|error| bad(&url, &error.to_string()))?;
    body(&answer).map_err(|why| bad(&url, &why))
}

fn exchange(address: &str, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for address in address.to_socket_addrs()? {
        let mut stream = match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => stream,
            Err(error) => {
                last = error;
                continue;
            }
        };
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.write_all(question)?;
        let mut answer = Vec::new();
        // Twice the limit, because chunk framing and header fields count too.
        stream
            .take(MAX_METADATA_BYTES.saturating_mul(2))
            .read_to_end(&mut answer)?;
        return Ok(answer);
    }
    Err(last)
}

fn body(answer: &[u8]) -> Result<Vec<u8>, String> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut fields);
    let length = match head.parse(answer) {
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
    let rest = answer.get(length..).unwrap_or_default();
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
        (None, None) => rest.to_vec(),
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
