//! The listener and its limits.

use serde::{Deserialize, Serialize};
use tensorgate_policy::values::Health;

use super::number::{
    Bytes, Connections, Expansion, Fields, Milliseconds, Number, Proxies, Streams,
};
use super::{ApiKeyLocations, ByteSize, Tls};

/// Maximum body size. Larger bodies than the buffer are streamed by the filter, but the sandbox
/// host buffers them. 1 GiB suffices for the tensors of a request (gRPC's limit is 4 GiB, most
/// servers' 2).
pub(crate) const MAX_BODY_BYTES: u64 = 1 << 30;
/// Maximum duration of a request or stream: one day.
const MAX_STREAM_MS: u64 = 86_400_000;
/// Maximum HTTP/2 streams per connection (RFC 9113 §6.5.2).
const MAX_STREAMS: u64 = 65_536;

/// The listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Listen {
    /// Listening `address:port`.
    pub address: String,
    /// Number of trusted proxies in front, for `x-forwarded-for`, counted from the gate outwards.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub trusted_hops: Number<0, 16, 0, Proxies>,
    /// TLS; plain text if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Allowed locations of API keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKeyLocations>,
    /// `public` allows liveness and readiness queries without a credential; `clients` requires one.
    pub health: Health,
    /// Where bodies up to `hold_bytes` are judged first: `envoy` rejects an invalid one before the
    /// sandbox host receives it, `host` leaves all bodies to the host. Without a sandbox host the
    /// filter judges every body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<Judge>,
    /// Maximum size of a body that the filter judges before the sandbox host does. Larger bodies
    /// pass unread, and the host alone judges them. Not with `judge`. 64 KiB by default, or
    /// `hold_bytes` if that is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge_bytes: Option<ByteSize>,
    /// Limits of requests and connections.
    pub limits: Limits,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:8080".into(),
            trusted_hops: Number::default(),
            tls: None,
            api_key: None,
            health: Health::Clients,
            judge: None,
            judge_bytes: None,
            limits: Limits::default(),
        }
    }
}

/// Who judges the bodies that a filter can buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Judge {
    /// The filter in Envoy, and then the sandbox host.
    Envoy,
    /// The sandbox host alone.
    Host,
}

/// Limits of requests and connections.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Limits {
    /// Size of all header names and values of a request. Beyond 64 KiB, proxies and servers
    /// misbehave.
    pub header_bytes: Number<1, { 64 << 10 }, { 16 << 10 }, Bytes>,
    /// Header fields per request.
    pub headers: Number<1, 1_000, 64, Fields>,
    /// Size of a request body. Bodies larger than `hold_bytes` are streamed, which is possible for
    /// binary tensors: OIP's binary data extension, and gRPC with raw contents. Not without a host
    /// under limits of scope `global`: there a body waits whole.
    pub body_bytes: Number<1, MAX_BODY_BYTES, { 8 << 20 }, Bytes>,
    /// Maximum buffered size of one body. Other formats and compressed bodies must fit.
    /// `body_bytes`, but at most 8 MiB, by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_bytes: Option<ByteSize>,
    /// Maximum expansion ratio of compressed bodies beyond 1 MiB, for models with `encodings`.
    /// `hold_bytes` limits the expanded size too. JSON of floats compresses three to five times, a
    /// mask or a sparse tensor about ten times, and deflate at most 1,032 times.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub max_expansion: Number<1, 1_032, 20, Expansion>,
    /// Buffered bodies of all streams together.
    pub buffered_bytes: Number<1, { 1 << 40 }, { 256 << 20 }, Bytes>,
    /// From the last byte of a request to its response.
    pub timeout_ms: Number<1, MAX_STREAM_MS, 5_000, Milliseconds>,
    /// A whole stream, including a slow upload.
    pub stream_ms: Number<1, MAX_STREAM_MS, 60_000, Milliseconds>,
    /// TLS handshake of a connection. The default is twice one over a slow network with losses.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub handshake_ms: Number<1, 60_000, 10_000, Milliseconds>,
    /// A connection without a request, including one that never sent any.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub idle_ms: Number<1, MAX_STREAM_MS, 60_000, Milliseconds>,
    /// Open connections.
    pub connections: Number<1, 1_000_000, 1_024, Connections>,
    /// HTTP/2 streams per connection.
    pub streams_per_connection: Number<1, MAX_STREAMS, 100, Streams>,
    /// Open inference streams (`ModelStreamInfer`) per client, including idle ones. Each uses one
    /// of the proxy's few thousand streams to the sandbox host.
    #[serde(skip_serializing_if = "Number::is_default")]
    pub streams_per_client: Number<1, MAX_STREAMS, 16, Streams>,
}

/// Default buffered size of one body: an image of 224 x 224 x 3 floats is 600 KB in raw form and up
/// to five times that as JSON.
const DEFAULT_HOLD_BYTES: u64 = 8 << 20;

impl Limits {
    /// Maximum buffered size of one body.
    pub fn hold_bytes(&self) -> ByteSize {
        self.hold_bytes
            .unwrap_or(ByteSize(self.body_bytes.0.min(DEFAULT_HOLD_BYTES)))
    }
}
