//! Control planes, and how each has Envoy load the filters.
//!
//! Everything in which their configuration differs from a bootstrap of our own is in this file:
//!
//! | | plain | Istio | Envoy Gateway |
//! |---|---|---|---|
//! | filter | in the listener, or by ECDS | by ECDS | in the listener, disabled; each route enables it |
//! | fields of the filter | all | those of istiod's `buildWasmConfig` | those of an `EnvoyExtensionPolicy` |
//! | headers while a body is judged | held | sent on | sent on |
//! | buffers and HTTP/2 windows | from the policy | Envoy's own; `EDGE` | small |
//! | paths | as they came | normalised | normalised, slashes merged |
//! | time limits of requests | from the policy | none | Envoy's own |
//!
//! What a policy says of a listener and these resources cannot say (sizes of headers, the access
//! log, replies of Envoy's own, trusted hops, TLS) is rendered alike for all of them.

use clap::ValueEnum;
use tensorgate_policy::HeaderMode;

use super::bounds::{Bounds, CONNECTION_WINDOW_BYTES, READ_BYTES};
use super::dynamic::{Filter, Form};
use super::{RenderError, duration};
use crate::render::node::{Node, entries, list, map};

/// Listener buffer of Envoy Gateway, and of Istio's profile `EDGE`, bytes.
const EDGE_BUFFER_BYTES: u32 = 32 << 10;
/// HTTP/2 window of a stream there, bytes.
const EDGE_STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// HTTP/2 window of a connection there, bytes.
const EDGE_CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// HTTP/2 streams of a connection there.
const EDGE_STREAMS: u32 = 100;

/// What configures Envoy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ControlPlane {
    /// A bootstrap of our own, with every field that the filters can use
    #[default]
    Plain,
    /// Istio, from a WasmPlugin or TrafficExtension
    Istio,
    /// The same at a gateway with the connection profile EDGE
    IstioEdge,
    /// Envoy Gateway, from an EnvoyExtensionPolicy
    EnvoyGateway,
}

impl ControlPlane {
    /// Whether Envoy holds headers back while a filter judges the body. Only a configuration of
    /// our own can ask for that.
    pub const fn headers(self) -> HeaderMode {
        match self {
            Self::Plain => HeaderMode::Hold,
            Self::Istio | Self::IstioEdge | Self::EnvoyGateway => HeaderMode::Forward,
        }
    }

    /// Whether filters are parts of the listener, and change with it.
    pub const fn filters_in_listener(self) -> bool {
        matches!(self, Self::EnvoyGateway)
    }

    /// The entry's name of the filter at this position of the chain.
    pub fn entry_name(self, filter: &str, position: usize) -> String {
        match self {
            Self::EnvoyGateway => format!("envoy.filters.http.wasm/{}", extension(position)),
            Self::Plain | Self::Istio | Self::IstioEdge => format!("tensorgate.{filter}"),
        }
    }

    /// What the name of its VM is. Buckets and counts are kept by it.
    pub fn vm_id(self, position: usize) -> Option<String> {
        match self {
            // One for a chain, which so has the gate's buckets and counts.
            Self::Plain => Some("tensorgate".to_owned()),
            Self::EnvoyGateway => Some(extension(position)),
            // All modules of the proxy without one share the empty name.
            Self::Istio | Self::IstioEdge => None,
        }
    }

    /// What happens to requests when the VM fails.
    pub fn failure(self) -> Vec<(String, Node)> {
        let failure = match self {
            Self::Plain => map! {
                // A trap answers 503 until the VM is built anew, at most this much later.
                "failure_policy" => "FAIL_RELOAD",
                "reload_config" => map! {"backoff" => map! {"base_interval" => "0.2s"}},
            },
            // What a resource comes to that says nothing.
            Self::Istio | Self::IstioEdge => map! {"failure_policy" => "FAIL_CLOSED"},
            // Says only that it does not fail open, which is Envoy's default.
            Self::EnvoyGateway => map! {},
        };
        entries(failure)
    }

    /// A filter's place in the connection manager.
    pub fn filter_entry(self, filter: &Filter, form: Form<'_>) -> Result<Node, RenderError> {
        if self.filters_in_listener() {
            return Ok(map! {
                "name" => filter.name.as_str(),
                "disabled" => true,
                "typed_config" => filter.typed_config.clone(),
            });
        }
        filter.entry(form)
    }

    /// What a route has besides where it leads.
    pub fn route(self, filters: &[Filter], bounds: &Bounds) -> Vec<(String, Node)> {
        let enabled = || {
            let config = map! {
                "@type" => "type.googleapis.com/envoy.config.route.v3.FilterConfig",
                "config" => map! {},
            };
            let each = filters.iter();
            Node::Map(each.map(|it| (it.name.clone(), config.clone())).collect())
        };
        let route = match self {
            Self::Plain => map! {"request_body_buffer_limit" => bounds.buffer_bytes},
            Self::Istio | Self::IstioEdge => map! {},
            Self::EnvoyGateway => map! {"typed_per_filter_config" => enabled()},
        };
        entries(route)
    }

