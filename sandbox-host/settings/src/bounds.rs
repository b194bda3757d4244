//! The limits on the connections of a listener, which proxies before it must not fall below.

use std::time::Duration;

use tensorgate_policy::policy::Limits;

/// The most connections of the data plane. A worker of a proxy keeps its own connections,
/// independent of its clients, and some more while it drains old ones. The memory budget and the
/// queues of backends and handlers limit the rest.
const HOP_CONNECTIONS: usize = 1_024;
/// The most streams of each of these connections. All clients of a worker share one, so a client's
/// own limit does not apply.
const HOP_STREAMS_PER_CONNECTION: u32 = 1_024;
/// The fields that the gate adds to a client's: the context, token claims, and what a proxy adds.
const OWN_FIELDS: usize = 32;
/// The bytes of those fields. The context repeats the path, so twice the policy's header limit is
/// added. This is for the claims, which the context repeats too.
const OWN_FIELD_BYTES: usize = 24 << 10;
/// The timeout of a connection's first request and of each HTTP/1.1 head from a gate, which never
/// needs it.
pub const GATE_HEAD_TIME: Duration = Duration::from_secs(30);

/// The limits on a listener's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Open connections.
    pub connections: usize,
    /// Streams of each connection.
    pub streams: u32,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Fields of a request's head.
    pub head_fields: usize,
    /// The timeout of the first request, and of each HTTP/1.1 head.
    pub head_time: Duration,
}

impl Bounds {
    /// The limits for requests from a gate with these limits. Connections belong to a proxy, not to
    /// a client, so the policy only limits the heads.
    pub fn from_limits(limits: &Limits) -> Self {
        Self {
            connections: HOP_CONNECTIONS,
            streams: HOP_STREAMS_PER_CONNECTION,
            head_bytes: limits
                .header_bytes
                .saturating_mul(2)
                .saturating_add(OWN_FIELD_BYTES),
            head_fields: limits.headers.saturating_add(OWN_FIELDS),
            head_time: GATE_HEAD_TIME,
        }
    }

    /// The wider of both limits.
    #[must_use]
    pub fn widest(self, other: Self) -> Self {
        Self {
            connections: self.connections.max(other.connections),
            streams: self.streams.max(other.streams),
            head_bytes: self.head_bytes.max(other.head_bytes),
            head_fields: self.head_fields.max(other.head_fields),
            head_time: self.head_time.max(other.head_time),
        }
    }
}
