//! The HTTP connection manager: accepted requests, timeouts and routes.

use tensorgate_audit::record::SOURCE_HEADER;
use tensorgate_policy::Policy;

use super::bounds::Bounds;
use super::dynamic::{Filter, Form};
use super::{
    RenderError, RenderOptions, access_log, clusters, duration, local_reply, remote_host, tracing,
};
use crate::render::node::{Node, entries, list, map};

/// Response headers that show the servers behind the gate.
pub const HIDDEN_HEADERS: [&str; 3] = ["server", "x-powered-by", "via"];
/// Path of inference streams.
pub const STREAM_PATH: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
/// Maximum duration of a connection with a client certificate, milliseconds. It bounds how long a
/// revoked client stays connected.
const CERTIFICATE_CONNECTION_MS: u64 = 900_000;
/// Drain time for streams when Envoy stops, milliseconds.
const DRAIN_MS: u64 = 5_000;

/// Offers of an upgrade that are ignored, as RFC 2817 and RFC 9110 (7.8) allow. Java's common HTTP
/// client offers TLS with each request without a body. Other offers are rejected: a server behind
/// might accept them.
pub fn ignored_upgrades() -> Node {
    list![map! {"prefix" => "TLS/", "ignore_case" => true}]
}

/// A route to the host. The timeout starts at the last byte of the request; 0 disables it.
fn route(
    matched: Node,
    own: Vec<(String, Node)>,
    options: &RenderOptions,
    timeout_ms: u64,
) -> Node {
    let mut target = vec![
        ("cluster".to_owned(), clusters::HOST.into()),
        ("timeout".to_owned(), duration(timeout_ms).into()),
    ];
    target.extend(options.control_plane.route_upgrades());
    if options.remote_hosts.is_some() {
        target.push(("retry_policy".to_owned(), remote_host::retry_policy()));
    }
    let mut route = vec![("match".to_owned(), matched)];
    route.extend(own);
    route.push(("route".to_owned(), Node::Map(target)));
    Node::Map(route)
}

/// The connection manager's configuration.
pub fn connection_manager(
    policy: &Policy,
    bounds: &Bounds,
    filters: &[Filter],
    options: &RenderOptions,
    form: Form<'_>,
) -> Result<Node, RenderError> {
    let (listen, plane) = (policy.listen(), options.control_plane);
    let traced = tracing::rule(policy, plane);
    let mut chain = filters
        .iter()
        .map(|filter| plane.filter_entry(filter, form))
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
    let mut lifetimes = vec![(
        "idle_timeout".to_owned(),
        duration(bounds.connection_idle_ms).into(),
    )];
    if let Some(stream_ms) = plane.stream_ms(bounds) {
        let most = duration(stream_ms).into();
        lifetimes.push(("max_stream_duration".to_owned(), most));
    }
    lifetimes.push(("max_headers_count".to_owned(), bounds.headers.into()));
    if plane.rejects_underscores() {
        // Some servers treat `x_api_key` as `x-api-key`.
        let action = "headers_with_underscores_action";
        lifetimes.push((action.to_owned(), "REJECT_REQUEST".into()));
    }
    if certificates {
        let most = duration(CERTIFICATE_CONNECTION_MS);
        lifetimes.push(("max_connection_duration".to_owned(), most.into()));
    }
    let own = || plane.route(filters, bounds);
    // For the audit record. Added fields are set after all filters have run, and overwrite the
    // client's own.
    let source = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%";
    let mut added = vec![tracing::overwritten(SOURCE_HEADER, source)];
    added.extend(traced.map(|_| tracing::mark()));
    let mut manager = entries(map! {
        "@type" => "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix" => "gate",
        "codec_type" => "AUTO",
        // The caller's address is the connection's, or the one reported by the trusted proxies.
        // Only this many entries of `x-forwarded-for` are trusted, from the right, and no other
        // header.
        "use_remote_address" => true,
        "xff_num_trusted_hops" => listen.trusted_hops(),
        // No address counts as internal; this is the broadcast address. From internal addresses
        // Envoy would accept `x-request-id` and `x-envoy-*` headers. Without a list, private and
        // loopback addresses are internal.
        "internal_address_config" => map! {
            "unix_sockets" => false,
            "cidr_ranges" => list![map! {"address_prefix" => "255.255.255.255", "prefix_len" => 32_u64}],
        },
        // The client's own `x-forwarded-client-cert` is removed. With client certificates, Envoy
        // sets the verified certificate. With trusted proxies, Envoy appends it to the header of a
        // connection that presented a certificate.
        "forward_client_cert_details" => match (certificates, forwarded) {
            (false, _) => "SANITIZE",
            (true, false) => "SANITIZE_SET",
            (true, true) => "APPEND_FORWARD",
        },
        "server_header_transformation" => "PASS_THROUGH",
    });
    manager.extend(plane.requests(traced.is_some()));
    manager.extend(traced.map(tracing::manager).unwrap_or_default());
    manager.extend(entries(map! {
        "max_request_headers_kb" => bounds.header_kib,
    }));
    manager.extend(plane.time_limits(bounds));
    manager.extend(entries(map! {
        "drain_timeout" => duration(DRAIN_MS),
        "common_http_protocol_options" => Node::Map(lifetimes),
        "http_protocol_options" => map! {
            "accept_http_10" => false,
            "ignore_http_11_upgrade" => ignored_upgrades(),
            "allow_chunked_length" => false,
            "enable_trailers" => false,
        },
    }));
    manager.extend(plane.http2(bounds));
    manager.extend(entries(map! {
        "local_reply_config" => local_reply::config(),
        "access_log" => access_log::http(clusters::AUDIT, traced.is_some()),
        "http_filters" => chain,
        "route_config" => map! {
            "name" => "gate",
            "response_headers_to_remove" => HIDDEN_HEADERS.map(Node::from).to_vec(),
            "request_headers_to_add" => added,
            "virtual_hosts" => list![map! {
                "name" => "gate",
                "domains" => list!["*"],
                "routes" => list![
                    // The host limits each message of a stream. The whole stream is limited by the
                    // maximum stream duration.
                    route(map! {"path" => STREAM_PATH}, own(), options, 0),
                    // The timeout starts at the last byte of the request.
                    route(map! {"prefix" => "/"}, own(), options, bounds.timeout_ms),
                ],
            }],
        },
    }));
    if certificates {
        manager.push((
            "set_current_client_cert_details".to_owned(),
            // Only the certificate itself contains the serial number.
            map! {"cert" => true, "uri" => true, "dns" => true},
        ));
    }
    Ok(Node::Map(manager))
}
