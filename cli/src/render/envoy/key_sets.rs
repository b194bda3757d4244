//! Envoy clusters for the servers that publish issuers' keys. Each cluster trusts one server name
//! and carries few concurrent requests.

use std::path::Path;

use tensorgate_filter_core::keys::cluster;
use tensorgate_filter_core::keys::document::MAX_DOCUMENT_BYTES;
use tensorgate_policy::Policy;
use tensorgate_policy::policy::{KeySetUrl, Server};

use super::{RenderError, RenderOptions, duration, socket_address, text};
use crate::render::node::{Node, list, map};

/// Largest response to a filter's request, bytes. Envoy buffers it completely. The filter rejects
/// key sets larger than half of it.
pub const ANSWER_BYTES: u64 = 2 * MAX_DOCUMENT_BYTES as u64;
/// Connect timeout including the TLS handshake, milliseconds.
const CONNECT_MS: u64 = 2_000;
/// Concurrent requests: one, and one that failed but is not yet reported.
const MAX_REQUESTS: u32 = 2;
/// System files of certificate authorities: Debian, Red Hat, Alpine, SUSE.
pub const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// The key sets that a policy fetches, with the names of their issuers.
pub fn fetched(policy: &Policy) -> impl Iterator<Item = (&str, &KeySetUrl)> {
    let issuers = policy.issuers().iter();
    issuers.filter_map(|issuer| Some((issuer.name(), issuer.key_set()?)))
}

/// The cluster for one key set.
pub fn key_set_cluster(
    issuer: &str,
    url: &KeySetUrl,
    options: &RenderOptions,
) -> Result<Node, RenderError> {
    let (kind, address) = match url.server() {
        Server::Name(name) => ("LOGICAL_DNS", name.clone()),
        Server::Address(address) => ("STATIC", address.to_string()),
    };
    let name = cluster(issuer);
    let mut entries = vec![
        ("name".to_owned(), name.as_str().into()),
        ("type".to_owned(), kind.into()),
        ("connect_timeout".to_owned(), duration(CONNECT_MS).into()),
        (
            "per_connection_buffer_limit_bytes".to_owned(),
            ANSWER_BYTES.into(),
        ),
        (
            "circuit_breakers".to_owned(),
            map! {
                "thresholds" => list![map! {
                    "max_connections" => MAX_REQUESTS,
                    "max_pending_requests" => MAX_REQUESTS,
                    "max_requests" => MAX_REQUESTS,
                    // The filter repeats the request when it is due.
                    "max_retries" => 0_u64,
                }],
            },
        ),
        (
            "typed_extension_protocol_options".to_owned(),
            map! {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions" => map! {
                    "@type" => "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    // Connections are not reused, so that each request verifies the server's
                    // certificate.
                    "common_http_protocol_options" => map! {"max_requests_per_connection" => 1_u64},
                    "explicit_http_config" => map! {"http_protocol_options" => map! {}},
                },
            },
        ),
        (
            "load_assignment".to_owned(),
            map! {
                "cluster_name" => name.as_str(),
                "endpoints" => list![map! {"lb_endpoints" => list![map! {
                    "endpoint" => map! {"address" => socket_address(address, url.port())},
                }]}],
            },
        ),
    ];
    if let Server::Name(_) = url.server() {
        // The first address family that answers.
        entries.push(("dns_lookup_family".to_owned(), "ALL".into()));
        entries.push(("respect_dns_ttl".to_owned(), true.into()));
    }
    if url.tls() {
        entries.push(("transport_socket".to_owned(), tls(url, options)?));
    }
    Ok(Node::Map(entries))
}

/// TLS settings: the server's certificate must have its name, and come from the authorities of the
/// policy or the system.
fn tls(url: &KeySetUrl, options: &RenderOptions) -> Result<Node, RenderError> {
    let authorities = match url.ca() {
        Some(file) => options.root.join(file),
        None => options.system_authorities.clone(),
    };
    server_tls(url.server(), &authorities)
}

/// TLS settings of HTTP/1.1 to a server whose certificate must have its name, and come from these
/// authorities.
pub fn server_tls(server: &Server, authorities: &Path) -> Result<Node, RenderError> {
    let (kind, name, sni) = match server {
        Server::Name(name) => ("DNS", name.clone(), Some(name)),
        Server::Address(address) => ("IP_ADDRESS", address.to_string(), None),
    };
    let mut context = vec![(
        "@type".to_owned(),
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext".into(),
    )];
    context.extend(sni.map(|name| ("sni".to_owned(), name.as_str().into())));
    context.push((
        "common_tls_context".to_owned(),
        map! {
            "tls_params" => map! {"tls_minimum_protocol_version" => "TLSv1_2"},
            "alpn_protocols" => list!["http/1.1"],
            "validation_context" => map! {
                "trusted_ca" => map! {"filename" => text(authorities)?},
                "match_typed_subject_alt_names" => list![map! {
                    "san_type" => kind,
                    "matcher" => map! {"exact" => name},
                }],
            },
        },
    ));
    Ok(map! {
        "name" => "envoy.transport_sockets.tls",
        "typed_config" => Node::Map(context),
    })
}

/// The system's certificate authorities: the first of the known files that exists.
pub fn system_authorities() -> Option<&'static Path> {
    SYSTEM_AUTHORITIES
        .into_iter()
        .map(Path::new)
        .find(|file| file.is_file())
}
