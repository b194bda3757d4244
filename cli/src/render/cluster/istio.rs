//! The gate in a mesh with Istio.
//!
//! | mode | filter | host |
//! |---|---|---|
//! | sidecar | in the sidecar of the gate's own pods | behind that sidecar, over a Unix socket |
//! | gateway | in an ingress gateway | pods of its own, which only the gateway reaches, by the mesh's mTLS |
//!
//! Istio loads the filter by a `TrafficExtension` or a `WasmPlugin`. What these cannot express
//! comes by an `EnvoyFilter`: the access log, limits on headers, Envoy's own replies, and the
//! filter as a native module.

mod access;
mod envoy_filter;
mod faults;
mod filter;
mod gateway;
mod pods;
#[cfg(test)]
mod tests;

use tensorgate_audit::record::SOURCE_HEADER;
use tensorgate_policy::Policy;
use tensorgate_policy_load::load::Loaded;
use tensorgate_settings::admin::GATEWAY_HEADER;

use super::domains::DomainName;
use super::encoded::filter_configuration;
use super::filter_source::FilterSource;
use super::names::{Namespace, NamespacedName};
use super::network::{self, Admitted};
use super::workload::{AUDIT_PORT, GATE_PORT, LIMITS_PORT, Workload};
use crate::render::envoy::bounds::Bounds;
use crate::render::envoy::clusters::Target;
use crate::render::envoy::control_plane::ControlPlane;
use crate::render::envoy::http::HIDDEN_HEADERS;
use crate::render::envoy::{RenderError, RenderOptions, clusters, key_sets, limits_cluster, pipe};
use crate::render::manifests::Manifests;
use crate::render::node::{Node, list, map};
use crate::render::{Unrenderable, cluster};
pub use filter::Release;
pub use gateway::IngressGateway;

use envoy_filter::Listener;
use pods::Port;

/// Port at which istiod gives sidecars their configuration and certificates.
const ISTIOD: u16 = 15_012;
/// Default port of a registry.
const HTTPS: u16 = 443;
/// Port at which a sidecar gives Prometheus the counters of its Envoy.
const SIDECAR_STATS: u16 = 15_090;

/// What this target needs beside a [`Workload`].
#[derive(Clone, Debug)]
pub struct Istio {
    /// The pods.
    pub workload: Workload,
    /// The filter.
    pub filter: FilterSource,
    /// Istio's version.
    pub release: Release,
    /// First part of every identity of the mesh.
    pub trust_domain: DomainName,
    /// Namespace of istiod.
    pub control_plane: Namespace,
    /// Where requests enter.
    pub entry: Entry,
}

/// Where requests enter, and so where the filter is.
#[derive(Clone, Debug)]
pub enum Entry {
    /// In the sidecar of the gate's own pods, from these service accounts; from every identity of
    /// the mesh if there is none.
    Sidecar(Vec<NamespacedName>),
    /// In an ingress gateway.
    Gateway(IngressGateway),
}

impl Istio {
    /// All objects.
    ///
    /// # Errors
    /// What the target cannot enforce.
    pub fn render(&self, loaded: &Loaded) -> Result<Manifests, Unrenderable> {
        let (policy, workload) = (&loaded.version.policy, &self.workload);
        let mut found = cluster::faults(policy, workload, self.filter.driver());
        found.extend(faults::faults(loaded, &self.entry));
        if !found.is_empty() {
            return Err(Unrenderable::Policy(found));
        }
        let ports = self.ports(policy);
        let filter_is_here = matches!(self.entry, Entry::Sidecar(_));
        let principals = self.principals();
        let mut manifests = cluster::common(workload, loaded)?;
        let pod = pods::pod(workload, policy, filter_is_here.then_some(&self.filter));
        manifests.add("deployment", workload.deployment(loaded, pod));
        manifests.add("service", pods::service(workload, &ports));
        manifests.add("sidecar", pods::sidecar(workload, &ports));
        manifests.add("peerauthentication", access::strict(workload));
        let numbers: Vec<_> = ports.iter().map(|port| port.number).collect();
        let allowed = access::only(workload, &principals, &numbers);
        manifests.add("authorizationpolicy", allowed);
        if let Some(closed) = access::model_servers(workload, self.principal_of_host()) {
            manifests.add("authorizationpolicy-model-servers", closed);
        }
        let network = workload.network_policy(&self.admitted(&ports));
        manifests.add("networkpolicy", network);
        match &self.entry {
            Entry::Sidecar(_) => self.add_sidecar(&mut manifests, loaded)?,
            Entry::Gateway(gateway) => self.add_gateway(&mut manifests, loaded, gateway)?,
        }
        Ok(manifests)
    }

