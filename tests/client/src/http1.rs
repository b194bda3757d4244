//! HTTP/1.1, byte for byte: one request per connection, and the reply read to its end.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{ClientError, EXCHANGE_LIMIT, Reply};

/// The most header fields of a reply that this client reads.
const MAX_REPLY_HEADERS: usize = 128;

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `content-length`, added by this client.
    Length,
    /// `transfer-encoding: chunked` in pieces of this many bytes.
    Chunked(usize),
    /// As the caller's own header fields say: the body is written as it is.
    AsIs,
}

/// Sends one request and reads its reply. `host` and `connection: close` are added.
pub async fn send<N: AsRef<[u8]>, V: AsRef<[u8]>>(
    gate: SocketAddr,
    method: &str,
    target: &str,
    fields: &[(N, V)],
    body: &[u8],
    framing: Framing,
) -> Result<Reply, ClientError> {
    let mut request =
        format!("{method} {target} HTTP/1.1\r\nhost: {gate}\r\nconnection: close\r\n").into_bytes();
    for (name, value) in fields {
        request.extend_from_slice(name.as_ref());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value.as_ref());
        request.extend_from_slice(b"\r\n");
    }
    match framing {
        Framing::Length if body.is_empty() && method != "POST" => {
            request.extend_from_slice(b"\r\n")
        }
        Framing::Length => {
            request.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
            request.extend_from_slice(body);
        }
        Framing::Chunked(size) => {
            request.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
            for piece in body.chunks(size.max(1)) {
                request.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                request.extend_from_slice(piece);
                request.extend_from_slice(b"\r\n");
            }
            request.extend_from_slice(b"0\r\n\r\n");
        }
        Framing::AsIs => {
            request.extend_from_slice(b"\r\n");
            request.extend_from_slice(body);
        }
    }
    raw(gate, &request).await
}

/// Writes bytes as they are and reads one reply to its end.
pub async fn raw(gate: SocketAddr, request: &[u8]) -> Result<Reply, ClientError> {
    let exchange = async { exchange(TcpStream::connect(gate).await?, request).await };
    tokio::time::timeout(EXCHANGE_LIMIT, exchange)
        .await
        .map_err(|_| ClientError::Hung)?
}

/// One exchange on a connection that may carry others: bytes as they are, and one reply read to its
/// end.
///
/// # Errors
///
/// The connection fails or ends before the reply does, or nothing comes within [`EXCHANGE_LIMIT`].
pub async fn on(stream: &mut TcpStream, request: &[u8]) -> Result<Reply, ClientError> {
    tokio::time::timeout(EXCHANGE_LIMIT, exchange(stream, request))
        .await
        .map_err(|_| ClientError::Hung)?
}

pub(crate) async fn exchange(
    stream: impl AsyncRead + AsyncWrite,
    request: &[u8],
) -> Result<Reply, ClientError> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    // A gate may answer and close before it has read everything. A failed write is therefore not
    // yet a failed exchange.
    let write = async {
        let _ = writer.write_all(request).await;
        let _ = writer.flush().await;
        writer
    };
    let mut received = Vec::new();
    // This does not read to the end of the connection: a proxy that rejects a request may keep it
    // open for a while, so that the client can read.
    let read = async {
        while reader.read_buf(&mut received).await? > 0 && !is_whole(&received) {}
        std::io::Result::Ok(())
    };
    let (_writer, outcome) = tokio::join!(write, read);
    match parse(&received) {
        Ok(reply) => Ok(reply),
        Err(fault) => Err(outcome.err().map_or(fault, ClientError::Io)),
    }
}

/// Whether a reply that declares its length is complete.
fn is_whole(received: &[u8]) -> bool {
    let Ok(reply) = parse(received) else {
        return false;
    };
    let length = reply
        .header("content-length")
        .and_then(|length| length.parse().ok());
    // A chunked body that is not complete does not parse.
    reply.status >= 200
        && (reply.header("transfer-encoding").is_some() || length == Some(reply.body.len()))
}

fn parse(received: &[u8]) -> Result<Reply, ClientError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_REPLY_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(received)? else {
        return Err(ClientError::Truncated);
    };
    let status = head.code.ok_or(ClientError::Truncated)?;
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|field| {
            (
                field.name.to_ascii_lowercase().into_bytes(),
                field.value.to_vec(),
            )
        })
        .collect();
    let rest = received.get(length..).unwrap_or_default();
    let chunked = headers
        .iter()
        .any(|(name, value)| name == b"transfer-encoding" && value == b"chunked");
    let body = if chunked {
        dechunk(rest)?
    } else {
        rest.to_vec()
    };
    Ok(Reply {
        status,
        headers,
        body,
        trailers: Vec::new(),
    })
}

fn dechunk(mut rest: &[u8]) -> Result<Vec<u8>, ClientError> {
    let mut body = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(rest) else {
            return Err(ClientError::Truncated);
        };
        if size == 0 {
            return Ok(body);
        }
        let piece = rest.get(start..).unwrap_or_default();
        let size = usize::try_from(size).map_err(|_| ClientError::Truncated)?;
        let (data, after) = piece.split_at_checked(size).ok_or(ClientError::Truncated)?;
        body.extend_from_slice(data);
        rest = after.strip_prefix(b"\r\n").ok_or(ClientError::Truncated)?;
    }
}
