//! Receives Envoy's access log: one client-streaming gRPC call for each Envoy worker, as long as
//! both live. Messages are limited in size and read one at a time. A slow disk slows down the
//! stream, Envoy's own bounded buffer fills, and Envoy counts what it drops
//! (`access_logs.grpc_access_log.logs_dropped`).

use std::convert::Infallible;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Body;
use prost::Message as _;
use tensorgate_telemetry::metrics::Metrics;
use tokio::sync::watch;

use crate::als::entry;
use crate::als::messages::Message;
use crate::outcomes::Outcomes;

/// The path of the only method.
pub const PATH: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
/// The largest message in bytes. Envoy's buffer holds [`BUFFER_BYTES`] plus one entry, whose
/// largest part is a path within the limit on request headers.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// The buffer size that Envoy is configured with, in bytes.
pub const BUFFER_BYTES: u64 = 256 << 10;
/// The flush interval that Envoy is configured with, in milliseconds.
pub const FLUSH_MS: u64 = 100;
/// The prefix of a gRPC frame: a flag and the length.
const FRAME_HEAD_BYTES: usize = 5;

/// The state of the service.
pub struct Service {
    /// Receives the entries.
    pub outcomes: Arc<Outcomes>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Turns true when the host stops, because a stream never ends by itself.
    pub ending: watch::Receiver<bool>,
}

/// Why a stream is ended. Envoy then opens another.
#[derive(Debug, thiserror::Error)]
enum StreamFault {
    #[error("a message of {0} bytes is too large")]
    TooLong(usize),
    #[error("a compressed message")]
    Compressed,
    #[error("a message that cannot be decoded: {0}")]
    Form(#[from] prost::DecodeError),
    #[error("the stream ended early: {0}")]
    Broken(String),
}

impl Service {
    /// Handles one call.
    pub async fn serve<B>(
        self: Arc<Self>,
        request: Request<B>,
    ) -> Result<Response<Empty<Bytes>>, Infallible>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        if request.method() != Method::POST || request.uri().path() != PATH {
            return Ok(answer("12"));
        }
        let mut ending = self.ending.clone();
        let taken = tokio::select! {
            taken = self.take(request.into_body()) => taken,
            _ = ending.wait_for(|ending| *ending) => Ok(()),
        };
        Ok(match taken {
            Ok(()) => answer("0"),
            Err(fault) => {
                self.metrics.audit_streams_broken.inc();
                tracing::error!(
                    cause = fault.to_string(),
                    "access log stream closed after an error"
                );
                answer("8")
            }
        })
    }

    async fn take<B>(&self, mut body: B) -> Result<(), StreamFault>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::fmt::Display,
    {
        let mut buffer = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                // Envoy disconnected or reset the stream. Complete messages were processed.
                Err(error) => return Err(StreamFault::Broken(error.to_string())),
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            buffer.extend_from_slice(&data);
            while let Some(message) = take_message(&mut buffer)? {
                self.entries(&message).await?;
            }
        }
        Ok(())
    }

    async fn entries(&self, message: &[u8]) -> Result<(), StreamFault> {
        let Message {
            http_logs,
            tcp_logs,
        } = Message::decode(message)?;
        let http = http_logs.unwrap_or_default().log_entry.into_iter();
        let tcp = tcp_logs.unwrap_or_default().log_entry.into_iter();
        let entries = http
            .map(|bytes| entry::http(&bytes))
            .chain(tcp.map(|bytes| entry::tcp(&bytes)));
        for entry in entries {
            match entry {
                Ok(Some(entry)) => {
                    self.metrics.audit_entries.inc();
                    self.outcomes.ended(entry).await;
                }
                Ok(None) => {}
                Err(fault) => {
                    tracing::error!(cause = fault.to_string(), "malformed access log entry");
                    self.outcomes.audit().drop_lines(1);
                }
            }
        }
        Ok(())
    }
}

/// Removes the next complete message from a buffer.
fn take_message(buffer: &mut BytesMut) -> Result<Option<Bytes>, StreamFault> {
    let Some(head) = buffer.first_chunk::<FRAME_HEAD_BYTES>() else {
        return Ok(None);
    };
    let [flag, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if flag != 0 {
        return Err(StreamFault::Compressed);
    }
    if length > MAX_MESSAGE_BYTES {
        return Err(StreamFault::TooLong(length));
    }
    if buffer.len().saturating_sub(FRAME_HEAD_BYTES) < length {
        return Ok(None);
    }
    buffer.advance(FRAME_HEAD_BYTES);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// A gRPC response without a message.
fn answer(grpc_status: &'static str) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert("grpc-status", HeaderValue::from_static(grpc_status));
    response
}

#[cfg(test)]
mod tests;