    /// Namespace and name of the objects of other kinds that may load the filter in place of these.
    pub fn replaced_filter(&self) -> (&Namespace, String) {
        let workload = &self.workload;
        match &self.entry {
            Entry::Sidecar(_) => (&workload.namespace, workload.name.as_str().to_owned()),
            Entry::Gateway(gateway) => (&gateway.namespace, workload.qualified_name()),
        }
    }

    /// The filter in the sidecar of the gate's own pods.
    fn add_sidecar(&self, to: &mut Manifests, loaded: &Loaded) -> Result<(), Unrenderable> {
        let (policy, workload) = (&loaded.version.policy, &self.workload);
        let port = policy.listen().address().port();
        let at = Listener::Sidecar { port };
        let name = workload.name.as_str();
        let selected = workload.selector();
        let options = cluster::proxy_options(ControlPlane::Istio);
        let audit = pipe(&options.audit_socket).map_err(unrenderable)?;
        let bounds = Bounds::from_limits(policy.listen().limits());
        let mut patches = vec![
            at.cluster(clusters::audit(Target::socket(audit))),
            at.cluster(limits_cluster(policy, &options).map_err(unrenderable)?),
        ];
        let configuration = filter_configuration(&loaded.version, workload)?;
        match &self.filter {
            FilterSource::Image(image) => {
                let (file, object) =
                    image.object(self.release, workload, name, &selected, at, configuration);
                to.add(file, object);
            }
            FilterSource::HostImage => patches.push(at.filter(filter::native(&configuration)?)),
        }
        patches.extend(key_set_clusters(policy, &options, at)?);
        patches.push(at.manager(envoy_filter::settings(&bounds, clusters::AUDIT)));
        patches.extend(at.routes(map! {
            "response_headers_to_remove" => HIDDEN_HEADERS.map(Node::from).to_vec(),
            // The address of the connection. A sidecar takes the other one from `x-forwarded-for`,
            // which is the client's word.
            "request_headers_to_add" => list![set(
                SOURCE_HEADER,
                "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
            )],
        }));
        let object = envoy_filter::object(workload, name, &selected, patches);
        to.add("envoyfilter", object);
        Ok(())
    }

    /// The filter in a gateway, and the route to the host's pods.
    fn add_gateway(
        &self,
        to: &mut Manifests,
        loaded: &Loaded,
        gateway: &IngressGateway,
    ) -> Result<(), Unrenderable> {
        let (policy, workload) = (&loaded.version.policy, &self.workload);
        // Istio reads the filter's objects in the namespace of the pods that they select.
        let there = Workload {
            namespace: gateway.namespace.clone(),
            ..workload.clone()
        };
        let name = workload.qualified_name();
        let selected = network::labels(&gateway.pods);
        let at = Listener::Gateway;
        let options = cluster::proxy_options(ControlPlane::Istio);
        let listen = policy.listen();
        let bounds = Bounds::from_limits(listen.limits());
        let limits = if gateway::counts_elsewhere(policy) {
            limits_cluster(policy, &options).map_err(unrenderable)?
        } else {
            gateway::limits(workload, &self.principal_of_host())
        };
        let mut patches = vec![at.cluster(limits)];
        let configuration = filter_configuration(&loaded.version, workload)?;
        match &self.filter {
            FilterSource::Image(image) => {
                let (file, object) =
                    image.object(self.release, &there, &name, &selected, at, configuration);
                to.add(&format!("{file}-gateway"), object);
            }
            FilterSource::HostImage => patches.push(at.filter(filter::native(&configuration)?)),
        }
        patches.extend(key_set_clusters(policy, &options, at)?);
        let audit = gateway::audit_cluster(workload);
        let mut settings = envoy_filter::settings(&bounds, &audit);
        settings.extend(gateway::settings(listen.trusted_hops()));
        patches.push(at.manager(settings));
        let object = envoy_filter::object(&there, &name, &selected, patches);
        to.add("envoyfilter-gateway", object);

        // The headers that the gateway sends are larger than those of a client.
        let hop = Listener::Sidecar { port: GATE_PORT };
        let mut patches = vec![hop.manager(envoy_filter::hop_settings(listen.limits()))];
        // The host sees only its sidecar. This is for the list of gateways.
        let peer = "%DOWNSTREAM_PEER_URI_SAN% at %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%";
        patches.extend(hop.routes(map! {
            "request_headers_to_add" => list![set(GATEWAY_HEADER, peer)],
        }));
        let own = workload.selector();
        let object = envoy_filter::object(workload, workload.name.as_str(), &own, patches);
        to.add("envoyfilter", object);
        to.add("virtualservice", gateway.route(workload));
        Ok(())
    }

