//! Renders a policy as an Envoy bootstrap: one listener with the gate filter in front of the
//! sandbox host.
//!
//! The changeable parts are either in the bootstrap or in separate files that Envoy watches
//! ([`dynamic`]).
//!
//! The filter and the host enforce the policy. This module renders what Envoy itself must enforce:
//! limits of codecs and buffers, and local replies.

pub mod access_log;
pub mod bounds;
pub mod clusters;
pub mod control_plane;
mod driver;
pub mod dynamic;
pub mod gate_filter;
pub mod http;
pub mod key_sets;
pub mod local_reply;
mod overload;
mod readiness;
pub mod remote_host;
pub mod stats;
pub mod tls;
mod tracing;

use std::net::SocketAddr;
use std::path::PathBuf;

use tensorgate_filter_core::host::ListenerBounds;
use tensorgate_policy::Policy;
use tensorgate_policy::compiled::FilterConfigurationFault;
use tensorgate_policy::policy::{Counter, RateLimitService};
use tensorgate_policy_compiler::Version;

use super::node::{Node, entries, list, map};
use bounds::Bounds;
use clusters::Target;
use control_plane::ControlPlane;
pub use driver::{Driver, release};
use dynamic::{Filter, Form, Resource};
use remote_host::RemoteHosts;

/// Rendering options: paths on Envoy's machine, the control plane and the filter chain.
#[derive(Clone, Debug)]
pub struct RenderOptions {
    /// The system that configures Envoy.
    pub control_plane: ControlPlane,
    /// Overrides the policy's listen address.
    pub listen: Option<SocketAddr>,
    /// How Envoy runs the filters.
    pub driver: Driver,
    /// Folder of the filters' modules.
    pub filters: PathBuf,
    /// The filters in front of the host, in order.
    pub chain: Vec<tensorgate_filter_core::filter::Filter>,
    /// Socket of the sandbox host.
    pub host_socket: PathBuf,
    /// Envoy's admin socket.
    pub admin_socket: PathBuf,
    /// Socket of the readiness probe ([`readiness`]); none if absent.
    pub ready_socket: Option<PathBuf>,
    /// Where Prometheus reads Envoy's counters ([`stats`]); nowhere if absent.
    pub stats: Option<SocketAddr>,
    /// The host's socket for the audit log.
    pub audit_socket: PathBuf,
    /// The host's socket for shared rate limits.
    pub limits_socket: PathBuf,
    /// Hosts on other machines, instead of the three sockets.
    pub remote_hosts: Option<RemoteHosts>,
    /// Folder that certificate paths are relative to.
    pub root: PathBuf,
    /// Folder of the secret files ([`tls`]), if the policy has TLS or a host is remote.
    pub secrets: PathBuf,
    /// The system's certificate authorities, PEM.
    pub system_authorities: PathBuf,
    /// Whether a sandbox host is behind the filters.
    pub sandbox_host: bool,
    /// Whether Envoy is alone in a container. Its overload manager then counts all memory of the
    /// container. Elsewhere it could not start: the root of cgroup v2 counts no memory.
    pub own_cgroup: bool,
}

