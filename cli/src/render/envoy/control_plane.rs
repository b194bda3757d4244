//! Control planes, and how each of them configures Envoy to load the filters.
//!
//! All differences from a plain bootstrap are in this file:
//!
//! | | plain | Istio | Envoy Gateway |
//! |---|---|---|---|
//! | filter | in the listener, or by ECDS | by ECDS | in the listener, enabled per route |
//! | filter's configuration | the bundle | the bundle in base64 | the bundle in base64 |
//! | fields of the filter | all | as in istiod | as in an `EnvoyExtensionPolicy` |
//! | headers while a body is checked | held | forwarded | forwarded |
//! | buffers and HTTP/2 windows | from the policy | Envoy's defaults; `EDGE` | small |
//! | `x-request-id` of a client | replaced | kept by a sidecar | replaced |
//! | paths | unchanged | normalised | normalised, slashes merged |
//! | request timeouts | from the policy | none | Envoy's defaults |
//!
//! Listener settings that these resources cannot express are rendered alike for all of them: header
//! sizes, the access log, local replies, trusted hops and TLS.

use clap::ValueEnum;
use tensorgate_policy::{FilterConfiguration, HeaderMode};

use super::bounds::{Bounds, CONNECTION_WINDOW_BYTES, READ_BYTES};
use super::dynamic::{Filter, Form};
use super::{RenderError, duration};
use crate::render::node::{Node, entries, list, map};

/// Connection buffer of Envoy Gateway, and of Istio's profile `EDGE`, bytes.
const EDGE_BUFFER_BYTES: u32 = 32 << 10;
/// HTTP/2 window of a stream in these profiles, bytes.
const EDGE_STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// HTTP/2 window of a connection in these profiles, bytes.
const EDGE_CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// HTTP/2 streams per connection in these profiles.
const EDGE_STREAMS: u32 = 100;

/// The system that configures Envoy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ControlPlane {
    /// A bootstrap of our own, with every field that the filters can use.
    #[default]
    Plain,
    /// Istio, from a WasmPlugin or TrafficExtension.
    Istio,
    /// The same at a gateway with the connection profile EDGE.
    IstioEdge,
    /// Envoy Gateway, from an EnvoyExtensionPolicy.
    EnvoyGateway,
}

impl ControlPlane {
    /// Whether Envoy holds headers while a filter checks the body. Only a plain bootstrap can
    /// request that.
    pub const fn headers(self) -> HeaderMode {
        match self {
            Self::Plain => HeaderMode::Hold,
            Self::Istio | Self::IstioEdge | Self::EnvoyGateway => HeaderMode::Forward,
        }
    }

    /// Maximum size of the policy in the filter's configuration, in bytes of base64.
    pub const fn max_policy_bytes(self) -> usize {
        match self {
            Self::Plain => FilterConfiguration::MAX_PLAIN_BYTES,
            Self::Istio | Self::IstioEdge | Self::EnvoyGateway => {
                FilterConfiguration::MAX_RESOURCE_BYTES
            }
        }
    }

    /// Whether filters are embedded in the listener and change with it.
    pub const fn filters_in_listener(self) -> bool {
        matches!(self, Self::EnvoyGateway)
    }

    /// Name of the HTTP filter at this position of the chain.
    pub fn entry_name(self, filter: &str, position: usize) -> String {
        match self {
            Self::EnvoyGateway => format!("envoy.filters.http.wasm/{}", extension(position)),
            Self::Plain | Self::Istio | Self::IstioEdge => format!("tensorgate.{filter}"),
        }
    }

    /// The VM id. Shared data, such as token buckets and counters, is keyed by it.
    pub fn vm_id(self, position: usize) -> Option<String> {
        match self {
            // One id for the whole chain, so that its filters share buckets and counters.
            Self::Plain => Some("tensorgate".to_owned()),
            Self::EnvoyGateway => Some(extension(position)),
            // Modules without an id share the empty id within a proxy.
            Self::Istio | Self::IstioEdge => None,
        }
    }

