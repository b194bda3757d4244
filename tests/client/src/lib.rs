//! A client that can misbehave.
//!
//! HTTP/1.1 is written by hand, and HTTP/2 uses `h2` directly. Odd header bytes, repeated fields,
//! split bodies and trailers therefore reach the gate as they are. A well-behaved library would
//! correct or reject them.

pub mod grpc;
pub mod http1;
pub mod open;
pub mod pki;
pub mod program;
pub mod publisher;
pub mod redis;
pub mod registry;
pub mod reply;
pub mod run;
pub mod stand_in;
pub mod tls;

use std::time::Duration;

pub use open::Open;
pub use reply::Reply;

/// How long one exchange may take before it counts as hung.
pub const EXCHANGE_LIMIT: Duration = Duration::from_secs(60);

/// Header fields as bytes, in order.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// Why no reply came.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection failed or ended early.
    #[error("connection: {0}")]
    Io(#[from] std::io::Error),
    /// HTTP/2 ended the stream or the connection.
    #[error("http/2: {0}")]
    H2(#[from] h2::Error),
    /// The request cannot be expressed in HTTP/2 as this client speaks it.
    #[error("request: {0}")]
    Request(#[from] http::Error),
    /// The reply is not HTTP.
    #[error("reply: {0}")]
    Reply(#[from] httparse::Error),
    /// The reply ended before its headers did.
    #[error("the reply ended within its headers")]
    Truncated,
    /// Nothing came within [`EXCHANGE_LIMIT`].
    #[error("no reply within {} s", EXCHANGE_LIMIT.as_secs())]
    Hung,
}