/// Why a policy cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The path is not valid UTF-8.
    #[error("the path {} is not UTF-8", .0.display())]
    Path(PathBuf),
    /// A Unix socket path has at most 108 bytes, including the terminating zero.
    #[error("the socket path {} is longer than {MAX_SOCKET_PATH} bytes", .0.display())]
    SocketPath(PathBuf),
    /// Envoy watches only the authorities' folder.
    #[error(
        "listen.tls.client_crl: {} has to be in the folder of listen.tls.client_ca, {}: Envoy watches only that folder for new lists", crl.display(), ca.display()
    )]
    Folders {
        /// File of the authorities.
        ca: PathBuf,
        /// File of the revocation lists.
        crl: PathBuf,
    },
    /// The counters and the gate would have one address.
    #[error("--stats {0} is the address of the gate itself: give another port with --stats")]
    StatsAddress(SocketAddr),
    /// The native module is the whole gate.
    #[error(
        "--driver module runs the gate, and no chain of its parts: leave out --chain, or use --driver wasm"
    )]
    Chain,
    /// The policy is too large for the control plane.
    #[error("the policy in the filter's configuration {0}")]
    Encoded(#[from] FilterConfigurationFault),
    /// The policy cannot be written as JSON.
    #[error("cannot write the policy as json: {0}")]
    Json(#[from] serde_json::Error),
}

/// Name of the gate's listener.
pub const LISTENER: &str = "gate";
/// Longest path of a Unix socket, bytes.
pub const MAX_SOCKET_PATH: usize = 107;
/// Socket mode: owner only.
const SOCKET_MODE: u64 = 0o600;

/// A rendered policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// Envoy's bootstrap.
    pub bootstrap: Node,
    /// Separate resources, in the order in which changes must reach Envoy; empty if everything is
    /// in the bootstrap.
    pub resources: Vec<Resource>,
    /// How much of a body the listener allows a filter to hold, bytes.
    pub buffer_bytes: u64,
}

/// Renders a policy.
pub fn render(
    version: &Version,
    options: &RenderOptions,
    form: Form<'_>,
) -> Result<Rendered, RenderError> {
    let policy = &version.policy;
    let plane = options.control_plane;
    let mut bounds = Bounds::from_limits(policy.listen().limits());
    if options.remote_hosts.is_some() {
        bounds.keep_bodies(policy.listen().limits());
    }
    let address = options.listen.unwrap_or(policy.listen().address());
    let chain = options.chain.iter().enumerate();
    let filters = chain
        .map(|(position, filter)| gate_filter::filter(*filter, position, version, options))
        .collect::<Result<Vec<_>, _>>()?;
    let (host, audit) = match &options.remote_hosts {
        None => (
            Target::socket(pipe(&options.host_socket)?),
            Target::socket(pipe(&options.audit_socket)?),
        ),
        Some(remote) => {
            let tls = remote.transport_socket(options)?;
            (
                Target::over_tls(&remote.hosts, tls.clone()),
                Target::over_tls(std::slice::from_ref(&remote.audit), tls),
            )
        }
    };
    let mut clusters = vec![
        clusters::host(&bounds, plane, host),
        clusters::audit(audit),
        limits_cluster(policy, options)?,
    ];
    for (issuer, url) in key_sets::fetched(policy) {
        clusters.push(key_sets::key_set_cluster(issuer, url, options)?);
    }
    if let Some(rule) = tracing::rule(policy, plane) {
        clusters.push(tracing::cluster(rule, options)?);
    }
    let mut listeners = vec![listener(policy, address, &bounds, &filters, options, form)?];
    if let Some(socket) = &options.ready_socket {
        listeners.push(readiness::listener(socket, &filters, options, form)?);
    }
    let separate = if plane.filters_in_listener() {
        Vec::new()
    } else {
        filters
    };
    let fixed = stats::resources(options, address)?;
    let (sources, resources) =
        form.assemble(clusters, listeners, fixed, separate, &version.generation)?;
    let mut entries = vec![
        // Nothing here depends on the policy, so a change of policy does not change the bootstrap
        // and needs no restart.
        (
            "node".to_owned(),
            map! {"id" => "tensorgate", "cluster" => "tensorgate"},
        ),
        (
            "admin".to_owned(),
            map! {"address" => pipe(&options.admin_socket)?},
        ),
    ];
    entries.extend(sources);
    if let Node::Map(rest) = process(&bounds, options) {
        entries.extend(rest);
    }
    Ok(Rendered {
        bootstrap: Node::Map(entries),
        resources,
        buffer_bytes: plane.held_bytes(&bounds),
    })
}

