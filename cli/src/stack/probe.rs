//! One bounded HTTP question to a process of ours, over a Unix or a TCP socket, with or without TLS.

mod any_server;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Most of an answer that is read, bytes: Envoy's list of listeners is a few hundred.
const MAX_ANSWER_BYTES: u64 = 256 << 10;
/// A process of ours answers at once or is not ready.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where to ask.
#[derive(Clone, Debug)]
pub enum Target {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(SocketAddr),
    /// A TCP address that speaks TLS.
    Tls(SocketAddr),
}

/// Whether something accepts connections there.
pub async fn accepts(target: &Target) -> bool {
    match target {
        Target::Unix(path) => UnixStream::connect(path).await.is_ok(),
        Target::Tcp(address) | Target::Tls(address) => matches!(
            timeout(PATIENCE, TcpStream::connect(address)).await,
            Ok(Ok(_))
        ),
    }
}

/// Asks; the body of a 200, else an error.
pub async fn ask(target: &Target, method: &str, path: &str) -> io::Result<String> {
    let question = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let exchange = async {
        match target {
            Target::Unix(path) => talk(UnixStream::connect(path).await?, &question).await,
            Target::Tcp(address) => talk(TcpStream::connect(address).await?, &question).await,
            Target::Tls(address) => talk(any_server::connect(*address).await?, &question).await,
        }
    };
    let answer = timeout(PATIENCE, exchange)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let chunked = head
        .to_ascii_lowercase()
        .contains("\r\ntransfer-encoding: chunked");
    match head.split(' ').nth(1) {
        Some("200") if chunked => Ok(dechunk(body)),
        Some("200") => Ok(body.to_owned()),
        _ => {
            // A process that is not ready says what it waits for.
            let status = head.lines().next().unwrap_or("no answer");
            let said = body.trim().replace('\n', "; ");
            let why = if said.is_empty() { "" } else { ": " };
            Err(io::Error::other(format!("{status}{why}{said}")))
        }
    }
}

/// Takes the chunks of a process of ours apart; what does not fit ends it.
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

async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    question: &str,
) -> io::Result<String> {
    stream.write_all(question.as_bytes()).await?;
    let mut answer = Vec::new();
    let read = stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await;
    match read {
        // A TLS connection that is closed without a word about it.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !answer.is_empty() => {}
        read => drop(read?),
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
