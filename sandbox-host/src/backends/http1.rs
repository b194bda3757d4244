//! Recognises a server that speaks HTTP/1.1 where gRPC is expected, so that a health check can say
//! that the port is the wrong one.
//!
//! Some servers answer the start of HTTP/2 with an error of HTTP/1.1, and others (Triton) close the
//! connection without a byte. So a request of HTTP/1.1 is sent over a connection of its own.

use std::io;
use std::time::Duration;

use tensorgate_net::dialer::Dialer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

/// The timeout for connecting and for the start of the answer.
const TIMEOUT: Duration = Duration::from_millis(500);
/// The request. Each HTTP/1.1 server answers it, if only with an error.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
/// How each answer of HTTP/1.0 and HTTP/1.1 starts. Nothing after it is read.
const ANSWER_START: [u8; 7] = *b"HTTP/1.";

/// Whether the server answers a request of HTTP/1.1.
pub(super) async fn answers(dialer: &Dialer) -> bool {
    let exchange = async {
        let mut stream = dialer.dial().await?;
        stream.write_all(REQUEST).await?;
        let mut start = [0; ANSWER_START.len()];
        stream.read_exact(&mut start).await?;
        io::Result::Ok(start == ANSWER_START)
    };
    matches!(timeout(TIMEOUT, exchange).await, Ok(Ok(true)))
}