/// The cluster of the rate limit service: the host's, unless the policy names another. It always
/// exists, because a filter of the previous policy may still use it.
pub fn limits_cluster(policy: &Policy, options: &RenderOptions) -> Result<Node, RenderError> {
    let counter = policy.rate_limit_service().map(RateLimitService::counter);
    Ok(match counter {
        Some(Counter::Endpoint { host, port }) => clusters::other_limits(host, *port),
        Some(Counter::Redis(_)) | None => clusters::limits(match &options.remote_hosts {
            None => Target::socket(pipe(&options.limits_socket)?),
            Some(remote) => Target::over_tls(&remote.limits, remote.transport_socket(options)?),
        }),
    })
}

/// Process-wide settings, which cannot change while Envoy runs.
fn process(bounds: &Bounds, options: &RenderOptions) -> Node {
    let mut settings = entries(map! {
        "http.max_requests_per_io_cycle" => 1_u64,
        // Envoy's default is 32 MiB.
        "http.async_response_buffer_limit" => key_sets::ANSWER_BYTES,
    });
    if options.driver == Driver::Module {
        // Counters are called `tensorgate_...`, as those of the WebAssembly module.
        let names = "envoy.reloadable_features.dynamic_modules_strip_custom_stat_prefix";
        settings.push((names.to_owned(), Node::from(true)));
    }
    map! {
        // At most one request of a connection is processed per read. So Envoy detects a flood of
        // streams that are opened and reset (CVE-2023-44487) before the host is affected.
        "layered_runtime" => map! {
            "layers" => list![map! {
                "name" => "gate",
                "static_layer" => Node::Map(settings),
            }],
        },
        "overload_manager" => overload::manager(bounds, options.own_cgroup),
        "memory_allocator_manager" => overload::allocator(),
        "stats_config" => map! {"stats_tags" => gate_filter::stats_tags()},
    }
}

fn listener(
    policy: &Policy,
    address: SocketAddr,
    bounds: &Bounds,
    filters: &[Filter],
    options: &RenderOptions,
    form: Form<'_>,
) -> Result<Node, RenderError> {
    let limits = policy.listen().limits();
    let plane = options.control_plane;
    let mut chain = Vec::new();
    if plane.stream_ms(bounds).is_some() {
        // Filters of a later policy may run on connections of this listener. They read its limits
        // from the filter chain's name.
        let name = ListenerBounds::name(limits.stream_ms, limits.hold_bytes);
        chain.push(("name".to_owned(), Node::from(name)));
    }
    if let Some(tls) = policy.listen().tls() {
        chain.push((
            "transport_socket".to_owned(),
            tls::transport_socket(tls, options)?,
        ));
        // Envoy has no handshake timeout by default.
        let handshake = Node::from(duration(bounds.handshake_ms));
        chain.push(("transport_socket_connect_timeout".to_owned(), handshake));
    }
    chain.push((
        "filters".to_owned(),
        list![map! {
            "name" => "envoy.filters.network.http_connection_manager",
            "typed_config" => http::connection_manager(policy, bounds, filters, options, form)?,
        }],
    ));
    let mut listener = vec![
        ("name".to_owned(), Node::from(LISTENER)),
        (
            "address".to_owned(),
            socket_address(address.ip().to_string(), address.port()),
        ),
    ];
    // Limits a single read. How much of a body a filter may hold is set on the route.
    if let Some(bytes) = plane.connection_buffer_bytes() {
        let limit = "per_connection_buffer_limit_bytes";
        listener.push((limit.to_owned(), bytes.into()));
    }
    listener.extend([
        // Disabled, so that no other process can bind the same port and take some of the
        // connections.
        ("enable_reuse_port".to_owned(), false.into()),
        ("filter_chains".to_owned(), list![Node::Map(chain)]),
    ]);
    if policy.listen().tls().is_some() {
        listener.push(("access_log".to_owned(), access_log::tls()));
    }
    Ok(Node::Map(listener))
}

/// An address of TCP in Envoy's form.
fn socket_address(host: impl Into<Node>, port: u16) -> Node {
    let host: Node = host.into();
    map! {"socket_address" => map! {"address" => host, "port_value" => u32::from(port)}}
}

/// Address of a Unix socket.
pub fn pipe(path: &std::path::Path) -> Result<Node, RenderError> {
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
pub fn duration(ms: u64) -> String {
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
