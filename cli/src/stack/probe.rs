//! Bounded HTTP requests to child processes, over Unix or TCP sockets, with or without TLS.

mod any_server;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Largest response that is read, bytes. Envoy's list of listeners has a few hundred.
const MAX_ANSWER_BYTES: u64 = 256 << 10;
/// Timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What ends the name of a model's version in a cause why it is not ready.
const AFTER_VERSION: &str = "\": ";
/// Last line of the host's list of causes, if there are more.
pub const CUT: &str = "and more";

/// Address of a server.
#[derive(Clone, Debug)]
pub enum Target {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
    /// A TCP address with TLS.
    Tls(SocketAddr),
}

/// Whether the target accepts connections.
pub async fn accepts(target: &Target) -> bool {
    match target {
        Target::Unix(path) => UnixStream::connect(path).await.is_ok(),
        Target::Tcp(address) | Target::Tls(address) => matches!(
            timeout(TIMEOUT, TcpStream::connect(address)).await,
            Ok(Ok(_))
        ),
    }
}

/// A response.
pub struct Response {
    /// Its status line, if it has one.
    head: String,
    /// Whether the status is 200.
    pub ok: bool,
    /// Its body.
    pub body: String,
}

impl Response {
    /// Whether an admin server does not serve the path at this address: it may at another one.
    pub fn is_withheld(&self) -> bool {
        matches!(self.head.split(' ').nth(1), Some("401" | "404"))
    }
}

/// Sends a request. Returns the body of a 200 response, and an error otherwise.
pub async fn ask(target: &Target, method: &str, path: &str) -> io::Result<String> {
    let Response { head, ok, body } = send_request(target, method, path).await?;
    if ok {
        return Ok(body);
    }
    // A process that is not ready explains what it waits for.
    let said = body.trim().replace('\n', "; ");
    let why = if said.is_empty() { "" } else { ": " };
    Err(io::Error::other(format!("{head}{why}{said}")))
}

/// Sends a request, and returns the response whatever its status is.
pub async fn send_request(target: &Target, method: &str, path: &str) -> io::Result<Response> {
    let question = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let exchange = async {
        match target {
            Target::Unix(path) => send(UnixStream::connect(path).await?, &question).await,
            Target::Tcp(address) => send(TcpStream::connect(address).await?, &question).await,
            Target::Tls(address) => send(any_server::connect(*address).await?, &question).await,
        }
    };
    let answer = timeout(TIMEOUT, exchange)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let chunked = head
        .to_ascii_lowercase()
        .contains("\r\ntransfer-encoding: chunked");
    Ok(Response {
        head: head.lines().next().unwrap_or("no response").to_owned(),
        ok: head.split(' ').nth(1) == Some("200"),
        body: if chunked {
            dechunk(body)
        } else {
            body.to_owned()
        },
    })
}

/// The causes why models are not ready, from the body of the host's `/readyz`. Its first
/// line is a summary.
pub fn causes(readyz: &str) -> Vec<String> {
    readyz.lines().skip(1).map(str::to_owned).collect()
}

/// The model's version that a cause is about, as `model "m" version "1"`.
pub fn model_version(cause: &str) -> Option<&str> {
    let end = cause.find(AFTER_VERSION)?;
    cause.get(..end.saturating_add(1))
}

/// Decodes a chunked body. Decoding stops at the first malformed chunk.
fn dechunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        match after.split_at_checked(size) {
            Some((chunk, after)) if size > 0 => {
                body.push_str(chunk);
                rest = after.strip_prefix("\r\n").unwrap_or(after);
            }
            _ => break,
        }
    }
    body
}

async fn send(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    question: &str,
) -> io::Result<String> {
    stream.write_all(question.as_bytes()).await?;
    let mut answer = Vec::new();
    let read = stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await;
    match read {
        // The server closed the TLS connection without a close notification.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !answer.is_empty() => {}
        read => drop(read?),
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
