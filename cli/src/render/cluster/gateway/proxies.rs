//! The `EnvoyProxy`: what the Gateway's proxies get from their environment, how they prove who they
//! are, and what they report.

use tensorgate_audit::als::entry::{
    REQUEST_HEADERS, RESPONSE_HEADERS, RESPONSE_HEADERS_WITHOUT_STATE,
};
use tensorgate_policy::Policy;

use super::duration::duration;
use super::{EXTENSIONS, EnvoyGateway, MODULE};
use crate::render::cluster::ending::{LEAVE_S, drain_s};
use crate::render::cluster::filter_source::FilterSource;
use crate::render::cluster::workload::{AUDIT_PORT, FILTERS, filters_mount, filters_volume};
use crate::render::envoy::Driver;
use crate::render::envoy::access_log::texts;
use crate::render::node::{Node, entries, list, map};

/// Requests that the host has not answered. The resource cannot log filter state, without which an
/// entry about one that it has answered would read as a rejection. The host records these itself.
const NOT_ANSWERED: &str = "response.code_details != 'via_upstream'";
/// Where the proxies' own access log goes by default. A setting replaces that default.
const STDOUT: &str = "/dev/stdout";

/// The settings of the Gateway's proxies.
pub(super) fn proxies(gateway: &EnvoyGateway, policy: &Policy) -> Node {
    let workload = &gateway.workload;
    let sizes = workload.sizes;
    let mut container = entries(map! {
        "env" => list![workload.context_key()],
        // No limit of memory: other routes of the Gateway need what this policy does not know.
        "resources" => map! {"requests" => map! {
            "cpu" => sizes.envoy_cpu.to_string(),
            "memory" => format!("{}Mi", sizes.envoy_mib(policy)),
        }},
    });
    let (mut deployment, mut modules) = (Vec::new(), Vec::new());
    if matches!(gateway.filter, FilterSource::HostImage) {
        container.push(("volumeMounts".to_owned(), list![filters_mount()]));
        let mut pod = entries(map! {"volumes" => list![filters_volume()]});
        // The other options are for the gate's own pods.
        let secrets = workload.pod_options.spec();
        pod.extend(secrets.filter(|(field, _)| field == "imagePullSecrets"));
        deployment = entries(map! {
            "initContainers" => list![workload.filters()],
            "pod" => Node::Map(pod),
        });
        let file = format!("{FILTERS}/{}", Driver::Module.file());
        modules = entries(map! {"dynamicModules" => list![map! {
            "name" => MODULE,
            "source" => map! {"type" => "Local", "local" => map! {"path" => file}},
            // Its thread and what workers share stay, whatever configuration goes.
            "doNotClose" => true,
        }]});
    }
    deployment.push(("container".to_owned(), Node::Map(container)));
    let spec = map! {
        // Each worker has a VM of the filter. By default there is one for each processor of the
        // node.
        "concurrency" => sizes.workers(),
        "provider" => map! {
            "type" => "Kubernetes",
            "kubernetes" => map! {"envoyDeployment" => Node::Map(deployment)},
        },
        "backendTLS" => map! {
            "clientCertificateRef" => map! {
                "group" => "",
                "kind" => "Secret",
                "name" => gateway.gateway_certificate.as_str(),
            },
            "minVersion" => "1.3",
            // Otherwise Envoy announces no protocol to a backend whose protocol is fixed.
            "alpnProtocols" => list!["h2"],
        },
        // A proxy that ends closes connections with their next answer, and waits for the others
        // this long; by default a minute, whatever a request may last.
        "shutdown" => map! {
            "drainTimeout" => duration(drain_s(policy).saturating_mul(1000)),
            "minDrainDuration" => duration(LEAVE_S.saturating_mul(1000)),
        },
        "telemetry" => map! {"accessLog" => map! {"settings" => list![
            // The first setting: its cluster is named by this position.
            audit_log(gateway),
            map! {"sinks" => list![map! {"type" => "File", "file" => map! {"path" => STDOUT}}]},
        ]}},
    };
    let mut spec = entries(spec);
    spec.extend(modules);
    let name = workload.name.as_str();
    let spec = map! {"spec" => Node::Map(spec)};
    workload.object(EXTENSIONS, "EnvoyProxy", name, spec)
}

/// The access log to the host.
fn audit_log(gateway: &EnvoyGateway) -> Node {
    let workload = &gateway.workload;
    map! {
        // Without a type the listener would log connections, too.
        "type" => "Route",
        "matches" => list![NOT_ANSWERED],
        "sinks" => list![map! {
            "type" => "ALS",
            "als" => map! {
                "type" => "HTTP",
                "logName" => "tensorgate",
                "backendRefs" => list![map! {
                    "group" => "",
                    "kind" => "Service",
                    "name" => workload.name.as_str(),
                    "namespace" => workload.namespace.as_str(),
                    "port" => u32::from(AUDIT_PORT),
                }],
                "http" => map! {
                    "requestHeaders" => texts(&REQUEST_HEADERS),
                    "responseHeaders" => texts(&RESPONSE_HEADERS_WITHOUT_STATE),
                    "responseTrailers" => texts(&RESPONSE_HEADERS),
                },
            },
        }],
    }
}
