//! The routes from the Gateway to the host, the filter in front of them, and the TLS behind them.

use tensorgate_audit::record::SOURCE_HEADER;
use tensorgate_filter_core::filter::Filter;
use tensorgate_filter_core::root::CONTEXT_KEY_VARIABLE;
use tensorgate_policy::policy::Limits;

use super::duration::duration;
use super::{EXTENSIONS, EnvoyGateway, GATEWAY_API, GATEWAY_GROUP, MODULE};
use crate::render::cluster::filter_source::{FilterImage, FilterSource};
use crate::render::cluster::workload::GATE_PORT;
use crate::render::envoy::http::{HIDDEN_HEADERS, STREAM_PATH};
use crate::render::node::{Node, entries, list, map};

/// Name of the filter. It is the root ID of the combined filter, too.
const FILTER: &str = "tensorgate.gate";

/// The route to the host: every path, so that the gate answers unknown ones, and its audit log
/// has them. There is no `GRPCRoute`, because Envoy Gateway could place another filter before
/// the gate for it, and because the two kinds cannot share a host name.
pub(super) fn route(gateway: &EnvoyGateway, limits: &Limits) -> Node {
    let workload = &gateway.workload;
    let mut parent = entries(map! {"name" => gateway.gateway.as_str()});
    if let Some(section) = &gateway.section {
        parent.push(("sectionName".to_owned(), section.as_str().into()));
    }
    let rule = |kind: &str, path: &str, timeout_ms: u64| {
        map! {
            "matches" => list![map! {"path" => map! {"type" => kind, "value" => path}}],
            "filters" => headers(),
            "timeouts" => map! {"request" => duration(timeout_ms)},
            "backendRefs" => list![map! {
                "name" => workload.name.as_str(),
                "port" => u32::from(GATE_PORT),
            }],
        }
    };
    let mut spec = entries(map! {"parentRefs" => list![Node::Map(parent)]});
    if !gateway.hosts.is_empty() {
        let hosts = gateway.hosts.iter().map(|host| Node::from(host.as_str()));
        spec.push(("hostnames".to_owned(), hosts.collect::<Vec<_>>().into()));
    }
    spec.push((
        "rules".to_owned(),
        list![
            // The host limits each message of a stream, and the listener the whole stream.
            rule("Exact", STREAM_PATH, 0),
            rule("PathPrefix", "/", limits.timeout_ms),
        ],
    ));
    let name = workload.name.as_str();
    let spec = map! {"spec" => Node::Map(spec)};
    workload.object(GATEWAY_API, "HTTPRoute", name, spec)
}

/// The filter on these routes. A policy of the whole Gateway would judge the requests of other
/// applications, and a policy of a route would replace it there.
pub(super) fn filter(gateway: &EnvoyGateway, configuration: Node) -> Node {
    let workload = &gateway.workload;
    let (kind, filter) = match &gateway.filter {
        FilterSource::Image(filter) => ("wasm", wasm(filter, configuration)),
        FilterSource::HostImage => {
            let filter = map! {
                "name" => MODULE,
                "filterName" => Filter::Gate.name(),
                "config" => configuration,
            };
            ("dynamicModule", filter)
        }
    };
    let spec = map! {"targetRefs" => list![own_route(gateway)], kind => list![filter]};
    let name = workload.name.as_str();
    let spec = map! {"spec" => spec};
    workload.object(EXTENSIONS, "EnvoyExtensionPolicy", name, spec)
}

/// The filter as the WebAssembly module of this image.
fn wasm(filter: &FilterImage, configuration: Node) -> Node {
    let mut source = entries(map! {
        "url" => format!("oci://{}", filter.image),
        // The digest of the image's manifest, which Envoy Gateway compares.
        "sha256" => filter.image.digest(),
    });
    if let Some(secret) = &filter.pull_secret {
        let secret = map! {"name" => secret.as_str()};
        source.push(("pullSecretRef".to_owned(), secret));
    }
    map! {
        "name" => FILTER,
        "rootID" => FILTER,
        "failOpen" => false,
        "code" => map! {
            "type" => "Image",
            "image" => Node::Map(source),
            "pullPolicy" => "IfNotPresent",
        },
        "env" => map! {"hostKeys" => list![CONTEXT_KEY_VARIABLE]},
        "config" => configuration,
    }
}

/// TLS to all ports of the host.
pub(super) fn host_tls(gateway: &EnvoyGateway) -> Node {
    let workload = &gateway.workload;
    let spec = map! {
        "targetRefs" => list![map! {
            "group" => "",
            "kind" => "Service",
            "name" => workload.name.as_str(),
        }],
        "validation" => map! {
            "hostname" => gateway.host_name(),
            "caCertificateRefs" => list![map! {
                "group" => "",
                "kind" => "ConfigMap",
                "name" => gateway.host_authority.as_str(),
            }],
        },
    };
    let name = workload.name.as_str();
    let spec = map! {"spec" => spec};
    workload.object(GATEWAY_API, "BackendTLSPolicy", name, spec)
}

/// Our own route, as the target of a policy.
pub(super) fn own_route(gateway: &EnvoyGateway) -> Node {
    map! {
        "group" => GATEWAY_GROUP,
        "kind" => "HTTPRoute",
        "name" => gateway.workload.name.as_str(),
    }
}

/// Changes of headers, made after all filters.
fn headers() -> Node {
    list![
        map! {
            "type" => "RequestHeaderModifier",
            // For the audit record. It overwrites the client's own header.
            "requestHeaderModifier" => map! {"set" => list![map! {
                "name" => SOURCE_HEADER,
                "value" => "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
            }]},
        },
        map! {
            "type" => "ResponseHeaderModifier",
            "responseHeaderModifier" => map! {"remove" => HIDDEN_HEADERS.map(Node::from).to_vec()},
        },
    ]
}
