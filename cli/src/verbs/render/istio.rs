//! `render istio`: a policy as objects of a mesh with Istio.

use clap::Args;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;
use tensorgate_policy_load::load::Loaded;

use super::cluster::Cluster;
use super::next_steps::{ANONYMOUS, NextSteps, request};
use crate::render::cluster::domains::DomainName;
use crate::render::cluster::filter_source::FilterSource;
use crate::render::cluster::istio;
use crate::render::cluster::names::{
    Image, Namespace, NamespacedName, ObjectName, PodLabel, check_distinct,
};
use crate::render::cluster::needs::Needs;
use crate::render::envoy::Driver;
use crate::render::manifests::Manifests;

/// Why no filter is rendered for a waypoint.
const WAYPOINT: &str = "a waypoint cannot enforce the policy, so nothing is written:
- EnvoyFilter, which sets what Istio's other objects cannot, is not supported there.
- Without it no access log has the filter's outcome: rejections are missing in the audit log.
- The policy's limits on headers, streams and idle time are not enforced.
- Envoy's own replies keep Envoy's wording.
- Istio makes a waypoint's pods, so the filter gets no context key and rejects every request.
Render for a sidecar (without --waypoint), or for an ingress gateway (--gateway).";
/// What holds for every mesh.
const UNRESTRICTED: &str = "note: Istio cannot restrict what the filter's VM calls; load no other module into the same proxy";

/// The same with the native module.
const NATIVE: &str = "note: the native module runs with the rights of the proxy: docs/how-to/native-module.md compares what a fault costs";
/// What an ingress gateway needs for the native module.
const GATEWAY_MODULE: &str = "note: the gateway's pods need the module before their proxy starts: docs/how-to/istio.md has the init container";

/// A gate in a mesh with Istio: the filter in the sidecar of the gate's pods, or in an ingress
/// gateway.
///
/// Nothing secret is written. The Secret with the context key must exist in the namespace of the
/// gate and, with --gateway, in that of the gateway, whose pods get it in TENSORGATE_CONTEXT_KEY.
#[derive(Args)]
#[command(
    after_help = "Example: tensorgate render istio gate.yaml -o rendered --namespace ml --clients web/frontend \\\n  --host-image registry.example.com/tensorgate/host@sha256:DIGEST --filter-image registry.example.com/tensorgate/filter@sha256:DIGEST"
)]
pub struct Istio {
    #[command(flatten)]
    pub cluster: Cluster,
    /// How Envoy runs the filter. The native module needs Istio 1.31. It is copied out of the
    /// host's image, by an init container of the proxy's pod.
    #[arg(long, value_name = "DRIVER", default_value = "wasm")]
    driver: Driver,
    /// With --driver wasm: image of the filter. The digest is that of the image's manifest, not of
    /// an index.
    #[arg(long, value_name = "IMAGE@sha256:DIGEST")]
    filter_image: Option<Image>,
    /// Secret with the registry's credentials for the filter's image, in the namespace of the
    /// proxy that loads it.
    #[arg(long, value_name = "SECRET", requires = "filter_image")]
    filter_pull_secret: Option<ObjectName>,
    /// Version of Istio: in 1.29 a WasmPlugin loads the filter, from 1.30 a TrafficExtension.
    /// Earlier ones have an Envoy before 1.37, which the filter needs.
    #[arg(long, value_enum, value_name = "VERSION", default_value_t)]
    istio_release: istio::Release,
    /// Namespace of istiod.
    #[arg(long, value_name = "NAMESPACE", default_value = "istio-system")]
    istio_namespace: Namespace,
    /// Trust domain of the mesh.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    trust_domain: DomainName,
    /// Service account that may send requests; repeatable. By default every identity of the mesh
    /// may.
    #[arg(long, value_name = "NAMESPACE/ACCOUNT", conflicts_with = "gateway")]
    clients: Vec<NamespacedName>,
    /// The Gateway (networking.istio.io) of the ingress gateway that has the filter. Its pods must
    /// serve nothing else.
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        requires = "gateway_pods",
        requires = "gateway_account",
        requires = "hosts"
    )]
    gateway: Option<NamespacedName>,
    /// Label of the gateway's pods, as in istio=ingressgateway; repeatable.
    #[arg(long, value_name = "KEY=VALUE", requires = "gateway")]
    gateway_pods: Vec<PodLabel>,
    /// Service account of the gateway's pods.
    #[arg(long, value_name = "ACCOUNT", requires = "gateway")]
    gateway_account: Option<ObjectName>,
    /// DNS name that clients use at the gateway; repeatable.
    #[arg(long, value_name = "DOMAIN", requires = "gateway")]
    hosts: Vec<DomainName>,
    /// Refused: a waypoint cannot enforce a policy.
    #[arg(long, value_name = "NAME", conflicts_with = "gateway")]
    waypoint: Option<ObjectName>,
}

