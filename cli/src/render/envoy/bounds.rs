//! Envoy's limits, derived from the policy's.
//!
//! The filter enforces the policy. Envoy's own limits are wider, so that callers get the filter's
//! response wherever possible.

use tensorgate_policy::policy::Limits;

/// Largest read from a connection, and so the largest body callback. Envoy stops reading when a
/// buffer of this size is full.
pub const READ_BYTES: u32 = 256 << 10;
/// Buffer space beyond the bytes that the filter holds: the callback that exceeds its limit, and
/// framing.
const BUFFER_SLACK_BYTES: u64 = 2 * READ_BYTES as u64;
/// HTTP/2 flow control window of a stream to the host, bytes: enough for 20 Gbit/s at 0.1 ms.
pub const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// The largest flow control window (RFC 9113, section 6.9.1), bytes.
const MAX_WINDOW_BYTES: u64 = (1 << 31) - 1;
/// HTTP/2 flow control window of a client's connection, bytes.
pub const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Envoy's maximum for the header size, KiB.
const ENVOY_MAX_HEADER_KIB: u64 = 8192;
/// Maximum time for a request's headers, milliseconds.
const MOST_HEADERS_MS: u64 = 10_000;
/// Heap of an idle Envoy with this configuration, bytes. About 110 MiB are measured; the rest is a
/// margin.
const BASE_HEAP_BYTES: u64 = 256 << 20;
/// Memory of an open connection without a body, bytes: buffers, codec and filter state.
const CONNECTION_BYTES: u64 = 64 << 10;

/// Limits in Envoy's units.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// `max_request_headers_kb`: twice the policy's limit.
    pub header_kib: u64,
    /// `max_headers_count`: twice the policy's limit, and the headers that Envoy adds.
    pub headers: u64,
    /// The longest body that a filter accepts, bytes.
    pub body_bytes: u64,
    /// `request_body_buffer_limit`: how much of a body a filter may hold. A larger body passes to
    /// the host unread, or is rejected.
    pub buffer_bytes: u64,
    /// HTTP/2 flow control window of a client's stream, bytes. Envoy also uses it as the stream's
    /// buffer limit, so the held part of a body must fit.
    pub stream_window_bytes: u64,
    /// Heap size at which Envoy stops accepting requests, bytes.
    pub heap_bytes: u64,
    /// Timeout from the last byte of a request to its response, milliseconds.
    pub timeout_ms: u64,
    /// Maximum duration of a stream, milliseconds.
    pub stream_ms: u64,
    /// Idle timeout of a stream, milliseconds.
    pub idle_ms: u64,
    /// Timeout for a request's headers, milliseconds.
    pub headers_ms: u64,
    /// Timeout for a TLS handshake, milliseconds.
    pub handshake_ms: u64,
    /// Idle timeout of a connection, milliseconds.
    pub connection_idle_ms: u64,
    /// Maximum number of open connections.
    pub connections: u32,
    /// Maximum number of HTTP/2 streams per connection.
    pub streams: u32,
}

/// Headers that Envoy adds to a request: `x-forwarded-for`, `x-forwarded-proto`, `x-request-id` and
/// similar.
const OWN_HEADERS: u64 = 8;

impl Bounds {
    /// The limits for a policy.
    pub fn from_limits(limits: &Limits) -> Self {
        let wide = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let buffer_bytes = wide(limits.hold_bytes)
            .saturating_add(BUFFER_SLACK_BYTES)
            .min(u64::from(u32::MAX));
        Self {
            header_kib: wide(limits.header_bytes)
                .saturating_mul(2)
                .div_ceil(1024)
                .clamp(1, ENVOY_MAX_HEADER_KIB),
            headers: wide(limits.headers)
                .saturating_mul(2)
                .saturating_add(OWN_HEADERS),
            body_bytes: wide(limits.body_bytes),
            buffer_bytes,
            stream_window_bytes: buffer_bytes.min(MAX_WINDOW_BYTES),
            heap_bytes: BASE_HEAP_BYTES
                .saturating_add(wide(limits.buffered_bytes))
                .saturating_add(CONNECTION_BYTES.saturating_mul(limits.connections.into())),
            timeout_ms: limits.timeout_ms,
            stream_ms: limits.stream_ms,
            idle_ms: limits.stream_idle_ms(),
            headers_ms: limits.stream_ms.min(MOST_HEADERS_MS),
            handshake_ms: limits.handshake_ms,
            connection_idle_ms: limits.idle_ms,
            connections: limits.connections,
            streams: limits.streams_per_connection,
        }
    }

    /// Adds memory for copies of bodies: with retries, Envoy keeps each body until the host
    /// responds.
    pub fn keep_bodies(&mut self, limits: &Limits) {
        let bytes = u64::try_from(limits.buffered_bytes).unwrap_or(u64::MAX);
        self.heap_bytes = self.heap_bytes.saturating_add(bytes);
    }
}
