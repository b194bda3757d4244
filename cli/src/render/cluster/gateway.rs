//! The gate at a Gateway of Envoy Gateway: the filter in the Gateway's proxies, and the sandbox
//! host behind them over mutual TLS.
//!
//! Every path of the Gateway's host names leads to the host, which accepts nothing without the
//! filter's signature. So a route that lost its filter fails closed. Data, access log and limits
//! have a port each, so that no client's path can reach the log.

mod duration;
mod faults;
mod patches;
mod proxies;
mod routes;
#[cfg(test)]
mod tests;
mod traffic;

use tensorgate_policy::Policy;
use tensorgate_policy_load::load::Loaded;

use super::domains::{Hostname, Identity};
use super::encoded::filter_configuration;
use super::ending::EndAfter;
use super::filter_source::FilterSource;
use super::names::{MAX_LABEL_BYTES, Namespace, ObjectName, PodLabel};
use super::network::Admitted;
use super::workload::{
    AUDIT_PORT, GATE_PORT, GROUP_READABLE, LIMITS_PORT, Pod, Workload, without_sidecar,
};
use crate::render::manifests::Manifests;
use crate::render::node::map;
use crate::render::{Unrenderable, cluster};

/// API group of Gateways and routes.
const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// Version of that API.
const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";
/// Version of Envoy Gateway's own API.
const EXTENSIONS: &str = "gateway.envoyproxy.io/v1alpha1";
/// Folder of the host's certificate.
const TLS: &str = "/etc/tensorgate/tls";
/// How the host's Service announces HTTP/2. It is the only value with which Envoy Gateway uses
/// HTTP/2 for an `HTTPRoute`; with a `BackendTLSPolicy` that is HTTP/2 over TLS.
const HTTP2: Option<&str> = Some("kubernetes.io/h2c");
/// Name under which the proxies have the native module.
const MODULE: &str = "tensorgate";
/// Most host names of a route.
const MAX_HOSTS: usize = 16;
/// Labels that Envoy Gateway gives to the pods of a Gateway's proxies.
const OWNER_NAME: &str = "gateway.envoyproxy.io/owning-gateway-name";
const OWNER_NAMESPACE: &str = "gateway.envoyproxy.io/owning-gateway-namespace";

/// What this target needs beside a [`Workload`].
#[derive(Clone, Debug)]
pub struct EnvoyGateway {
    /// The pods.
    pub workload: Workload,
    /// Where the proxies have the filter from.
    pub filter: FilterSource,
    /// The Gateway, in the gate's namespace.
    pub gateway: ObjectName,
    /// Its listener; all if absent.
    pub section: Option<ObjectName>,
    /// Names that clients use; all of the listener if empty.
    pub hosts: Vec<Hostname>,
    /// Namespace of the proxies' pods.
    pub gateway_proxies: Namespace,
    /// The name in the proxies' certificate, which the host accepts.
    pub gateway_name: Identity,
    /// Secret with the host's certificate, and the authorities of the proxies' certificate.
    pub host_certificate: ObjectName,
    /// Secret with the proxies' certificate.
    pub gateway_certificate: ObjectName,
    /// ConfigMap with the authorities of the host's certificate.
    pub host_authority: ObjectName,
    /// Whether to patch what the resources have no fields for.
    pub patch_policy: bool,
}

