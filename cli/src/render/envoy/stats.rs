//! The listener with which Prometheus reads Envoy's counters: `GET /stats/prometheus` of the admin
//! interface without a query, and nothing else of it.
//!
//! The admin interface can stop Envoy, so it is a Unix socket, which Prometheus cannot read. This
//! listener and its cluster are in the bootstrap, because no policy changes them. Readers need no
//! credential, so their number and their time are bounded.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::dynamic::Fixed;
use super::http::ignored_upgrades;
use super::{RenderError, RenderOptions, bounds, duration, pipe, socket_address};
use crate::render::node::{Node, list, map};

/// Default address. The host's page is at the port before it.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9903);
/// Path of the page.
pub const PATH: &str = "/stats/prometheus";
/// Name of the listener, of its counters and of the port of a container.
pub const NAME: &str = "stats";
/// Name of the admin interface's cluster.
const ADMIN: &str = "envoy-admin";
/// Maximum number of open connections.
const CONNECTIONS: u64 = 8;
/// Maximum number of pages that Envoy writes at the same time. Its main thread writes them, which
/// also takes new configuration.
const PAGES: u64 = 2;
/// Maximum size of a request's headers, KiB.
const HEADER_KIB: u64 = 4;
/// Maximum number of a request's headers.
const HEADERS: u64 = 40;
/// Timeout for a request, milliseconds.
const REQUEST_MS: u64 = 5_000;
/// Timeout for a page, milliseconds. It is the default of Prometheus.
const PAGE_MS: u64 = 10_000;
/// Idle timeout of a connection, milliseconds: the default interval of Prometheus, and a margin.
const CONNECTION_IDLE_MS: u64 = 75_000;
/// Timeout for a connection to the admin interface, milliseconds.
const CONNECT_MS: u64 = 1_000;

/// The listener and its cluster; neither if there is no address.
pub fn resources(options: &RenderOptions, gate: SocketAddr) -> Result<Fixed, RenderError> {
    let Some(address) = options.stats else {
        return Ok(Fixed::default());
    };
    if is_same(address, gate) {
        return Err(RenderError::StatsAddress(address));
    }
    Ok(Fixed {
        clusters: vec![cluster(pipe(&options.admin_socket)?)],
        listeners: vec![listener(address)],
    })
}

/// Whether only one listener can have these addresses. With port 0 the system chooses a free one.
/// `[::]` leaves IPv4 to others.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    let has_any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.is_ipv4() == other.is_ipv4()
        && (has_any || one.ip() == other.ip())
        && one.port() == other.port()
        && one.port() != 0
}

fn listener(address: SocketAddr) -> Node {
    let limit = map! {
        "@type" => "type.googleapis.com/envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
        "stat_prefix" => NAME,
        "max_connections" => CONNECTIONS,
    };
    map! {
        "name" => NAME,
        "address" => socket_address(address.ip().to_string(), address.port()),
        "per_connection_buffer_limit_bytes" => bounds::READ_BYTES,
        "enable_reuse_port" => false,
        // Clients that use all connections of the gate cannot hide its counters, and readers of
        // the counters take no connection from clients.
        "ignore_global_conn_limit" => true,
        "filter_chains" => list![map! {
            "filters" => list![
                map! {"name" => "envoy.filters.network.connection_limit", "typed_config" => limit},
                map! {
                    "name" => "envoy.filters.network.http_connection_manager",
                    "typed_config" => connection_manager(address.ip()),
                },
            ],
        }],
    }
}

fn connection_manager(address: IpAddr) -> Node {
    map! {
        "@type" => "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix" => NAME,
        "codec_type" => "HTTP1",
        "use_remote_address" => true,
        // No address counts as internal; this is the broadcast address. From internal addresses
        // Envoy would accept `x-envoy-*` headers, which change timeouts.
        "internal_address_config" => map! {
            "unix_sockets" => false,
            "cidr_ranges" => list![map! {"address_prefix" => "255.255.255.255", "prefix_len" => 32_u64}],
        },
        "generate_request_id" => false,
        "max_request_headers_kb" => HEADER_KIB,
        "request_headers_timeout" => duration(REQUEST_MS),
        "request_timeout" => duration(REQUEST_MS),
        "stream_idle_timeout" => duration(PAGE_MS),
        "common_http_protocol_options" => map! {
            "idle_timeout" => duration(CONNECTION_IDLE_MS),
            "max_stream_duration" => duration(PAGE_MS.saturating_add(REQUEST_MS)),
            "max_headers_count" => HEADERS,
        },
        "http_protocol_options" => map! {"ignore_http_11_upgrade" => ignored_upgrades()},
        "http_filters" => list![map! {
            "name" => "envoy.filters.http.router",
            "typed_config" => map! {
                "@type" => "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                "suppress_envoy_headers" => true,
            },
        }],
        "route_config" => routes(address),
    }
}

