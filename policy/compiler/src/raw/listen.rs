//! The listener and its limits.

use serde::{Deserialize, Serialize};
use tensorgate_policy::values::Health;

use super::{ApiKeyLocations, ByteSize, Tls};

/// The listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Listen {
    /// Listening `address:port`.
    pub address: String,
    /// Number of trusted proxies in front, for `x-forwarded-for`, counted from the gate outwards.
    #[serde(skip_serializing_if = "is_zero")]
    pub trusted_hops: u64,
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
            trusted_hops: 0,
            tls: None,
            api_key: None,
            health: Health::Clients,
            judge: None,
            judge_bytes: None,
            limits: Limits::default(),
        }
    }
}

const fn is_zero(number: &u64) -> bool {
    *number == 0
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Limits {
    /// Size of all header names and values of a request.
    pub header_bytes: ByteSize,
    /// Header fields per request.
    pub headers: u64,
    /// Size of a request body. Bodies larger than `hold_bytes` are streamed, which is possible for
    /// binary tensors: OIP's binary data extension, and gRPC with raw contents. Not without a host
    /// under limits of scope `global`: there a body waits whole.
    pub body_bytes: ByteSize,
    /// Maximum buffered size of one body. Other formats and compressed bodies must fit.
    /// `body_bytes`, but at most 8 MiB, by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_bytes: Option<ByteSize>,
    /// Maximum expansion ratio of compressed bodies beyond 1 MiB, for models with `encodings`.
    /// `hold_bytes` limits the expanded size too.
    #[serde(skip_serializing_if = "is_default_expansion")]
    pub max_expansion: u64,
    /// Buffered bodies of all streams together.
    pub buffered_bytes: ByteSize,
    /// From the last byte of a request to its response.
    pub timeout_ms: u64,
    /// A whole stream, including a slow upload.
    pub stream_ms: u64,
    /// TLS handshake of a connection.
    #[serde(skip_serializing_if = "is_default_handshake")]
    pub handshake_ms: u64,
    /// A connection without a request, including one that never sent any.
    #[serde(skip_serializing_if = "is_default_idle")]
    pub idle_ms: u64,
    /// Open connections.
    pub connections: u64,
    /// HTTP/2 streams per connection.
    pub streams_per_connection: u64,
    /// Open inference streams (`ModelStreamInfer`) per client, including idle ones.
    #[serde(skip_serializing_if = "is_default_streams")]
    pub streams_per_client: u64,
}

/// Default buffered size of one body: an image of 224 x 224 x 3 floats is 600 KB in raw form and up
/// to five times that as JSON.
const DEFAULT_HOLD_BYTES: u64 = 8 << 20;

/// Default expansion ratio: JSON of floats compresses three to five times, a mask or a sparse
/// tensor about ten times.
const DEFAULT_MAX_EXPANSION: u64 = 20;

const fn is_default_expansion(ratio: &u64) -> bool {
    *ratio == DEFAULT_MAX_EXPANSION
}

/// Default inference streams per client. Each uses one of the proxy's few thousand streams to the
/// sandbox host, even while idle.
const DEFAULT_STREAMS_PER_CLIENT: u64 = 16;

const fn is_default_streams(streams: &u64) -> bool {
    *streams == DEFAULT_STREAMS_PER_CLIENT
}

/// Twice a handshake over a slow network with losses.
const DEFAULT_HANDSHAKE_MS: u64 = 10_000;

const fn is_default_handshake(ms: &u64) -> bool {
    *ms == DEFAULT_HANDSHAKE_MS
}

const DEFAULT_IDLE_MS: u64 = 60_000;

const fn is_default_idle(ms: &u64) -> bool {
    *ms == DEFAULT_IDLE_MS
}

impl Limits {
    /// Maximum buffered size of one body.
    pub fn hold_bytes(&self) -> ByteSize {
        self.hold_bytes
            .unwrap_or(ByteSize(self.body_bytes.0.min(DEFAULT_HOLD_BYTES)))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: ByteSize(16 << 10),
            headers: 64,
            body_bytes: ByteSize(8 << 20),
            hold_bytes: None,
            max_expansion: DEFAULT_MAX_EXPANSION,
            buffered_bytes: ByteSize(256 << 20),
            timeout_ms: 5_000,
            stream_ms: 60_000,
            handshake_ms: DEFAULT_HANDSHAKE_MS,
            idle_ms: DEFAULT_IDLE_MS,
            connections: 1_024,
            streams_per_connection: 100,
            streams_per_client: DEFAULT_STREAMS_PER_CLIENT,
        }
    }
}
