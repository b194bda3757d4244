//! The ways to the servers where issuers publish their keys: one cluster each, which believes one name and carries one question at a time.

use std::path::Path;

use tensorgate_filter_core::keys::cluster;
use tensorgate_filter_core::keys::document::MAX_DOCUMENT_BYTES;
use tensorgate_policy::Policy;
use tensorgate_policy::policy::{KeySetUrl, Server};

use super::{Places, RenderError, duration, text};
use crate::render::node::{Node, list, map};

/// What an answer to a filter's question may hold, bytes: the filter itself refuses a key set that is larger than half of it. Envoy holds an
/// answer whole.
pub const ANSWER_BYTES: u64 = 2 * MAX_DOCUMENT_BYTES as u64;
/// Connecting, its TLS handshake included, milliseconds.
const CONNECT_MS: u64 = 2_000;
/// Questions at once: one, and one that died and was not told so yet.
const QUESTIONS: u32 = 2;
/// Where the authorities that a system believes lie: Debian and its like, Red Hat and its like, Alpine, SUSE.
pub const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// Key sets of a policy that are fetched, with the names of their issuers.
pub fn of(policy: &Policy) -> impl Iterator<Item = (&str, &KeySetUrl)> {
    let issuers = policy.issuers().iter();
    issuers.filter_map(|issuer| Some((issuer.name(), issuer.key_set()?)))
}

/// The way to one.
pub fn way(issuer: &str, url: &KeySetUrl, places: &Places) -> Result<Node, RenderError> {
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
                    "max_connections" => QUESTIONS,
                    "max_pending_requests" => QUESTIONS,
                    "max_requests" => QUESTIONS,
                    // The filter asks again when it is time.
                    "max_retries" => 0_u64,
                }],
            },
        ),
        (
            "typed_extension_protocol_options".to_owned(),
            map! {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions" => map! {
                    "@type" => "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    // A connection that is kept would be one that nobody has looked at the certificate of for a while.
                    "common_http_protocol_options" => map! {"max_requests_per_connection" => 1_u64},
                    "explicit_http_config" => map! {"http_protocol_options" => map! {}},
                },
            },
        ),
        (
            "load_assignment".to_owned(),
            map! {
                "cluster_name" => name.as_str(),
                "endpoints" => list![map! {"lb_endpoints" => list![map! {"endpoint" => map! {"address" => map! {
                    "socket_address" => map! {"address" => address, "port_value" => u32::from(url.port())},
                }}}]}],
            },
        ),
    ];
    if let Server::Name(_) = url.server() {
        // Whatever family answers first.
        entries.push(("dns_lookup_family".to_owned(), "ALL".into()));
        entries.push(("respect_dns_ttl".to_owned(), true.into()));
    }
    if url.tls() {
        entries.push(("transport_socket".to_owned(), tls(url, places)?));
    }
    Ok(Node::Map(entries))
}

/// Whom to believe: a certificate of the server's own name, from the authorities that the policy or the system names.
fn tls(url: &KeySetUrl, places: &Places) -> Result<Node, RenderError> {
    let authorities = match url.ca() {
        Some(file) => places.root.join(file),
        None => places.system_authorities.clone(),
    };
    let (kind, name, sni) = match url.server() {
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
                "trusted_ca" => map! {"filename" => text(&authorities)?},
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

/// The authorities that this system believes: the first file of those that systems have.
pub fn system_authorities() -> Option<&'static Path> {
    SYSTEM_AUTHORITIES
        .into_iter()
        .map(Path::new)
        .find(|file| file.is_file())
}
