//! A policy as an Envoy bootstrap: one listener with the gate filter in front of the sandbox host; either whole, or with
//! what a policy changes beside it, in files that Envoy follows ([`dynamic`]).
//!
//! What a policy says, it says to the filter and to the host; this writes down what Envoy itself must keep: the bounds
//! of its codecs and buffers, and what it answers by itself.

mod access_log;
pub mod bounds;
mod clusters;
pub mod control_plane;
pub mod dynamic;
mod gate_filter;
mod http;
pub mod key_sets;
mod local_reply;
mod overload;
pub mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;

use tensorgate_filter_core::listener_bounds::ListenerBounds;
use tensorgate_policy::policy::{Counter, RateLimitService};
use tensorgate_policy::{Bundle, Policy};

use super::node::{Node, list, map};
use crate::chain::can_keep;
use bounds::Bounds;
use control_plane::ControlPlane;
use dynamic::{Filter, Form, Resource};

/// Where things are on the machine that Envoy runs on.
#[derive(Clone, Debug)]
pub struct Places {
    /// What configures that Envoy.
    pub control_plane: ControlPlane,
    /// Where the gate listens, if not where the policy says.
    pub listen: Option<SocketAddr>,
    /// The folder of the filters' modules.
    pub filters: PathBuf,
    /// Which of them stand in front of the host, in order.
    pub chain: Vec<tensorgate_filter_core::filter::Filter>,
    /// The sandbox host's socket.
    pub host_socket: PathBuf,
    /// Envoy's own admin socket.
    pub admin_socket: PathBuf,
    /// The host's socket for the audit log.
    pub audit_socket: PathBuf,
    /// The host's socket for what gateways share.
    pub limits_socket: PathBuf,
    /// The folder that certificates of the policy are relative to.
    pub root: PathBuf,
    /// The folder of the files of secrets ([`tls`]), where the policy has TLS.
    pub secrets: PathBuf,
    /// The authorities that the system believes, PEM.
    pub system_authorities: PathBuf,
}

/// Why a policy cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// Envoy reads text.
    #[error("the path {} is not text", .0.display())]
    Path(PathBuf),
    /// `sun_path` of a Unix socket address holds 108 bytes, the closing zero included.
    #[error("the socket path {} is longer than {MAX_SOCKET_PATH} bytes", .0.display())]
    SocketPath(PathBuf),
    /// Envoy watches the authorities' folder, and no other for their lists.
    #[error(
        "listen.tls.client_crl: {} has to lie in the folder of listen.tls.client_ca, {}: Envoy watches that alone, and would never take up a list that is renamed into another", crl.display(), ca.display()
    )]
    Folders {
        /// The authorities.
        ca: PathBuf,
        /// Their lists.
        crl: PathBuf,
    },
    /// The policy has a limit that the chain cannot keep.
    #[error("{0}")]
    Chain(String),
    /// The policy cannot be written as JSON.
    #[error("cannot write the policy as json: {0}")]
    Json(#[from] serde_json::Error),
}

/// Longest path of a Unix socket, bytes.
pub const MAX_SOCKET_PATH: usize = 107;
/// Owner only.
const SOCKET_MODE: u64 = 0o600;

/// What a policy becomes, in one form.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// What Envoy starts with.
    pub bootstrap: Node,
    /// What it looks up beside, in the order in which a change of them must reach it; empty for a bootstrap that is whole.
    pub resources: Vec<Resource>,
    /// What the listener lets a filter hold of a body, bytes.
    pub buffer_bytes: u64,
}

/// Renders.
pub fn render(
    policy: &Policy,
    bundle: &Bundle,
    places: &Places,
    form: Form<'_>,
) -> Result<Rendered, RenderError> {
    let plane = places.control_plane;
    can_keep(&places.chain, plane.headers(), policy).map_err(RenderError::Chain)?;
    let bounds = Bounds::of(policy.listen().limits());
    let address = places.listen.unwrap_or(policy.listen().address());
    let chain = places.chain.iter().enumerate();
    let filters = chain
        .map(|(position, filter)| gate_filter::filter(*filter, position, policy, bundle, places))
        .collect::<Result<Vec<_>, _>>()?;
    let mut clusters = vec![
        clusters::host(&bounds, plane, pipe(&places.host_socket)?),
        clusters::audit(pipe(&places.audit_socket)?),
        limits_way(policy, places)?,
    ];
    for (issuer, url) in key_sets::of(policy) {
        clusters.push(key_sets::way(issuer, url, places)?);
    }
    let listeners = vec![listener(policy, address, &bounds, &filters, places, form)?];
    let apart = if plane.filters_in_listener() {
        Vec::new()
    } else {
        filters
    };
    let (sources, resources) = form.place(clusters, listeners, apart, &bundle.generation)?;
    let mut entries = vec![
        // Nothing of the policy's: a bootstrap that a change of policy leaves as it is needs no restart.
        (
            "node".to_owned(),
            map! {"id" => "tensorgate", "cluster" => "tensorgate"},
        ),
        (
            "admin".to_owned(),
            map! {"address" => pipe(&places.admin_socket)?},
        ),
    ];
    entries.extend(sources);
    if let Node::Map(rest) = process(&bounds) {
        entries.extend(rest);
    }
    Ok(Rendered {
        bootstrap: Node::Map(entries),
        resources,
        buffer_bytes: plane.held_bytes(&bounds),
    })
}