impl EnvoyGateway {
    /// All objects.
    ///
    /// # Errors
    /// What the target cannot enforce.
    pub fn render(&self, loaded: &Loaded) -> Result<Manifests, Unrenderable> {
        let (policy, workload) = (&loaded.version.policy, &self.workload);
        let mut faults = cluster::faults(policy, workload, self.filter.driver());
        faults.extend(faults::faults(policy, self.patch_policy));
        if !faults.is_empty() {
            return Err(Unrenderable::Policy(faults));
        }
        if self.hosts.len() > MAX_HOSTS {
            let hosts = self.hosts.len();
            return Err(Unrenderable::Other(format!(
                "--hosts names {hosts} hosts, and a route has at most {MAX_HOSTS}"
            )));
        }
        let gateway = self.gateway.as_str();
        if gateway.len() > MAX_LABEL_BYTES {
            return Err(Unrenderable::Other(format!(
                "--gateway {gateway}: Envoy Gateway labels its proxies with this name, and a label has at most {MAX_LABEL_BYTES} characters"
            )));
        }
        let configuration = filter_configuration(&loaded.version, workload)?;
        let mut manifests = cluster::common(workload, loaded)?;
        manifests.add("deployment", workload.deployment(loaded, self.pod(policy)));
        let ports = [
            ("gate", GATE_PORT, HTTP2),
            ("audit", AUDIT_PORT, HTTP2),
            ("limits", LIMITS_PORT, HTTP2),
        ];
        manifests.add("service", workload.service(&ports));
        manifests.add("backendtlspolicy", routes::host_tls(self));
        manifests.add("envoyproxy", proxies::proxies(self, policy));
        manifests.add("httproute", routes::route(self, policy.listen().limits()));
        manifests.add("envoyextensionpolicy", routes::filter(self, configuration));
        manifests.add("clienttrafficpolicy", traffic::client_traffic(self, policy));
        manifests.add("backendtrafficpolicy", traffic::host_traffic(self, policy));
        if self.patch_policy {
            // The names of patched resources contain the listener's.
            let section = self.section.as_ref().ok_or_else(|| {
                Unrenderable::Other("--patch-policy needs --section, a listener's name".to_owned())
            })?;
            manifests.add("envoypatchpolicy", patches::patches(self, policy, section)?);
        }
        let label = |key: &str, value: &str| PodLabel {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let admitted = Admitted {
            private: vec![GATE_PORT, AUDIT_PORT, LIMITS_PORT],
            namespace: Some(self.gateway_proxies.to_string()),
            pods: vec![
                label(OWNER_NAME, self.gateway.as_str()),
                label(OWNER_NAMESPACE, workload.namespace.as_str()),
            ],
            ..Admitted::default()
        };
        manifests.add("networkpolicy", workload.network_policy(&admitted));
        Ok(manifests)
    }

    /// What the objects leave to the user's own Gateway, as sentences.
    pub fn notes(&self, policy: &Policy) -> Vec<String> {
        let mut notes = Vec::new();
        if self.section.is_none() {
            notes.push(
                "note: without --section the route is at every listener, plain-text ones included"
                    .to_owned(),
            );
        }
        let by_source = policy.clients().iter().any(|it| !it.sources().is_empty());
        if (by_source || policy.limits_sources()) && policy.listen().trusted_hops() == 0 {
            notes.push(
                "note: sources are allowed or limited, and listen.trusted_hops is 0: the load balancer has to keep the callers' addresses (externalTrafficPolicy: Local)".to_owned(),
            );
        }
        notes
    }

    /// The command that lets the Gateway name the `EnvoyProxy`.
    pub fn attach_command(&self) -> String {
        let (namespace, name) = (&self.workload.namespace, &self.workload.name);
        let gateway = self.gateway.as_str();
        format!(
            "kubectl -n {namespace} patch gateway {gateway} --type merge -p '{{\"spec\":{{\"infrastructure\":{{\"parametersRef\":{{\"group\":\"gateway.envoyproxy.io\",\"kind\":\"EnvoyProxy\",\"name\":\"{name}\"}}}}}}}}'"
        )
    }

    /// The host's DNS name. Its certificate has to have it.
    fn host_name(&self) -> String {
        format!("{}.{}.svc", self.workload.name, self.workload.namespace)
    }

    fn pod(&self, policy: &Policy) -> Pod {
        let items = ["tls.crt", "tls.key", "ca.crt"];
        let items = items.map(|key| map! {"key" => key, "path" => key});
        let arguments = vec![
            format!("--listen=0.0.0.0:{GATE_PORT}").into(),
            format!("--audit-listen=0.0.0.0:{AUDIT_PORT}").into(),
            // Each stream of a proxy leads to one of the pods.
            "--audit-shared".into(),
            format!("--limits-listen=0.0.0.0:{LIMITS_PORT}").into(),
            format!("--tls-cert={TLS}/tls.crt").into(),
            format!("--tls-key={TLS}/tls.key").into(),
            format!("--tls-client-ca={TLS}/ca.crt").into(),
            format!("--gateway={}", self.gateway_name.as_str()).into(),
        ];
        // A whole folder, because new certificates reach only such a mount.
        let mounts = vec![map! {"name" => "tls", "mountPath" => TLS, "readOnly" => true}];
        Pod {
            labels: vec![without_sidecar()],
            containers: vec![
                self.workload
                    .host(policy, EndAfter::Endpoint, arguments, mounts),
            ],
            volumes: vec![map! {
                "name" => "tls",
                "secret" => map! {
                    "secretName" => self.host_certificate.as_str(),
                    "defaultMode" => GROUP_READABLE,
                    "items" => items.to_vec(),
                },
            }],
            ..Pod::default()
        }
    }
}
