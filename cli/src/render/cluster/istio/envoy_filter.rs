//! `EnvoyFilter`: what Istio's other objects cannot express.
//!
//! istiod merges each value into the typed message of the proxy. It rejects a whole object with an
//! unknown field, and it cannot set a plain number or boolean to zero.

use tensorgate_policy::policy::Limits;
use tensorgate_settings::bounds;

use crate::render::cluster::workload::Workload;
use crate::render::envoy::bounds::Bounds;
use crate::render::envoy::{access_log, duration, http, local_reply};
use crate::render::node::{Node, entries, map};

/// Name of the network filter that serves HTTP.
const MANAGER: &str = "envoy.filters.network.http_connection_manager";
/// Name of its last HTTP filter.
const ROUTER: &str = "envoy.filters.http.router";
/// Type of the manager's configuration.
const MANAGER_TYPE: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
/// Envoy's own limits on a request's headers, KiB and fields. A hop within the mesh has at least
/// these.
const ENVOY_HEADER_KIB: u64 = 60;
const ENVOY_HEADERS: u64 = 100;
/// Header fields that Istio adds within the mesh: traces, forwarded certificates and addresses.
const MESH_HEADERS: u64 = 16;
/// The same, KiB. A forwarded certificate is most of it.
const MESH_HEADER_KIB: u64 = 16;

/// A listener of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// A port of a sidecar.
    Sidecar {
        /// The container's port.
        port: u16,
    },
    /// Every listener of a gateway.
    Gateway,
}

impl Listener {
    const fn context(self) -> &'static str {
        match self {
            Self::Sidecar { .. } => "SIDECAR_INBOUND",
            Self::Gateway => "GATEWAY",
        }
    }

    /// Adds a cluster. With another context Istio would add it several times.
    pub fn cluster(self, cluster: Node) -> Node {
        map! {
            "applyTo" => "CLUSTER",
            "match" => map! {"context" => self.context()},
            "patch" => map! {"operation" => "ADD", "value" => cluster},
        }
    }

    /// Merges settings into the connection manager.
    pub fn manager(self, settings: Vec<(String, Node)>) -> Node {
        let mut typed = entries(map! {"@type" => MANAGER_TYPE});
        typed.extend(settings);
        map! {
            "applyTo" => "NETWORK_FILTER",
            "match" => map! {
                "context" => self.context(),
                "listener" => self.listener(map! {"name" => MANAGER}),
            },
            "patch" => map! {
                "operation" => "MERGE",
                "value" => map! {"typed_config" => Node::Map(typed)},
            },
        }
    }

    /// The listener, with a network filter of its chains.
    fn listener(self, filter: Node) -> Node {
        let mut listener = Vec::new();
        if let Self::Sidecar { port } = self {
            listener.push(("portNumber".to_owned(), u32::from(port).into()));
        }
        listener.extend(entries(map! {"filterChain" => map! {"filter" => filter}}));
        Node::Map(listener)
    }

    /// Adds the gate's filter after all of Istio's, in front of the router.
    pub fn filter(self, filter: Node) -> Node {
        let inner = map! {"name" => MANAGER, "subFilter" => map! {"name" => ROUTER}};
        map! {
            "applyTo" => "HTTP_FILTER",
            "match" => map! {"context" => self.context(), "listener" => self.listener(inner)},
            "patch" => map! {"operation" => "INSERT_BEFORE", "value" => filter},
        }
    }

    /// Merges settings into a sidecar's routes. A gateway's routes come by a `VirtualService`.
    pub fn routes(self, settings: Node) -> Option<Node> {
        let Self::Sidecar { port } = self else {
            return None;
        };
        Some(map! {
            "applyTo" => "ROUTE_CONFIGURATION",
            "match" => map! {
                "context" => self.context(),
                "routeConfiguration" => map! {"portNumber" => u32::from(port)},
            },
            "patch" => map! {"operation" => "MERGE", "value" => settings},
        })
    }
}

/// The object with these patches, for the proxies that have these labels.
pub fn object(workload: &Workload, name: &str, selected: &Node, patches: Vec<Node>) -> Node {
    let spec = map! {
        "workloadSelector" => map! {"labels" => selected.clone()},
        "configPatches" => patches,
    };
    let (version, kind) = ("networking.istio.io/v1alpha3", "EnvoyFilter");
    workload.object(version, kind, name, map! {"spec" => spec})
}

/// Settings of the listener that has the filter. `audit` is the cluster of the host's audit log.
pub fn settings(bounds: &Bounds, audit: &str) -> Vec<(String, Node)> {
    entries(map! {
        "server_header_transformation" => "PASS_THROUGH",
        "max_request_headers_kb" => bounds.header_kib,
        // Istio has none. Only it ends a stream whose answer Envoy has received completely and
        // whose client does not read.
        "stream_idle_timeout" => duration(bounds.idle_ms),
        "common_http_protocol_options" => map! {
            "idle_timeout" => duration(bounds.connection_idle_ms),
            "max_headers_count" => bounds.headers,
        },
        "http_protocol_options" => map! {"ignore_http_11_upgrade" => http::ignored_upgrades()},
        "http2_protocol_options" => map! {"max_concurrent_streams" => bounds.streams},
        "local_reply_config" => local_reply::config(),
        // Appended to the mesh's own.
        "access_log" => access_log::http(audit, false),
    })
}

/// Settings of the sidecar between a gateway and the host. The host enforces its own limits, so
/// these are wider.
pub fn hop_settings(limits: &Limits) -> Vec<(String, Node)> {
    let host = bounds::Bounds::from_limits(limits);
    let wide = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
    let kib = wide(host.head_bytes)
        .div_ceil(1024)
        .saturating_add(MESH_HEADER_KIB);
    let fields = wide(host.head_fields).saturating_add(MESH_HEADERS);
    entries(map! {
        "max_request_headers_kb" => kib.max(ENVOY_HEADER_KIB),
        "common_http_protocol_options" => map! {"max_headers_count" => fields.max(ENVOY_HEADERS)},
    })
}