    /// The ports of the pods, and what is behind each.
    fn ports(&self, policy: &Policy) -> Vec<Port> {
        match &self.entry {
            Entry::Sidecar(_) => vec![Port::gate(policy.listen().address().port())],
            // The audit log and the limits have ports of their own, so that no path of a client
            // leads to them.
            Entry::Gateway(_) => vec![
                Port::gate(GATE_PORT),
                Port::grpc("grpc-audit", AUDIT_PORT, "audit.sock"),
                Port::grpc("grpc-limits", LIMITS_PORT, "limits.sock"),
            ],
        }
    }

    /// Identities that may reach these ports.
    fn principals(&self) -> Vec<String> {
        match &self.entry {
            // Every identity that the mesh has verified.
            Entry::Sidecar(clients) if clients.is_empty() => vec!["*".to_owned()],
            Entry::Sidecar(clients) => (clients.iter())
                .map(|client| self.principal(&client.namespace, client.name.as_str()))
                .collect(),
            Entry::Gateway(gateway) => {
                vec![self.principal(&gateway.namespace, gateway.account.as_str())]
            }
        }
    }

    /// The identity of the host's pods.
    fn principal_of_host(&self) -> String {
        let workload = &self.workload;
        self.principal(&workload.namespace, workload.name.as_str())
    }

    /// An identity as Istio's policies name it, without `spiffe://`.
    fn principal(&self, namespace: &Namespace, account: &str) -> String {
        format!("{}/ns/{namespace}/sa/{account}", self.trust_domain.as_str())
    }

    /// What may reach the pods, and what their sidecar needs.
    ///
    /// A kubelet's probes come from the pod's node, which network policies let pass: 15020 and
    /// 15021 need no rule. 15008, the tunnel of ambient mode, stays closed. 15017 is istiod's own.
    fn admitted(&self, ports: &[Port]) -> Admitted {
        let mut reaches = vec![network::reach(Some(self.control_plane.as_str()), ISTIOD)];
        let numbers = ports.iter().map(|port| port.number).collect();
        match &self.entry {
            Entry::Sidecar(_) => {
                if let FilterSource::Image(filter) = &self.filter {
                    // The sidecar fetches it.
                    let registry = filter.image.registry_port().unwrap_or(HTTPS);
                    reaches.push(network::reach(None, registry));
                }
                Admitted {
                    // Identities decide, not addresses.
                    public: numbers,
                    metrics: vec![SIDECAR_STATS],
                    reaches,
                    ..Admitted::default()
                }
            }
            Entry::Gateway(gateway) => Admitted {
                private: numbers,
                namespace: Some(gateway.namespace.to_string()),
                pods: gateway.pods.clone(),
                reaches,
                ..Admitted::default()
            },
        }
    }
}

/// Clusters of the issuers' key sets.
fn key_set_clusters(
    policy: &Policy,
    options: &RenderOptions,
    at: Listener,
) -> Result<Vec<Node>, Unrenderable> {
    key_sets::fetched(policy)
        .map(|(issuer, url)| {
            let cluster = key_sets::key_set_cluster(issuer, url, options);
            cluster
                .map(|cluster| at.cluster(cluster))
                .map_err(unrenderable)
        })
        .collect()
}

/// A header with a value of Envoy's, instead of any that was sent.
fn set(name: &str, value: &str) -> Node {
    map! {
        "header" => map! {"key" => name, "value" => value},
        "append_action" => "OVERWRITE_IF_EXISTS_OR_ADD",
    }
}

fn unrenderable(error: RenderError) -> Unrenderable {
    Unrenderable::Other(error.to_string())
}
