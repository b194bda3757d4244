//! The way to the sandbox host: HTTP/2 over a Unix socket, with a bound on everything that can pile up.

use super::bounds::{Bounds, CONNECTION_WINDOW_BYTES, READ_BYTES, STREAM_WINDOW_BYTES};
use super::duration;
use crate::render::node::{Node, list, map};

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

/// The sandbox host.
pub fn host(bounds: &Bounds, address: Node) -> Node {
    let requests = HOST_CONNECTIONS
        .saturating_mul(HOST_STREAMS)
        .min(bounds.connections.saturating_mul(bounds.streams));
    map! {
        "name" => HOST,
        "type" => "STATIC",
        "connect_timeout" => duration(CONNECT_MS),
        "per_connection_buffer_limit_bytes" => u64::from(READ_BYTES),
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
                        "initial_connection_window_size" => CONNECTION_WINDOW_BYTES,
                    },
                },
            },
        },
        "load_assignment" => map! {
            "cluster_name" => HOST,
            "endpoints" => list![map! {"lb_endpoints" => list![map! {"endpoint" => map! {"address" => address}}]}],
        },
    }
}