/// The way to the rate limit service: the host's, unless the policy names another. It is there whatever the policy has: a filter of the policy
/// before must not lose it a moment before it gives way.
fn limits_way(policy: &Policy, places: &Places) -> Result<Node, RenderError> {
    let counter = policy.rate_limit_service().map(RateLimitService::counter);
    Ok(match counter {
        Some(Counter::Endpoint { host, port }) => clusters::other_limits(host, *port),
        Some(Counter::Redis(_)) | None => clusters::limits(pipe(&places.limits_socket)?),
    })
}

/// What is the process's own, and cannot change while it runs.
fn process(bounds: &Bounds) -> Node {
    map! {
        // One request of a connection at a time comes out of a read: a flood of streams that are opened and reset at once
        // (CVE-2023-44487) is seen by Envoy before it becomes a flood at the host.
        "layered_runtime" => map! {
            "layers" => list![map! {
                "name" => "gate",
                "static_layer" => map! {
                    "http.max_requests_per_io_cycle" => 1_u64,
                    // Envoy's own bound is 32 MiB.
                    "http.async_response_buffer_limit" => key_sets::ANSWER_BYTES,
                },
            }],
        },
        "overload_manager" => overload::manager(bounds),
        "memory_allocator_manager" => overload::allocator(),
        "stats_config" => map! {"stats_tags" => gate_filter::stats_tags()},
    }
}

fn listener(
    policy: &Policy,
    address: SocketAddr,
    bounds: &Bounds,
    filters: &[Filter],
    places: &Places,
    form: Form<'_>,
) -> Result<Node, RenderError> {
    let limits = policy.listen().limits();
    let plane = places.control_plane;
    let mut chain = Vec::new();
    if plane.stream_ms(bounds).is_some() {
        // Filters of a later policy run on connections of this listener, and read here what it enforces.
        let name = ListenerBounds::name(limits.stream_ms, limits.hold_bytes);
        chain.push(("name".to_owned(), Node::from(name)));
    }
    if let Some(tls) = policy.listen().tls() {
        chain.push((
            "transport_socket".to_owned(),
            tls::transport_socket(tls, places)?,
        ));
        // Envoy itself waits for ever.
        let handshake = Node::from(duration(bounds.handshake_ms));
        chain.push(("transport_socket_connect_timeout".to_owned(), handshake));
    }
    chain.push((
        "filters".to_owned(),
        list![map! {
            "name" => "envoy.filters.network.http_connection_manager",
            "typed_config" => http::connection_manager(policy.listen(), bounds, filters, plane, form)?,
        }],
    ));
    let socket =
        map! {"address" => address.ip().to_string(), "port_value" => u32::from(address.port())};
    let mut listener = vec![
        ("name".to_owned(), Node::from("gate")),
        ("address".to_owned(), map! {"socket_address" => socket}),
    ];
    // What one read brings. How much of a body a filter may hold is the route's to say.
    if let Some(bytes) = plane.connection_buffer_bytes() {
        let limit = "per_connection_buffer_limit_bytes";
        listener.push((limit.to_owned(), bytes.into()));
    }
    listener.extend([
        // Off, so that no other process can bind the same port and take a share of its connections.
        ("enable_reuse_port".to_owned(), false.into()),
        ("filter_chains".to_owned(), list![Node::Map(chain)]),
    ]);
    if policy.listen().tls().is_some() {
        listener.push(("access_log".to_owned(), access_log::tls()));
    }
    Ok(Node::Map(listener))
}

/// A Unix socket's address.
fn pipe(path: &std::path::Path) -> Result<Node, RenderError> {
    if path.as_os_str().len() > MAX_SOCKET_PATH {
        return Err(RenderError::SocketPath(path.to_owned()));
    }
    Ok(map! {"pipe" => map! {"path" => text(path)?, "mode" => SOCKET_MODE}})
}

fn text(path: &std::path::Path) -> Result<&str, RenderError> {
    path.to_str()
        .ok_or_else(|| RenderError::Path(path.to_owned()))
}

/// Milliseconds in protobuf's JSON form.
fn duration(ms: u64) -> String {
    let (s, ms) = (
        ms.checked_div(1000).unwrap_or_default(),
        ms.checked_rem(1000).unwrap_or_default(),
    );
    if ms == 0 {
        format!("{s}s")
    } else {
        format!("{s}.{ms:03}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_their_milliseconds() {
        for (ms, expected) in [(0, "0s"), (5000, "5s"), (1, "0.001s"), (1050, "1.050s")] {
            assert_eq!(duration(ms), expected);
        }
    }
}
