//! Envoy clusters of the sandbox host: HTTP/2 over Unix sockets, with bounded queues and buffers.

use std::net::IpAddr;

use tensorgate_filter_core::host::RATE_LIMIT_CLUSTER;

use super::bounds::{Bounds, STREAM_WINDOW_BYTES};
use super::control_plane::ControlPlane;
use super::duration;
use crate::render::node::{Node, entries, list, map};

/// Name of the host's cluster.
pub const HOST: &str = "tensorgate-host";
/// Name of the audit log's cluster. It has a dedicated socket, so that request connections cannot
/// write to the log.
pub const AUDIT: &str = "tensorgate-audit";
/// Connect timeout, milliseconds. A Unix socket answers immediately or not at all.
const CONNECT_MS: u64 = 1_000;
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

/// The cluster of the host's audit log, with one stream per worker.
pub fn audit(address: Node) -> Node {
    map! {
        "name" => AUDIT,
        "type" => "STATIC",
        "connect_timeout" => duration(CONNECT_MS),
        "typed_extension_protocol_options" => map! {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions" => map! {
                "@type" => "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config" => map! {"http2_protocol_options" => map! {}},
            },
        },
        "load_assignment" => map! {
            "cluster_name" => AUDIT,
            "endpoints" => list![map! {"lb_endpoints" => list![map! {"endpoint" => map! {"address" => address}}]}],
        },
    }
}

/// The cluster of the host's rate limit service.
pub fn limits(address: Node) -> Node {
    to_limits("STATIC", address)
}

/// The cluster of an external rate limit service.
pub fn other_limits(host: &str, port: u16) -> Node {
    let kind = if host.parse::<IpAddr>().is_ok() {
        "STATIC"
    } else {
        "STRICT_DNS"
    };
    let address =
        map! {"socket_address" => map! {"address" => host, "port_value" => u32::from(port)}};
    to_limits(kind, address)
}

/// The cluster of a rate limit service. When too many requests are pending, further ones fail
/// immediately.
fn to_limits(kind: &str, address: Node) -> Node {
    map! {
        "name" => RATE_LIMIT_CLUSTER,
        "type" => kind,
        "connect_timeout" => duration(CONNECT_MS),
        "circuit_breakers" => map! {
            "thresholds" => list![map! {
                "max_pending_requests" => LIMIT_REQUESTS,
                "max_requests" => LIMIT_REQUESTS,
                "max_retries" => 0_u64,
            }],
        },
        "typed_extension_protocol_options" => map! {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions" => map! {
                "@type" => "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config" => map! {"http2_protocol_options" => map! {}},
            },
        },
        "load_assignment" => map! {
            "cluster_name" => RATE_LIMIT_CLUSTER,
            "endpoints" => list![map! {"lb_endpoints" => list![map! {"endpoint" => map! {"address" => address}}]}],
        },
    }
}

/// Maximum number of concurrent requests to the sandbox host.
pub fn host_requests(bounds: &Bounds) -> u32 {
    HOST_CONNECTIONS
        .saturating_mul(HOST_STREAMS)
        .min(bounds.connections.saturating_mul(bounds.streams))
}

/// The cluster of the sandbox host.
pub fn host(bounds: &Bounds, plane: ControlPlane, address: Node) -> Node {
    let requests = host_requests(bounds);
    let mut cluster = vec![
        ("name".to_owned(), HOST.into()),
        ("type".to_owned(), "STATIC".into()),
        ("connect_timeout".to_owned(), duration(CONNECT_MS).into()),
    ];
    if let Some(bytes) = plane.connection_buffer_bytes() {
        let limit = "per_connection_buffer_limit_bytes";
        cluster.push((limit.to_owned(), bytes.into()));
    }
    cluster.extend(entries(map! {
        "circuit_breakers" => map! {
            "thresholds" => list![map! {
                "max_connections" => HOST_CONNECTIONS,
                "max_pending_requests" => requests,
                "max_requests" => requests,
                // No retries: each request is charged and checked once.
                "max_retries" => 0_u64,
            }],
        },
        "typed_extension_protocol_options" => map! {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions" => map! {
                "@type" => "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config" => map! {
                    "http2_protocol_options" => map! {
                        "max_concurrent_streams" => HOST_STREAMS,
                        "initial_stream_window_size" => STREAM_WINDOW_BYTES,
                        "initial_connection_window_size" => HOST_WINDOW_BYTES,
                    },
                },
            },
        },
        "load_assignment" => map! {
            "cluster_name" => HOST,
            "endpoints" => list![map! {"lb_endpoints" => list![map! {"endpoint" => map! {"address" => address}}]}],
        },
    }));
    Node::Map(cluster)
}
