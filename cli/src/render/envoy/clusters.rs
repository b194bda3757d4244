//! The way to the sandbox host: HTTP/2 over a Unix socket, with a bound on everything that can pile up.

use std::net::IpAddr;

use tensorgate_filter_core::host::RATE_LIMIT_CLUSTER;

use super::bounds::{Bounds, STREAM_WINDOW_BYTES};
use super::control_plane::ControlPlane;
use super::duration;
use crate::render::node::{Node, entries, list, map};

/// The cluster's name.
pub const HOST: &str = "tensorgate-host";
/// The cluster of the audit log; on a socket of its own, so that nothing that carries requests can write it.
pub const AUDIT: &str = "tensorgate-audit";
/// A Unix socket answers at once or not at all, milliseconds.
const CONNECT_MS: u64 = 1_000;
/// Connections to the host; each carries [`HOST_STREAMS`] requests. Fewer than the 1,024 that the host takes.
const HOST_CONNECTIONS: u32 = 64;
/// Requests on one connection to the host: fewer than the 1,024 that the host takes on each.
const HOST_STREAMS: u32 = 128;
/// HTTP/2 flow control window of a connection to the host, bytes: each of its streams can have a whole window of its own unread, as one has whose
/// client reads slowly, and the answers of the others come all the same.
const HOST_WINDOW_BYTES: u32 = HOST_STREAMS * STREAM_WINDOW_BYTES;
/// Questions to a rate limit service at once.
const LIMIT_QUESTIONS: u32 = 4_096;

/// The host's audit log: a stream for each worker.
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

/// The host's rate limit service.
pub fn limits(address: Node) -> Node {
    to_limits("STATIC", address)
}

/// Another rate limit service.
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

/// The way to a rate limit service: a question that finds too many others on theirs fails at once.
fn to_limits(kind: &str, address: Node) -> Node {
    map! {
        "name" => RATE_LIMIT_CLUSTER,
        "type" => kind,
        "connect_timeout" => duration(CONNECT_MS),
        "circuit_breakers" => map! {
            "thresholds" => list![map! {
                "max_pending_requests" => LIMIT_QUESTIONS,
                "max_requests" => LIMIT_QUESTIONS,
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

/// The sandbox host.
pub fn host(bounds: &Bounds, plane: ControlPlane, address: Node) -> Node {
    let requests = HOST_CONNECTIONS
        .saturating_mul(HOST_STREAMS)
        .min(bounds.connections.saturating_mul(bounds.streams));
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
                // A request is charged and judged once: nothing is sent a second time.
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