impl Istio {
    /// Whether the filter is in an ingress gateway.
    pub(super) const fn is_gateway(&self) -> bool {
        self.gateway.is_some()
    }

    /// Renders the policy.
    pub fn run(self, ui: &Ui, loaded: Loaded) -> Result<(), Failure> {
        if let Some(waypoint) = &self.waypoint {
            let name = waypoint.as_str();
            return Err(Failure::Input(format!("--waypoint {name}: {WAYPOINT}")));
        }
        let filter = self.filter()?;
        check_distinct(&self.gateway_pods, "--gateway-pods").map_err(Failure::Input)?;
        let is_native = filter.driver() == Driver::Module;
        let mut notes = vec![if is_native { NATIVE } else { UNRESTRICTED }.to_owned()];
        let entry = match (self.gateway, self.gateway_account) {
            (None, _) => {
                if self.clients.is_empty() {
                    notes.push(
                        "note: every workload of the mesh may send requests; name those that may with --clients".to_owned(),
                    );
                }
                istio::Entry::Sidecar(self.clients)
            }
            (Some(gateway), Some(account)) => {
                notes.push(format!(
                    "note: the gateway's container needs TENSORGATE_CONTEXT_KEY; with the Secret of the gate in namespace {namespace}: kubectl -n {namespace} set env deployment/NAME --prefix=TENSORGATE_ --from=secret/SECRET",
                    namespace = gateway.namespace,
                ));
                if is_native {
                    notes.push(GATEWAY_MODULE.to_owned());
                }
                istio::Entry::Gateway(istio::IngressGateway {
                    namespace: gateway.namespace,
                    name: gateway.name,
                    pods: self.gateway_pods,
                    account,
                    hosts: self.hosts,
                })
            }
            (Some(_), None) => {
                return Err(Failure::Input("--gateway needs --gateway-account".into()));
            }
        };
        let (release, trust_domain) = (self.istio_release, self.trust_domain);
        let control_plane = self.istio_namespace;
        self.cluster.run(ui, loaded, |workload, loaded| {
            let target = istio::Istio {
                workload,
                filter,
                release,
                trust_domain,
                control_plane,
                entry,
            };
            let (namespace, name) = target.replaced_filter();
            let mut replaced = |objects: &str, kind: &str| {
                notes.push(format!(
                    "note: if these objects replace those {objects}, delete the old filter once they are applied, because two filters in one proxy both decide: kubectl -n {namespace} delete {kind} {name}"
                ));
            };
            if is_native {
                replaced(
                    "with the wasm module",
                    "--ignore-not-found trafficextension,wasmplugin",
                );
            } else if target.release > istio::Release::V1_29 {
                replaced("for Istio 1.29", "wasmplugin");
            }
            let manifests = target.render(loaded)?;
            let mut steps = next_steps(&target, &manifests, loaded);
            for note in notes {
                steps.note(note);
            }
            Ok((manifests, steps))
        })
    }
}

impl Istio {
    /// Where the proxies have the filter from.
    fn filter(&self) -> Result<FilterSource, Failure> {
        let (image, secret) = (self.filter_image.clone(), self.filter_pull_secret.clone());
        let wrong = |fault: &str| Failure::Input(fault.to_owned());
        let filter = FilterSource::new(self.driver, image, secret).map_err(wrong)?;
        if filter.driver() == Driver::Module && self.istio_release < istio::Release::V1_31 {
            return Err(wrong(
                "--driver module needs --istio-release 1.31: the proxies of earlier releases load no native modules",
            ));
        }
        Ok(filter)
    }
}

/// What to do with the objects.
fn next_steps(target: &istio::Istio, manifests: &Manifests, loaded: &Loaded) -> NextSteps {
    let workload = &target.workload;
    let (namespace, name) = (workload.namespace.as_str(), workload.name.as_str());
    let mut needs = Needs::of(manifests, None);
    match &target.entry {
        istio::Entry::Sidecar(clients) => {
            let mut steps = NextSteps::after(needs.lines());
            steps.add_rollout(namespace, name);
            // Only a sidecar of the mesh speaks its TLS.
            let client = clients.first().map(|client| client.namespace.as_str());
            let port = loaded.version.policy.listen().address().port();
            steps.add(
                "Send a request without a credential from a pod of the mesh that may: the gate is in force if this prints 401; 403 is Istio's answer to other pods",
                format!(
                    "kubectl -n {} exec deployment/CLIENT -c CONTAINER -- {}",
                    client.unwrap_or("NAMESPACE"),
                    request("http", &format!("{name}.{namespace}:{port}"))
                ),
            );
            steps
        }
        istio::Entry::Gateway(gateway) => {
            needs.add_context_key(&gateway.namespace, &workload.context_secret);
            let mut steps = NextSteps::after(needs.lines());
            steps.add_rollout(namespace, name);
            let host = gateway.hosts.first().map_or("HOST", DomainName::as_str);
            steps.add(ANONYMOUS, request("https", host));
            steps
        }
    }
}
