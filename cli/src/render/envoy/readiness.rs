//! The listener of the readiness probe ([`tensorgate_wire::readiness`]): a Unix socket of the pod
//! with the gate's filter, without TLS, access log and credentials.
//!
//! Envoy listens, and is live, without a filter that it could not load. Only a filter with its
//! configuration signs the probe, and only a host with the same key confirms it.

use std::path::Path;

use tensorgate_wire::readiness::{FILTER_CHAIN, PATH};

use super::dynamic::{Filter, Form};
use super::{RenderError, RenderOptions, bounds, clusters, duration, pipe};
use crate::render::node::{Node, list, map};

/// Name of the listener and of its counters.
const NAME: &str = "ready";
/// Timeout of a probe, milliseconds. A host in the same pod answers immediately or not at all.
const PROBE_MS: u64 = 2_000;
/// Idle timeout of a connection, milliseconds.
const CONNECTION_IDLE_MS: u64 = 10_000;

/// The listener at this socket.
pub fn listener(
    socket: &Path,
    filters: &[Filter],
    options: &RenderOptions,
    form: Form<'_>,
) -> Result<Node, RenderError> {
    let mut chain = (filters.iter())
        .map(|filter| options.control_plane.filter_entry(filter, form))
        .collect::<Result<Vec<_>, _>>()?;
    chain.push(map! {
        "name" => "envoy.filters.http.router",
        "typed_config" => map! {
            "@type" => "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            "suppress_envoy_headers" => true,
        },
    });
    let manager = map! {
        "@type" => "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix" => NAME,
        "codec_type" => "HTTP1",
        "generate_request_id" => false,
        "request_headers_timeout" => duration(PROBE_MS),
        "request_timeout" => duration(PROBE_MS),
        "stream_idle_timeout" => duration(PROBE_MS),
        // By default Envoy keeps a connection open for a second after its last answer. The probe
        // waits for its end.
        "delayed_close_timeout" => duration(0),
        "common_http_protocol_options" => map! {"idle_timeout" => duration(CONNECTION_IDLE_MS)},
        "http_filters" => chain,
        "route_config" => map! {
            "name" => NAME,
            "virtual_hosts" => list![map! {
                "name" => NAME,
                "domains" => list!["*"],
                // A request that no route matches gets 404, if the filter lets it pass.
                "routes" => list![map! {
                    "match" => map! {"path" => PATH},
                    "route" => map! {
                        "cluster" => clusters::HOST,
                        "timeout" => duration(PROBE_MS),
                        // The cluster's bounds for requests of clients do not apply.
                        "priority" => "HIGH",
                    },
                }],
            }],
        },
    };
    Ok(map! {
        "name" => NAME,
        "address" => pipe(socket)?,
        "per_connection_buffer_limit_bytes" => bounds::READ_BYTES,
        "enable_reuse_port" => false,
        // A busy gate sheds load and is still ready: its clients would otherwise go to fewer pods.
        "ignore_global_conn_limit" => true,
        "bypass_overload_manager" => true,
        "filter_chains" => list![map! {
            "name" => FILTER_CHAIN,
            "filters" => list![map! {
                "name" => "envoy.filters.network.http_connection_manager",
                "typed_config" => manager,
            }],
        }],
    })
}
