//! Envoy clusters of the sandbox host: HTTP/2 over Unix sockets, or over TCP with mutual TLS, with
//! bounded queues and buffers.

use std::net::IpAddr;

use tensorgate_filter_core::host::RATE_LIMIT_CLUSTER;

use super::bounds::{Bounds, STREAM_WINDOW_BYTES};
use super::control_plane::ControlPlane;
use super::remote_host::Endpoint;
use super::{duration, socket_address};
use crate::render::node::{Node, entries, list, map};

/// Name of the host's cluster.
pub const HOST: &str = "tensorgate-host";
/// Name of the audit log's cluster. It has a dedicated socket, so that request connections cannot
/// write to the log.
pub const AUDIT: &str = "tensorgate-audit";
/// Connect timeout, milliseconds. A Unix socket answers immediately or not at all.
const CONNECT_MS: u64 = 1_000;
/// Connect timeout over a network, with the TLS handshake, milliseconds. It covers one segment that
/// is lost. Another host is tried after it.
const NETWORK_CONNECT_MS: u64 = 2_000;
/// Interval of HTTP/2 pings on a connection over a network, milliseconds. Requests would otherwise
/// go to a machine that has vanished until TCP gives up, which takes 15 minutes.
const PING_MS: u64 = 10_000;
/// Timeout of such a ping, milliseconds.
const PONG_MS: u64 = 5_000;
/// Connections to the host; each carries [`HOST_STREAMS`] requests. The host accepts 1,024
/// connections.
pub const HOST_CONNECTIONS: u32 = 64;
/// Requests per connection to the host. The host accepts 1,024 per connection.
pub const HOST_STREAMS: u32 = 128;
/// HTTP/2 flow control window of a connection to the host, bytes. It covers a full window per
/// stream, so slow readers do not delay the responses of other streams.
pub const HOST_WINDOW_BYTES: u32 = HOST_STREAMS * STREAM_WINDOW_BYTES;
/// Maximum number of concurrent requests to a rate limit service.
const LIMIT_REQUESTS: u32 = 4_096;

/// Where a cluster leads, and how Envoy connects to it.
pub struct Target {
    kind: &'static str,
    addresses: Vec<Node>,
    /// The transport socket of connections over a network.
    tls: Option<Node>,
}

impl Target {
    /// A Unix socket.
    pub fn socket(address: Node) -> Self {
        Self {
            kind: "STATIC",
            addresses: vec![address],
            tls: None,
        }
    }

    /// Ports on other machines, in turn.
    pub fn over_tls(endpoints: &[Endpoint], tls: Node) -> Self {
        Self {
            kind: if endpoints.iter().any(Endpoint::is_name) {
                "STRICT_DNS"
            } else {
                "STATIC"
            },
            addresses: endpoints.iter().map(Endpoint::address).collect(),
            tls: Some(tls),
        }
    }

    /// The first entries of a cluster.
    fn head(&self, name: &str) -> Vec<(String, Node)> {
        let connect_ms = match self.tls {
            Some(_) => NETWORK_CONNECT_MS,
            None => CONNECT_MS,
        };
        entries(map! {
            "name" => name,
            "type" => self.kind,
            "connect_timeout" => duration(connect_ms),
        })
    }

    /// The last entries of a cluster. `http2`: options of the protocol.
    fn tail(self, name: &str, http2: Node) -> Vec<(String, Node)> {
        let mut http2 = entries(http2);
        if self.tls.is_some() {
            http2.push((
                "connection_keepalive".to_owned(),
                map! {"interval" => duration(PING_MS), "timeout" => duration(PONG_MS)},
            ));
        }
        let endpoints: Vec<Node> = (self.addresses.into_iter())
            .map(|address| map! {"endpoint" => map! {"address" => address}})
            .collect();
        let mut tail = entries(map! {
            "typed_extension_protocol_options" => map! {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions" => map! {
                    "@type" => "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config" => map! {"http2_protocol_options" => Node::Map(http2)},
                },
            },
            "load_assignment" => map! {
                "cluster_name" => name,
                "endpoints" => list![map! {"lb_endpoints" => endpoints}],
            },
        });
        if let Some(tls) = self.tls {
            tail.push(("lb_policy".to_owned(), "ROUND_ROBIN".into()));
            if self.kind == "STRICT_DNS" {
                tail.push(("dns_lookup_family".to_owned(), "V4_PREFERRED".into()));
            }
            tail.push(("transport_socket".to_owned(), tls));
        }
        tail
    }
}

/// The cluster of the host's audit log, with one stream per worker.
pub fn audit(target: Target) -> Node {
    let mut cluster = target.head(AUDIT);
    cluster.extend(target.tail(AUDIT, map! {}));
    Node::Map(cluster)
}

/// The cluster of the rate limit service of hosts, or of an external one. When too many requests
/// are pending, further ones fail immediately.
pub fn limits(target: Target) -> Node {
    let mut cluster = target.head(RATE_LIMIT_CLUSTER);
    cluster.push((
        "circuit_breakers".to_owned(),
        map! {
            "thresholds" => list![map! {
                "max_pending_requests" => LIMIT_REQUESTS,
                "max_requests" => LIMIT_REQUESTS,
                "max_retries" => 0_u64,
            }],
        },
    ));
    cluster.extend(target.tail(RATE_LIMIT_CLUSTER, map! {}));
    Node::Map(cluster)
}

/// The cluster of an external rate limit service.
pub fn other_limits(host: &str, port: u16) -> Node {
    let kind = if host.parse::<IpAddr>().is_ok() {
        "STATIC"
    } else {
        "STRICT_DNS"
    };
    limits(Target {
        kind,
        addresses: vec![socket_address(host, port)],
        tls: None,
    })
}

/// Maximum number of concurrent requests to the sandbox host.
pub fn host_requests(bounds: &Bounds) -> u32 {
    HOST_CONNECTIONS
        .saturating_mul(HOST_STREAMS)
        .min(bounds.connections.saturating_mul(bounds.streams))
}

/// The cluster of the sandbox host.
pub fn host(bounds: &Bounds, plane: ControlPlane, target: Target) -> Node {
    let requests = host_requests(bounds);
    let mut cluster = target.head(HOST);
    if let Some(bytes) = plane.connection_buffer_bytes() {
        let limit = "per_connection_buffer_limit_bytes";
        cluster.push((limit.to_owned(), bytes.into()));
    }
    // Each request is charged and checked once. Over a network, the routes send a request again
    // that no host has processed (`remote_host::retry_policy`).
    let retries = match target.tls {
        Some(_) => requests,
        None => 0,
    };
    cluster.push((
        "circuit_breakers".to_owned(),
        map! {
            "thresholds" => list![map! {
                "max_connections" => HOST_CONNECTIONS,
                "max_pending_requests" => requests,
                "max_requests" => requests,
                "max_retries" => retries,
            }],
        },
    ));
    let http2 = map! {
        "max_concurrent_streams" => HOST_STREAMS,
        "initial_stream_window_size" => STREAM_WINDOW_BYTES,
        "initial_connection_window_size" => HOST_WINDOW_BYTES,
    };
    cluster.extend(target.tail(HOST, http2));
    Node::Map(cluster)
}