    /// Upgrades that a route of its own allows.
    pub fn route_upgrades(self) -> Vec<(String, Node)> {
        let upgrades = match self {
            Self::EnvoyGateway => map! {"upgrade_configs" => websocket()},
            Self::Plain | Self::Istio | Self::IstioEdge => map! {},
        };
        entries(upgrades)
    }

    /// What a listener's connections buffer, bytes; Envoy's own default if none.
    pub const fn connection_buffer_bytes(self) -> Option<u32> {
        match self {
            Self::Plain => Some(READ_BYTES),
            Self::Istio => None,
            Self::IstioEdge | Self::EnvoyGateway => Some(EDGE_BUFFER_BYTES),
        }
    }

    /// What a listener lets a filter hold of a body, bytes.
    pub const fn held_bytes(self, bounds: &Bounds) -> u64 {
        match self {
            Self::Plain => bounds.buffer_bytes,
            Self::Istio | Self::IstioEdge | Self::EnvoyGateway => 0,
        }
    }

    /// The HTTP/2 options of a listener.
    pub fn http2(self, bounds: &Bounds) -> Vec<(String, Node)> {
        let options = match self {
            Self::Plain => map! {
                "max_concurrent_streams" => bounds.streams,
                "initial_stream_window_size" => bounds.stream_window_bytes,
                "initial_connection_window_size" => CONNECTION_WINDOW_BYTES,
                "allow_connect" => false,
            },
            Self::Istio => return Vec::new(),
            Self::IstioEdge | Self::EnvoyGateway => map! {
                "max_concurrent_streams" => EDGE_STREAMS,
                "initial_stream_window_size" => EDGE_STREAM_WINDOW_BYTES,
                "initial_connection_window_size" => EDGE_CONNECTION_WINDOW_BYTES,
            },
        };
        vec![("http2_protocol_options".to_owned(), options)]
    }

    /// How the connection manager identifies requests and reads their paths.
    pub fn requests(self) -> Vec<(String, Node)> {
        let requests = match self {
            Self::Plain => map! {
                // One id for each request, ours: a client's own is written over. Before that it would be the client's that Envoy puts into its
                // answer, so every answer has its id from whoever makes it: the filter, the host, or `local_reply_config`.
                "generate_request_id" => true,
                "preserve_external_request_id" => false,
                "always_set_request_id_in_response" => false,
                "request_id_extension" => map! {
                    "typed_config" => map! {
                        "@type" => "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                        "pack_trace_reason" => false,
                        "use_request_id_for_trace_sampling" => false,
                    },
                },
                // Paths are judged as they came. Routes are an allow-list of exact spellings, so a path with dot segments, doubled or
                // escaped slashes is no route; normalising it first could make a route of it that the client did not write, and
                // the gate would judge another path than `explain`, the host and whatever stands in front.
                "normalize_path" => false,
                "merge_slashes" => false,
                "path_with_escaped_slashes_action" => "KEEP_UNCHANGED",
            },
            Self::Istio | Self::IstioEdge => map! {
                "normalize_path" => true,
                "upgrade_configs" => websocket(),
            },
            Self::EnvoyGateway => map! {
                "normalize_path" => true,
                "merge_slashes" => true,
                "path_with_escaped_slashes_action" => "UNESCAPE_AND_REDIRECT",
            },
        };
        entries(requests)
    }

    /// How long the connection manager lets a request take.
    pub fn time_limits(self, bounds: &Bounds) -> Vec<(String, Node)> {
        let limits = match self {
            Self::Plain => map! {
                "request_headers_timeout" => duration(bounds.headers_ms),
                "request_timeout" => duration(bounds.stream_ms),
                "stream_idle_timeout" => duration(bounds.idle_ms),
            },
            Self::Istio | Self::IstioEdge => map! {"stream_idle_timeout" => duration(0)},
            Self::EnvoyGateway => map! {},
        };
        entries(limits)
    }

    /// How long a stream lasts at most, milliseconds.
    pub const fn stream_ms(self, bounds: &Bounds) -> Option<u64> {
        match self {
            Self::Plain => Some(bounds.stream_ms),
            Self::Istio | Self::IstioEdge | Self::EnvoyGateway => None,
        }
    }

    /// Whether Envoy rejects header fields with underscores in their names. Those that it lets
    /// through go no further than the filter, which sends an allow-list of fields on.
    pub const fn rejects_underscores(self) -> bool {
        matches!(self, Self::Plain | Self::EnvoyGateway)
    }

    /// How Envoy ends the connections of a listener that has changed; `None`: slowly, by itself.
    pub const fn drain_s(self) -> Option<u32> {
        match self {
            Self::Plain => None,
            Self::Istio | Self::IstioEdge => Some(45),
            Self::EnvoyGateway => Some(60),
        }
    }
}

/// How Envoy Gateway names the extension at this position of an `EnvoyExtensionPolicy`.
fn extension(position: usize) -> String {
    format!("envoyextensionpolicy/tensorgate/gate/wasm/{position}")
}

fn websocket() -> Node {
    list![map! {"upgrade_type" => "websocket"}]
}
