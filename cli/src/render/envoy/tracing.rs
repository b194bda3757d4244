//! Envoy's tracer: one span for each request, sent by OTLP over HTTP.
//!
//! Envoy continues the trace of a `traceparent`. So a client's is moved to a field of another name
//! before the trace begins, and the rest of its context is removed. The filter forwards the moved
//! one to the host. Whether a request is sampled follows from Envoy's ID of it, which no client
//! sets.

use tensorgate_policy::Policy;
use tensorgate_policy::policy::{SAMPLE_SHARES, Server, Tracing};
use tensorgate_wire::trace_context::{CLIENT_TRACEPARENT, ENVOY_TRACE, TRACEPARENT, TRACESTATE};

use super::control_plane::ControlPlane;
use super::{RenderError, RenderOptions, duration, key_sets, socket_address};
use crate::render::node::{Node, entries, list, map};

/// Name of the receiver's cluster.
const CLUSTER: &str = "tensorgate-traces";
/// Name of the service in Envoy's spans.
const SERVICE: &str = "tensorgate-envoy";
/// Connect timeout including the TLS handshake, milliseconds.
const CONNECT_MS: u64 = 2_000;
/// Timeout of a request to the receiver, milliseconds, as in the OpenTelemetry SDKs.
const TIMEOUT_MS: u64 = 10_000;
/// Concurrent requests to the receiver. Further ones fail, and their spans are lost.
const MAX_REQUESTS: u32 = 16;
/// Longest path in a span, bytes.
const MAX_PATH_BYTES: u32 = 256;
/// Value of the mark of a trace that Envoy has begun.
const MARK: &str = "envoy";
/// Fields of a client by which Envoy's tracer would continue a trace, or sample a request. They are
/// removed after the client's `traceparent` was moved.
const REMOVED: [&str; 5] = [
    TRACEPARENT,
    TRACESTATE,
    "baggage",
    "x-client-trace-id",
    "x-envoy-force-trace",
];

/// The rules of a policy's traces, if Envoy's tracer is configured here.
pub fn rule(policy: &Policy, plane: ControlPlane) -> Option<&Tracing> {
    policy.audit().tracing().filter(|_| plane.traces())
}

/// The settings of the connection manager.
pub fn manager(rule: &Tracing) -> Vec<(String, Node)> {
    let joined = format!("%CEL(request.headers['{TRACEPARENT}'])%");
    let mut mutations = vec![
        map! {"remove" => CLIENT_TRACEPARENT},
        // Repeated fields are joined with commas, which no valid one has.
        map! {"append" => overwritten(CLIENT_TRACEPARENT, &joined)},
    ];
    mutations.extend(REMOVED.map(|name| map! {"remove" => name}));
    let percent = f64::from(rule.sampled_shares()) * 100.0 / f64::from(SAMPLE_SHARES);
    // An IPv6 address has brackets.
    let [open, close] = if rule.host().contains(':') {
        ["[", "]"]
    } else {
        [""; 2]
    };
    let uri = format!(
        "http://{open}{}{close}:{}{}",
        rule.host(),
        rule.port(),
        rule.path()
    );
    entries(map! {
        "early_header_mutation_extensions" => list![map! {
            "name" => "envoy.http.early_header_mutation.header_mutation",
            "typed_config" => map! {
                "@type" => "type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                "mutations" => mutations,
            },
        }],
        "tracing" => map! {
            "client_sampling" => map! {"value" => 0_u64},
            "random_sampling" => map! {"value" => percent},
            "overall_sampling" => map! {"value" => 100_u64},
            // In place of Envoy's own tag, which has the query. Some clients send a credential
            // there.
            "custom_tags" => list![map! {
                "tag" => "http.url",
                "value" => format!("%PATH(NQ:PATH):{MAX_PATH_BYTES}%"),
            }],
            "provider" => map! {
                "name" => "envoy.tracers.opentelemetry",
                "typed_config" => map! {
                    "@type" => "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                    "service_name" => SERVICE,
                    "http_service" => map! {
                        "http_uri" => map! {
                            // The scheme is not used: the cluster has the transport.
                            "uri" => uri,
                            "cluster" => CLUSTER,
                            "timeout" => duration(TIMEOUT_MS),
                        },
                    },
                },
            },
        },
    })
}

/// The mark for the host: the `traceparent` beside it is of Envoy's span.
pub fn mark() -> Node {
    overwritten(ENVOY_TRACE, MARK)
}

/// A header field that replaces others of its name.
pub fn overwritten(name: &str, value: &str) -> Node {
    map! {
        "header" => map! {"key" => name, "value" => value},
        "append_action" => "OVERWRITE_IF_EXISTS_OR_ADD",
    }
}

/// The cluster of the receiver.
pub fn cluster(rule: &Tracing, options: &RenderOptions) -> Result<Node, RenderError> {
    let (kind, server) = match rule.host().parse() {
        Ok(address) => ("STATIC", Server::Address(address)),
        Err(_) => ("STRICT_DNS", Server::Name(rule.host().to_owned())),
    };
    let mut entries = entries(map! {
        "name" => CLUSTER,
        "type" => kind,
        "connect_timeout" => duration(CONNECT_MS),
        "circuit_breakers" => map! {
            "thresholds" => list![map! {
                "max_connections" => MAX_REQUESTS,
                "max_pending_requests" => MAX_REQUESTS,
                "max_requests" => MAX_REQUESTS,
                "max_retries" => 0_u64,
            }],
        },
        "load_assignment" => map! {
            "cluster_name" => CLUSTER,
            "endpoints" => list![map! {"lb_endpoints" => list![map! {
                "endpoint" => map! {"address" => socket_address(rule.host(), rule.port())},
            }]}],
        },
    });
    if let Server::Name(_) = server {
        entries.push(("dns_lookup_family".to_owned(), "V4_PREFERRED".into()));
    }
    if rule.tls() {
        let authorities = &options.system_authorities;
        let socket = key_sets::server_tls(&server, authorities)?;
        entries.push(("transport_socket".to_owned(), socket));
    }
    Ok(Node::Map(entries))
}
