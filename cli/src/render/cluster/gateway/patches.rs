//! The `EnvoyPatchPolicy`: fields of Envoy that Envoy Gateway's other resources do not have.
//!
//! An administrator has to enable it. Each patch is one operation, so where patches are disabled,
//! or one does not fit, the field keeps the value that the other resources give it.

use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Counter, RateLimitService};

use super::{EXTENSIONS, EnvoyGateway, GATEWAY_GROUP};
use crate::render::Unrenderable;
use crate::render::cluster;
use crate::render::cluster::filter_source::FilterSource;
use crate::render::cluster::names::ObjectName;
use crate::render::cluster::workload::LIMITS_PORT;
use crate::render::envoy::bounds::Bounds;
use crate::render::envoy::control_plane::ControlPlane;
use crate::render::envoy::{access_log, clusters, http, key_sets};
use crate::render::node::{Node, entries, list, map};

/// The cluster of the first sink of the first setting of the proxies' access log.
const AUDIT_CLUSTER: &str = "accesslog_als_0_0";
/// The connection manager's configuration in every filter chain of a listener.
const MANAGER: &str =
    "..filters[?(@.name=='envoy.filters.network.http_connection_manager')].typed_config";

/// The patches for a listener.
///
/// # Errors
/// The policy cannot be rendered.
pub(super) fn patches(
    gateway: &EnvoyGateway,
    policy: &Policy,
    section: &ObjectName,
) -> Result<Node, Unrenderable> {
    let workload = &gateway.workload;
    let bounds = Bounds::from_limits(policy.listen().limits());
    let (namespace, gate) = (workload.namespace.as_str(), workload.name.as_str());
    let listener = format!(
        "{namespace}/{}/{}",
        gateway.gateway.as_str(),
        section.as_str()
    );
    let change = |operation: Node| {
        map! {
            "type" => "type.googleapis.com/envoy.config.listener.v3.Listener",
            "name" => listener.as_str(),
            "operation" => operation,
        }
    };
    let add = |at: &str, path: &str, value: Node| {
        change(map! {"op" => "add", "jsonPath" => at, "path" => path, "value" => value})
    };
    // A trap returns 503 until the VM is rebuilt, instead of until its configuration changes.
    let reload = matches!(gateway.filter, FilterSource::Image(_)).then(|| {
        let filter = format!(
            "..http_filters[?(@.name=='envoy.filters.http.wasm/envoyextensionpolicy/{namespace}/{gate}/wasm/0')].typed_config.config"
        );
        add(&filter, "/failure_policy", "FAIL_RELOAD".into())
    });
    // The log of every request, with the filter's state, instead of the one of requests that
    // the host has not answered.
    let logger = format!("..access_log[?(@.name=='{}')]", access_log::HTTP_LOGGER);
    let Node::List(loggers) = access_log::http(AUDIT_CLUSTER, false) else {
        return Err(Unrenderable::Other("the access log is no list".to_owned()));
    };
    let replace = |value: Node| {
        change(map! {"op" => "replace", "jsonPath" => logger.as_str(), "value" => value})
    };
    let mut patches: Vec<_> = loggers.into_iter().map(replace).collect();
    patches.extend(reload);
    patches.extend([
        add(MANAGER, "/max_request_headers_kb", bounds.header_kib.into()),
        add(
            MANAGER,
            "/common_http_protocol_options/max_headers_count",
            bounds.headers.into(),
        ),
        add(
            MANAGER,
            "/http_protocol_options/ignore_http_11_upgrade",
            http::ignored_upgrades(),
        ),
    ]);
    patches.extend(
        called_clusters(gateway, policy)?
            .into_iter()
            .map(|(name, cluster)| {
                map! {
                    "type" => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
                    "name" => name,
                    // A new resource has no path.
                    "operation" => map! {"op" => "add", "path" => "", "value" => cluster},
                }
            }),
    );
    let spec = map! {
        "targetRef" => map! {
            "group" => GATEWAY_GROUP,
            "kind" => "Gateway",
            "name" => gateway.gateway.as_str(),
        },
        "type" => "JSONPatch",
        "jsonPatches" => patches,
    };
    let spec = map! {"spec" => spec};
    Ok(workload.object(EXTENSIONS, "EnvoyPatchPolicy", gate, spec))
}

/// The clusters that the filter calls.
fn called_clusters(
    gateway: &EnvoyGateway,
    policy: &Policy,
) -> Result<Vec<(String, Node)>, Unrenderable> {
    let options = cluster::proxy_options(ControlPlane::EnvoyGateway);
    let mut all = Vec::new();
    for (issuer, url) in key_sets::fetched(policy) {
        let cluster = key_sets::key_set_cluster(issuer, url, &options)
            .map_err(|error| Unrenderable::Other(error.to_string()))?;
        all.push((tensorgate_filter_core::keys::cluster(issuer), cluster));
    }
    let counter = policy.rate_limit_service().map(RateLimitService::counter);
    let limits = match counter {
        Some(Counter::Endpoint { host, port }) => Some(clusters::other_limits(host, *port)),
        Some(Counter::Redis(_)) => Some(own_limits(gateway)),
        None => None,
    };
    let name = tensorgate_filter_core::host::RATE_LIMIT_CLUSTER;
    all.extend(limits.map(|cluster| (name.to_owned(), cluster)));
    Ok(all)
}

/// The host's rate limit service, over TLS with the certificates that Envoy Gateway has sent
/// for the route to the host.
fn own_limits(gateway: &EnvoyGateway) -> Node {
    let workload = &gateway.workload;
    let (namespace, gate) = (workload.namespace.as_str(), workload.name.as_str());
    let name = gateway.host_name();
    let secret = |name: String| {
        map! {
            "name" => name,
            "sds_config" => map! {"ads" => map! {}, "resource_api_version" => "V3"},
        }
    };
    let certificate = format!("{namespace}/{}", gateway.gateway_certificate.as_str());
    let tls = map! {
        "name" => "envoy.transport_sockets.tls",
        "typed_config" => map! {
            "@type" => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni" => name.as_str(),
            "common_tls_context" => map! {
                "tls_params" => map! {
                    "tls_minimum_protocol_version" => "TLSv1_3",
                    // Envoy's default for connections that it opens is TLS 1.2.
                    "tls_maximum_protocol_version" => "TLSv1_3",
                },
                "alpn_protocols" => list!["h2"],
                "tls_certificate_sds_secret_configs" => list![secret(certificate)],
                "combined_validation_context" => map! {
                    "default_validation_context" => map! {
                        "match_typed_subject_alt_names" => list![map! {
                            "san_type" => "DNS",
                            "matcher" => map! {"exact" => name.as_str()},
                        }],
                    },
                    "validation_context_sds_secret_config" =>
                        secret(format!("{gate}/{namespace}-ca")),
                },
            },
        },
    };
    let mut cluster = entries(clusters::other_limits(&name, LIMITS_PORT));
    cluster.push(("transport_socket".to_owned(), tls));
    Node::Map(cluster)
}