fn routes(address: IpAddr) -> Node {
    let mut entries = vec![
        ("name".to_owned(), NAME.into()),
        (
            "virtual_hosts".to_owned(),
            list![map! {
                "name" => NAME,
                "domains" => domains(address),
                // A request that no route matches gets 404.
                "routes" => list![map! {
                    "match" => map! {
                        "path" => PATH,
                        // `path` leaves out the query. The admin interface compiles its `filter`
                        // as a pattern, and matches it on the main thread.
                        "headers" => list![is_exactly(":method", "GET"), is_exactly(":path", PATH)],
                    },
                    "route" => map! {"cluster" => ADMIN, "timeout" => duration(PAGE_MS)},
                }],
            }],
        ),
    ];
    if address.is_loopback() {
        entries.push(("ignore_port_in_host_matching".to_owned(), true.into()));
    }
    Node::Map(entries)
}

/// The hosts that a request may name. A page in a browser on this machine can have its own name
/// resolve to a loopback address, and then read what is served there. At another address, readers
/// may know this machine by any name.
fn domains(address: IpAddr) -> Node {
    if !address.is_loopback() {
        return list!["*"];
    }
    let own = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let mut domains = vec!["localhost".to_owned(), "127.0.0.1".into(), "[::1]".into()];
    // Envoy rejects a domain that is listed twice.
    if !domains.contains(&own) {
        domains.push(own);
    }
    Node::List(domains.into_iter().map(Node::from).collect())
}

fn is_exactly(header: &str, value: &str) -> Node {
    map! {"name" => header, "string_match" => map! {"exact" => value}}
}

fn cluster(admin: Node) -> Node {
    map! {
        "name" => ADMIN,
        "type" => "STATIC",
        "connect_timeout" => duration(CONNECT_MS),
        "circuit_breakers" => map! {
            "thresholds" => list![map! {
                "max_connections" => PAGES,
                "max_pending_requests" => PAGES,
                "max_requests" => PAGES,
                "max_retries" => 0_u64,
            }],
        },
        "load_assignment" => map! {
            "cluster_name" => ADMIN,
            "endpoints" => list![map! {
                "lb_endpoints" => list![map! {"endpoint" => map! {"address" => admin}}],
            }],
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn at_a_loopback_address_requests_name_this_machine() {
        let local = ["localhost", "127.0.0.1", "[::1]"];
        for (address, expected) in [
            ("127.0.0.1", local.to_vec()),
            ("::1", local.to_vec()),
            ("127.0.0.2", [&local[..], &["127.0.0.2"]].concat()),
            ("0.0.0.0", vec!["*"]),
            ("::", vec!["*"]),
            ("192.0.2.1", vec!["*"]),
        ] {
            let expected = expected.into_iter().map(Node::from).collect();
            assert_eq!(
                domains(address.parse().unwrap()),
                Node::List(expected),
                "{address}"
            );
        }
    }

    #[test]
    fn one_address_cannot_have_two_listeners() {
        for (stats, gate, expected) in [
            ("127.0.0.1:9903", "127.0.0.1:9903", true),
            ("127.0.0.1:9903", "0.0.0.0:9903", true),
            ("[::]:9903", "[::1]:9903", true),
            ("[::]:9903", "127.0.0.1:9903", false),
            ("127.0.0.1:9903", "127.0.0.2:9903", false),
            ("127.0.0.1:9903", "127.0.0.1:8080", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let same = is_same(stats.parse().unwrap(), gate.parse().unwrap());
            assert_eq!(same, expected, "{stats} {gate}");
        }
    }
}