    /// Failure policy of the VM.
    pub fn failure(self) -> Vec<(String, Node)> {
        let failure = match self {
            Self::Plain => map! {
                // A trap returns 503 until the VM is rebuilt, after at most this time.
                "failure_policy" => "FAIL_RELOAD",
                "reload_config" => map! {"backoff" => map! {"base_interval" => "0.2s"}},
            },
            // The default of a resource without a failure strategy.
            Self::Istio | Self::IstioEdge => map! {"failure_policy" => "FAIL_CLOSED"},
            // The resource only excludes failing open, which is Envoy's default.
            Self::EnvoyGateway => map! {},
        };
        entries(failure)
    }

    /// A filter's entry in the connection manager.
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

    /// Route settings other than the target.
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

    /// Protocol upgrades that a route allows.
    pub fn route_upgrades(self) -> Vec<(String, Node)> {
        let upgrades = match self {
            Self::EnvoyGateway => map! {"upgrade_configs" => websocket()},
            Self::Plain | Self::Istio | Self::IstioEdge => map! {},
        };
        entries(upgrades)
    }

    /// Connection buffer limit of the listener, bytes; `None` for Envoy's default.
    pub const fn connection_buffer_bytes(self) -> Option<u32> {
        match self {
            Self::Plain => Some(READ_BYTES),
            Self::Istio => None,
            Self::IstioEdge | Self::EnvoyGateway => Some(EDGE_BUFFER_BYTES),
        }
    }

    /// How much of a body the listener allows a filter to hold, bytes.
    pub const fn held_bytes(self, bounds: &Bounds) -> u64 {
        match self {
            Self::Plain => bounds.buffer_bytes,
            Self::Istio | Self::IstioEdge | Self::EnvoyGateway => 0,
        }
    }

    /// HTTP/2 options of the listener.
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

    /// Whether Envoy's own tracer is configured here. In a mesh, the mesh configures it.
    pub const fn traces(self) -> bool {
        matches!(self, Self::Plain)
    }

    /// Settings for request ids and path normalisation. `traced`: whether requests are sampled by
    /// their ids.
    pub fn requests(self, traced: bool) -> Vec<(String, Node)> {
        let requests = match self {
            Self::Plain => map! {
                // Envoy overwrites a client's id, and leaves responses to each responder: the
                // filter and the host set the gate's id, `local_reply_config` that of the header.
                "generate_request_id" => true,
                "preserve_external_request_id" => false,
                "always_set_request_id_in_response" => false,
                "request_id_extension" => map! {
                    "typed_config" => map! {
                        "@type" => "type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                        "pack_trace_reason" => false,
                        "use_request_id_for_trace_sampling" => traced,
                    },
                },
                // Paths are not normalised. Routes are an allow-list of exact paths, so a path with
                // dot segments or with doubled or escaped slashes matches no route. Normalisation
                // could turn it into a route that the client did not request. The gate, `explain`
                // and the host would then check different paths.
                "normalize_path" => false,
                "merge_slashes" => false,
                "path_with_escaped_slashes_action" => "KEEP_UNCHANGED",
            },
            // A sidecar keeps the id of the proxy or client that calls it.
            Self::Istio => map! {
                "preserve_external_request_id" => true,
                "normalize_path" => true,
                "upgrade_configs" => websocket(),
            },
            Self::IstioEdge => map! {
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

    /// Request timeouts of the connection manager.
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

    /// Maximum duration of a stream, milliseconds.
    pub const fn stream_ms(self, bounds: &Bounds) -> Option<u64> {
        match self {
            Self::Plain => Some(bounds.stream_ms),
            Self::Istio | Self::IstioEdge | Self::EnvoyGateway => None,
        }
    }

    /// Whether Envoy rejects header names with underscores. Otherwise they reach only the filter,
    /// which forwards an allow-list of headers.
    pub const fn rejects_underscores(self) -> bool {
        matches!(self, Self::Plain | Self::EnvoyGateway)
    }

    /// Drain time of a changed listener, seconds; `None` for Envoy's default.
    pub const fn drain_s(self) -> Option<u32> {
        match self {
            Self::Plain => None,
            Self::Istio | Self::IstioEdge => Some(45),
            Self::EnvoyGateway => Some(60),
        }
    }
}

/// Name that Envoy Gateway gives to the extension at this position of an `EnvoyExtensionPolicy`.
fn extension(position: usize) -> String {
    format!("envoyextensionpolicy/tensorgate/gate/wasm/{position}")
}

fn websocket() -> Node {
    list![map! {"upgrade_type" => "websocket"}]
}
