//! Where the gate listens, and what of a connection and a request it reads.

use alloc::string::String;
use serde::{Deserialize, Serialize};

use super::{ApiKeyPlaces, ByteSize, Tls};

/// The listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Listen {
    /// `address:port` of the gate.
    pub address: String,
    /// Proxies in front of the gate whose `x-forwarded-for` is believed, counted from the gate outwards.
    #[serde(skip_serializing_if = "is_zero")]
    pub trusted_hops: u64,
    /// TLS; plain text without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Where a request may carry an API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKeyPlaces>,
    /// `public` lets live and ready through without a credential; `clients` asks for one.
    pub health: Health,
    /// Bounds on what is read.
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
            limits: Limits::default(),
        }
    }
}

const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Who may ask whether the gate is alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Health {
    /// Anybody.
    Public,
    /// Known clients.
    #[default]
    Clients,
}

/// Bounds on what the gate reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Limits {
    /// All header names and values of a request together.
    pub header_bytes: ByteSize,
    /// Header fields a request.
    pub headers: u64,
    /// A request's body. Larger ones than `hold_bytes` are checked as they pass, which binary tensors can be: OIP's binary data
    /// extension, and gRPC with raw contents.
    pub body_bytes: ByteSize,
    /// What is held of one body until it is judged: what is not binary, and what is compressed, whole; `body_bytes`, but at most 8 MiB, unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_bytes: Option<ByteSize>,
    /// Bytes that one byte of a compressed body may stand for, where a model takes `encodings`. What it expands to is bounded by
    /// `hold_bytes` too.
    #[serde(skip_serializing_if = "is_default_expansion")]
    pub max_expansion: u64,
    /// Bodies held at once, all streams together.
    pub buffered_bytes: ByteSize,
    /// From the last byte of a request to its answer.
    pub timeout_ms: u64,
    /// A whole stream, the slow upload of a body included.
    pub stream_ms: u64,
    /// A connection's TLS handshake, from its first packet on.
    #[serde(skip_serializing_if = "is_default_handshake")]
    pub handshake_ms: u64,
    /// A connection without a request, one over which nothing ever came included.
    #[serde(skip_serializing_if = "is_default_idle")]
    pub idle_ms: u64,
    /// Open connections.
    pub connections: u64,
    /// HTTP/2 streams a connection.
    pub streams_per_connection: u64,
    /// Streams of inferences (`ModelStreamInfer`) that one client may have open, idle ones included.
    #[serde(skip_serializing_if = "is_default_streams")]
    pub streams_per_client: u64,
}

/// What is held of one body unless a policy says otherwise: an image of 224 x 224 x 3 floats is 600 KB in raw form and up to five times
/// that as JSON.
const DEFAULT_HOLD_BYTES: u64 = 8 << 20;

/// What one byte may stand for unless a policy says otherwise: JSON of floats is compressed three to five times, a mask or a sparse tensor
/// some ten.
const DEFAULT_MAX_EXPANSION: u64 = 20;

const fn is_default_expansion(ratio: &u64) -> bool {
    *ratio == DEFAULT_MAX_EXPANSION
}

/// Streams of inferences that one client may have open unless a policy says otherwise: each takes one of the proxy's streams to the sandbox host,
/// of which there are some thousands for everybody, whether or not anything comes over it.
const DEFAULT_STREAMS_PER_CLIENT: u64 = 16;

const fn is_default_streams(streams: &u64) -> bool {
    *streams == DEFAULT_STREAMS_PER_CLIENT
}

/// A handshake that goes over a slow network with losses, twice.
const DEFAULT_HANDSHAKE_MS: u64 = 10_000;

const fn is_default_handshake(ms: &u64) -> bool {
    *ms == DEFAULT_HANDSHAKE_MS
}

const DEFAULT_IDLE_MS: u64 = 60_000;

const fn is_default_idle(ms: &u64) -> bool {
    *ms == DEFAULT_IDLE_MS
}

impl Limits {
    /// What is held of one body.
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
