//! The filter in an ingress gateway, and what it reaches of the host's pods: requests by a route,
//! the audit log and the limits by clusters. All go through the mesh's mTLS.

use tensorgate_audit::record::SOURCE_HEADER;
use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Counter, RateLimitService};

use crate::render::cluster::domains::DomainName;
use crate::render::cluster::names::{Namespace, ObjectName, PodLabel};
use crate::render::cluster::workload::{AUDIT_PORT, GATE_PORT, LIMITS_PORT, Workload};
use crate::render::envoy::clusters;
use crate::render::envoy::http::HIDDEN_HEADERS;
use crate::render::node::{Node, entries, list, map};

/// Domain of a cluster's Services.
const SERVICES: &str = "svc.cluster.local";
/// The cluster in Istio's proxies from which Envoy gets certificates.
const SECRETS: &str = "sds-grpc";

/// An ingress gateway. Its proxies serve nothing but the gate, because each of their listeners has
/// the filter.
#[derive(Clone, Debug)]
pub struct IngressGateway {
    /// Namespace of the gateway's pods and of its `Gateway`.
    pub namespace: Namespace,
    /// Name of its `Gateway` (networking.istio.io).
    pub name: ObjectName,
    /// Labels of its pods.
    pub pods: Vec<PodLabel>,
    /// Service account of its pods.
    pub account: ObjectName,
    /// Names that clients use.
    pub hosts: Vec<DomainName>,
}

impl IngressGateway {
    /// The route from the gateway to the host.
    pub fn route(&self, workload: &Workload) -> Node {
        let hosts: Vec<_> = (self.hosts.iter())
            .map(|host| Node::from(host.as_str()))
            .collect();
        let port = map! {"number" => u32::from(GATE_PORT)};
        let target = map! {"host" => service(workload), "port" => port};
        let source = map! {SOURCE_HEADER => "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"};
        let spec = map! {
            "hosts" => hosts,
            "gateways" => list![format!("{}/{}", self.namespace, self.name.as_str())],
            "http" => list![map! {
                "name" => "gate",
                "route" => list![map! {"destination" => target}],
                // Istio repeats requests by default. Each is charged and signed for one attempt.
                "retries" => map! {"attempts" => 0_u64},
                "headers" => map! {
                    // For the audit record: the client's address as the gateway knows it.
                    "request" => map! {"set" => source},
                    "response" => map! {"remove" => HIDDEN_HEADERS.map(Node::from).to_vec()},
                },
            }],
        };
        let (version, kind) = ("networking.istio.io/v1", "VirtualService");
        let name = workload.name.as_str();
        workload.object(version, kind, name, map! {"spec" => spec})
    }
}

/// DNS name of the host's Service.
fn service(workload: &Workload) -> String {
    format!("{}.{}.{SERVICES}", workload.name, workload.namespace)
}

/// The cluster of the host's audit log. Istio makes it from the Service, with mTLS.
pub fn audit_cluster(workload: &Workload) -> String {
    format!("outbound|{AUDIT_PORT}||{}", service(workload))
}

/// Whether a rate limit service beside the host counts shared limits.
pub fn counts_elsewhere(policy: &Policy) -> bool {
    let counter = policy.rate_limit_service().map(RateLimitService::counter);
    matches!(counter, Some(Counter::Endpoint { .. }))
}

/// The cluster of the host's limits. The filter calls it by a name of its own, so Istio's cluster
/// of the Service cannot serve, and the mesh's mTLS is spelled out. The server must have the
/// identity of the host's pods.
pub fn limits(workload: &Workload, principal: &str) -> Node {
    let service = service(workload);
    let mut cluster = entries(clusters::other_limits(&service, LIMITS_PORT));
    let tls = map! {
        "name" => "envoy.transport_sockets.tls",
        "typed_config" => map! {
            "@type" => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni" => format!("outbound_.{LIMITS_PORT}_._.{service}"),
            "common_tls_context" => map! {
                "alpn_protocols" => list!["istio", "h2"],
                "tls_certificate_sds_secret_configs" => list![secret("default")],
                "combined_validation_context" => map! {
                    "default_validation_context" => map! {
                        "match_typed_subject_alt_names" => list![map! {
                            "san_type" => "URI",
                            "matcher" => map! {"exact" => format!("spiffe://{principal}")},
                        }],
                    },
                    "validation_context_sds_secret_config" => secret("ROOTCA"),
                },
            },
        },
    };
    cluster.push(("transport_socket".to_owned(), tls));
    Node::Map(cluster)
}

/// A certificate, or the mesh's authorities, from the agent beside Envoy.
fn secret(name: &str) -> Node {
    map! {
        "name" => name,
        "sds_config" => map! {
            "resource_api_version" => "V3",
            "api_config_source" => map! {
                "api_type" => "GRPC",
                "transport_api_version" => "V3",
                "set_node_on_first_message_only" => true,
                "grpc_services" => list![map! {"envoy_grpc" => map! {"cluster_name" => SECRETS}}],
            },
        },
    }
}

/// Settings of the gateway's listeners about the address of a client.
pub fn settings(trusted_hops: u32) -> Vec<(String, Node)> {
    let mut settings = entries(map! {
        // No address counts as internal; this is the broadcast address. From internal addresses
        // Envoy would accept `x-request-id` and `x-envoy-*` headers.
        "internal_address_config" => map! {
            "unix_sockets" => false,
            "cidr_ranges" => list![map! {"address_prefix" => "255.255.255.255", "prefix_len" => 32_u64}],
        },
    });
    if trusted_hops > 0 {
        settings.push(("xff_num_trusted_hops".to_owned(), trusted_hops.into()));
    }
    settings
}
