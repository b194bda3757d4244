//! The server's side of HTTP/1.1, for servers that tests write. Connections are kept, as real
//! servers keep them.

pub mod http_json;
pub mod openai;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Reads a request: its head in lower case, and its body. `bytes` is what was read before and not
/// used. `None`: the client closed before the end.
pub async fn read(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(bytes.get(..end)?).to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            let mut body = bytes.split_off(end.saturating_add(4));
            while body.len() < length {
                if stream.read_buf(&mut body).await.ok()? == 0 {
                    return None;
                }
            }
            *bytes = body.split_off(length);
            return Some((head, body));
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// Answers with JSON. Errors are ignored, because the client may have gone.
pub async fn write(stream: &mut TcpStream, status: u16, text: &str) {
    let answer = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nserver: stand-in\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    );
    drop(stream.write_all(answer.as_bytes()).await);
}
