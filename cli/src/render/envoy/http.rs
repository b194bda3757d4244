//! The HTTP connection manager: what is a request at all, how long it may take, and where it goes.

use tensorgate_host::audit::record::SOURCE_HEADER;
use tensorgate_policy::policy::Listen;

use super::bounds::{Bounds, CONNECTION_WINDOW_BYTES};
use super::dynamic::{Filter, Form};
use super::{RenderError, access_log, clusters, duration, local_reply};
use crate::render::node::{Node, list, map};

/// Where streams of inferences go.
const STREAM_PATH: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
/// A connection on which a certificate was shown, milliseconds: so long after its revocation a client is out at the latest.
const CERTIFICATE_CONNECTION_MS: u64 = 900_000;
/// Time for streams to end once Envoy is told to stop, milliseconds.
const DRAIN_MS: u64 = 5_000;

/// To the host, within so much time from the last byte of the request; without a bound if it is 0.
fn route(matched: Node, bounds: &Bounds, timeout_ms: u64) -> Node {
    map! {
        "match" => matched,
        "request_body_buffer_limit" => bounds.buffer_bytes,
        "route" => map! {
            "cluster" => clusters::HOST,
            "timeout" => duration(timeout_ms),
        },
    }
}

/// The connection manager's configuration.
pub fn connection_manager(
    listen: &Listen,
    bounds: &Bounds,
    filters: &[Filter],
    form: Form<'_>,
) -> Result<Node, RenderError> {
    let mut chain = filters
        .iter()
        .map(|filter| filter.entry(form))
        .collect::<Result<Vec<_>, _>>()?;
    chain.push(map! {
        "name" => "envoy.filters.http.router",
        "typed_config" => map! {
            "@type" => "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
            "suppress_envoy_headers" => true,
        },
    });
    let certificates = listen.asks_for_certificates();
    let forwarded = listen.tls().is_some_and(|tls| !tls.forwarders().is_empty());
    let mut lifetimes = vec![
        (
            "idle_timeout".to_owned(),
            duration(bounds.connection_idle_ms).into(),
        ),
        (
            "max_stream_duration".to_owned(),
            duration(bounds.stream_ms).into(),
        ),
        ("max_headers_count".to_owned(), bounds.headers.into()),
        // `x_api_key` is `x-api-key` to some servers.
        (
            "headers_with_underscores_action".to_owned(),
            "REJECT_REQUEST".into(),
        ),
    ];
    if certificates {
        let most = duration(CERTIFICATE_CONNECTION_MS);
        lifetimes.push(("max_connection_duration".to_owned(), most.into()));
    }
    let mut manager = map! {
        "@type" => "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix" => "gate",
        "codec_type" => "AUTO",
        // The caller's address is the connection's, or what the last of the trusted proxies in front says: of `x-forwarded-for` so many
        // entries from the right are believed, and no other header.
        "use_remote_address" => true,
        "xff_num_trusted_hops" => listen.trusted_hops(),
        // Nobody is internal (this is the broadcast address): from an internal address Envoy would take a client's own
        // `x-request-id` and `x-envoy-*` for true, and without a list private addresses and loopback are internal.
        "internal_address_config" => map! {
            "unix_sockets" => false,
            "cidr_ranges" => list![map! {"address_prefix" => "255.255.255.255", "prefix_len" => 32_u64}],
        },
        // A client's own `x-forwarded-client-cert` never arrives. Where clients are asked for certificates, Envoy writes what it has verified; and
        // where proxies in front are believed, behind what came over a connection that has shown one.
        "forward_client_cert_details" => match (certificates, forwarded) {
            (false, _) => "SANITIZE",
            (true, false) => "SANITIZE_SET",
            (true, true) => "APPEND_FORWARD",
        },
        "server_header_transformation" => "PASS_THROUGH",
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
        "max_request_headers_kb" => bounds.header_kib,
        "request_headers_timeout" => duration(bounds.headers_ms),
        "request_timeout" => duration(bounds.stream_ms),
        "stream_idle_timeout" => duration(bounds.idle_ms),
        "drain_timeout" => duration(DRAIN_MS),
        "common_http_protocol_options" => Node::Map(lifetimes),
        "http_protocol_options" => map! {
            "accept_http_10" => false,
            "allow_chunked_length" => false,
            "enable_trailers" => false,
        },
        "http2_protocol_options" => map! {
            "max_concurrent_streams" => bounds.streams,
            "initial_stream_window_size" => bounds.stream_window_bytes,
            "initial_connection_window_size" => CONNECTION_WINDOW_BYTES,
            "allow_connect" => false,
        },
        "local_reply_config" => local_reply::config(),
        "access_log" => access_log::http(),
        "http_filters" => chain,
        "route_config" => map! {
            "name" => "gate",
            // Whatever stands behind does not name itself.
            "response_headers_to_remove" => list!["server", "x-powered-by", "via"],
            // For the audit record. Written after every filter has run: a client's own field of that name is gone by then.
            "request_headers_to_add" => list![map! {
                "header" => map! {"key" => SOURCE_HEADER, "value" => "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"},
                "append_action" => "OVERWRITE_IF_EXISTS_OR_ADD",
            }],
            "virtual_hosts" => list![map! {
                "name" => "gate",
                "domains" => list!["*"],
                "routes" => list![
                    // The host bounds each message of a stream by itself; what bounds the whole is how long any stream may last.
                    route(map! {"path" => STREAM_PATH}, bounds, 0),
                    // From the last byte of the request.
                    route(map! {"prefix" => "/"}, bounds, bounds.timeout_ms),
                ],
            }],
        },
    };
    if certificates && let Node::Map(entries) = &mut manager {
        entries.push((
            "set_current_client_cert_details".to_owned(),
            // The certificate itself has what no other word of Envoy's says: its serial number.
            map! {"cert" => true, "uri" => true, "dns" => true},
        ));
    }
    Ok(manager)
}
