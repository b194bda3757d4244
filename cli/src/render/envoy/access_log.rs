//! Access logs to the host's audit log: a gRPC stream over a dedicated socket.
//!
//! Every outcome is logged, including Envoy's own replies and failed handshakes. Verdict, reason
//! and names come from the filter's state. Of the data that a client controls, only the method, the
//! type and the path are logged.

use tensorgate_audit::access_log_service::{BUFFER_BYTES, FLUSH_MS};
use tensorgate_audit::als::entry::{PROPERTIES, REQUEST_HEADERS, RESPONSE_HEADERS, TRACE_HEADERS};

use super::clusters;
use super::duration;
use crate::render::node::{Node, entries, list, map};

/// Attempts to reopen a stream. They cover the restart of a host. The first entries of a worker are
/// kept as long; Envoy 1.40 loses entries that are logged while the stream is being opened.
const STREAM_RETRIES: u64 = 20;

/// Name of the logger that reports requests.
pub const HTTP_LOGGER: &str = "envoy.access_loggers.http_grpc";

/// The access log of requests. `cluster` leads to the host's audit log. `traced`: whether Envoy
/// begins a trace for each request.
pub fn http(cluster: &str, traced: bool) -> Node {
    let mut request_headers = texts(&REQUEST_HEADERS);
    if traced {
        request_headers.extend(texts(&TRACE_HEADERS));
    }
    list![map! {
        "name" => HTTP_LOGGER,
        "typed_config" => map! {
            "@type" => "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
            "common_config" => common(cluster),
            "additional_request_headers_to_log" => request_headers,
            "additional_response_headers_to_log" => texts(&RESPONSE_HEADERS),
            "additional_response_trailers_to_log" => texts(&RESPONSE_HEADERS),
        },
    }]
}

/// The access log of connections whose TLS handshake failed. Such connections carry no requests, so
/// the request log cannot contain them.
pub fn tls() -> Node {
    list![map! {
        "name" => "envoy.access_loggers.tcp_grpc",
        "filter" => map! {
            "extension_filter" => map! {
                "name" => "envoy.access_loggers.extension_filters.cel",
                "typed_config" => map! {
                    "@type" => "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
                    "expression" => "connection.transport_failure_reason != ''",
                },
            },
        },
        "typed_config" => map! {
            "@type" => "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig",
            "common_config" => common(clusters::AUDIT),
        },
    }]
}

fn common(cluster: &str) -> Node {
    let mut service = entries(map! {"cluster_name" => cluster});
    // Envoy sends the cluster's name as `:authority`. Istio's names, `outbound|8444||HOST`, are no
    // valid ones: the sidecar of the host would reset the stream, and the audit log lack its lines.
    if let Some((_, host)) = cluster.rsplit_once('|') {
        service.push(("authority".to_owned(), host.into()));
    }
    map! {
        "log_name" => "tensorgate",
        "transport_api_version" => "V3",
        "grpc_service" => map! {"envoy_grpc" => Node::Map(service)},
        "buffer_flush_interval" => duration(FLUSH_MS),
        "buffer_size_bytes" => BUFFER_BYTES,
        "filter_state_objects_to_log" => texts(&PROPERTIES),
        "grpc_stream_retry_policy" => map! {
            "num_retries" => STREAM_RETRIES,
            "retry_back_off" => map! {"base_interval" => "0.1s", "max_interval" => "1s"},
        },
    }
}

/// Texts as a sequence.
pub fn texts(texts: &[&str]) -> Vec<Node> {
    texts.iter().map(|text| Node::from(*text)).collect()
}

#[cfg(test)]
mod tests {
    use tensorgate_filter_core::report::property;

    use super::*;

    #[test]
    fn the_host_reads_the_properties_that_the_filter_sets() {
        let set = [property::OUTCOME, property::FORWARDED, property::SEQUENCE];
        assert_eq!(
            PROPERTIES.map(str::to_owned),
            set.map(|name| format!("wasm.{name}"))
        );
    }
}
