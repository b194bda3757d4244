//! Envoy's bounds, from the policy's. The filter judges by the policy; where Envoy must refuse by itself it does so
//! only beyond that, so that the caller gets the filter's answer wherever there can be one.

use tensorgate_policy::policy::Limits;

/// What one read of a connection brings at most, and so one callback: Envoy reads no further into a buffer of this size.
pub const READ_BYTES: u32 = 256 << 10;
/// What stands in a stream's buffer beside what the filter holds, bytes: the callback that takes it over its bound, and framing.
const BUFFER_SLACK_BYTES: u64 = 2 * READ_BYTES as u64;
/// HTTP/2 flow control window of a stream towards the host, bytes: enough for 20 Gbit/s at 0.1 ms.
pub const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// The largest flow control window (RFC 9113, 6.9.1), bytes.
const MAX_WINDOW_BYTES: u64 = (1 << 31) - 1;
/// HTTP/2 flow control window of a client's connection, bytes.
pub const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Envoy refuses to be configured with more, KiB.
const ENVOY_MAX_HEADER_KIB: u64 = 8192;
/// Least time for a client to go on with a request that it has begun, milliseconds.
const LEAST_IDLE_MS: u64 = 10_000;
/// Most time for a request's headers, milliseconds.
const MOST_HEADERS_MS: u64 = 10_000;
/// Heap of an Envoy with this configuration and no traffic, with room to grow, bytes: about 110 MiB are measured.
const BASE_HEAP_BYTES: u64 = 256 << 20;
/// An open connection without a body, bytes: buffers, codec and filter state.
const CONNECTION_BYTES: u64 = 64 << 10;

/// Bounds in the units that Envoy takes.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// `max_request_headers_kb`: twice the policy's.
    pub header_kib: u64,
    /// `max_headers_count`: twice the policy's, and what Envoy itself adds.
    pub headers: u64,
    /// The longest body that a filter lets pass, bytes.
    pub body_bytes: u64,
    /// `request_body_buffer_limit`: what a filter may hold of one body. A larger one passes it in pieces, or is refused by it.
    pub buffer_bytes: u64,
    /// HTTP/2 flow control window of a client's stream, bytes. Envoy takes it for the stream's buffer limit as well: what is
    /// held of a body must fit in it.
    pub stream_window_bytes: u64,
    /// Heap at which Envoy stops taking more, bytes.
    pub heap_bytes: u64,
    /// From the last byte of a request to its answer, milliseconds.
    pub timeout_ms: u64,
    /// A whole stream, milliseconds.
    pub stream_ms: u64,
    /// A stream on which nothing moves, milliseconds.
    pub idle_ms: u64,
    /// A request's headers, milliseconds.
    pub headers_ms: u64,
    /// A TLS handshake, milliseconds.
    pub handshake_ms: u64,
    /// A connection without a request, milliseconds.
    pub connection_idle_ms: u64,
    /// Open connections.
    pub connections: u32,
    /// HTTP/2 streams a connection.
    pub streams: u32,
}

/// Envoy's own header fields on a request: `x-forwarded-for`, `x-forwarded-proto`, `x-request-id` and their like.
const OWN_HEADERS: u64 = 8;

impl Bounds {
    /// Bounds for a policy.
    pub fn of(limits: &Limits) -> Self {
        let wide = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        let idle_ms = limits
            .timeout_ms
            .saturating_mul(2)
            .max(LEAST_IDLE_MS)
            .min(limits.stream_ms.max(1));
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
            idle_ms,
            headers_ms: limits.stream_ms.min(MOST_HEADERS_MS),
            handshake_ms: limits.handshake_ms,
            connection_idle_ms: limits.idle_ms,
            connections: limits.connections,
            streams: limits.streams_per_connection,
        }
    }
}
