//! `render gateway`: a policy as objects of a cluster with Envoy Gateway.

use clap::Args;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;
use tensorgate_policy_load::load::Loaded;

use super::cluster::Cluster;
use super::next_steps::{ANONYMOUS, NextSteps, request};
use crate::render::cluster::domains::{Hostname, Identity};
use crate::render::cluster::filter_source::FilterSource;
use crate::render::cluster::gateway;
use crate::render::cluster::names::{Image, Namespace, ObjectName};
use crate::render::cluster::needs::Needs;
use crate::render::envoy::Driver;
use crate::render::manifests::Manifests;

/// The gate at a Gateway of Envoy Gateway 1.8 to 1.10: the filter in its proxies, and the sandbox
/// host behind them over mutual TLS.
///
/// Nothing secret is written. These must exist: the Secret with the context key, here and in the
/// namespace of the proxies; the Secrets with both certificates; the ConfigMap with the authorities
/// of the host's. The host's certificate has the name NAME.NAMESPACE.svc.
#[derive(Args)]
#[command(
    after_help = "Example: tensorgate render gateway gate.yaml -o rendered --namespace ml --gateway models --section https \\\n  --hosts models.example.com --gateway-name gateway.example.com --model-server app=triton \\\n  --host-image registry.example.com/tensorgate/host@sha256:DIGEST --filter-image registry.example.com/tensorgate/filter@sha256:DIGEST"
)]
pub struct Gateway {
    #[command(flatten)]
    pub cluster: Cluster,
    /// How Envoy runs the filter. The native module is copied out of the host's image, by an init
    /// container of the proxies.
    #[arg(long, value_name = "DRIVER", default_value = "wasm")]
    driver: Driver,
    /// With --driver wasm: image of the filter, as `tensorgate image build` makes it. The digest is
    /// the manifest's.
    #[arg(long, value_name = "IMAGE@sha256:DIGEST")]
    filter_image: Option<Image>,
    /// Secret with the credentials of the filter's registry.
    #[arg(long, value_name = "SECRET", requires = "filter_image")]
    filter_pull_secret: Option<ObjectName>,
    /// The Gateway, in the gate's namespace.
    #[arg(long, value_name = "GATEWAY")]
    gateway: ObjectName,
    /// Its listener; all of them by default.
    #[arg(long, value_name = "LISTENER")]
    section: Option<ObjectName>,
    /// DNS name that clients use; repeatable. All of the listener by default.
    #[arg(long = "hosts", value_name = "HOST")]
    hosts: Vec<Hostname>,
    /// Namespace of the proxies' pods.
    #[arg(long, value_name = "NAMESPACE", default_value = "envoy-gateway-system")]
    gateway_proxies: Namespace,
    /// Name in the proxies' certificate, which the host accepts: a DNS name or a SPIFFE ID.
    #[arg(long, value_name = "NAME")]
    gateway_name: Identity,
    /// Secret with the host's certificate (`tls.crt`, `tls.key`) and the authorities of the
    /// proxies' certificate (`ca.crt`); NAME-host-tls by default.
    #[arg(long, value_name = "SECRET")]
    host_certificate: Option<ObjectName>,
    /// Secret with the proxies' certificate (`tls.crt`, `tls.key`); NAME-gateway-tls by default.
    #[arg(long, value_name = "SECRET")]
    gateway_certificate: Option<ObjectName>,
    /// ConfigMap with the authorities of the host's certificate (`ca.crt`); NAME-host-ca by
    /// default.
    #[arg(long, value_name = "CONFIGMAP")]
    host_authority: Option<ObjectName>,
    /// Write an EnvoyPatchPolicy, too, for the full audit log, key set URLs, shared limits and
    /// larger headers. Envoy Gateway applies it only with extensionApis.enableEnvoyPatchPolicy.
    #[arg(long, requires = "section")]
    patch_policy: bool,
}

impl Gateway {
    /// Renders the policy.
    pub fn run(self, ui: &Ui, loaded: Loaded) -> Result<(), Failure> {
        let filter = FilterSource::new(self.driver, self.filter_image, self.filter_pull_secret)
            .map_err(|fault| Failure::Input(fault.to_owned()))?;
        let Self {
            cluster,
            driver: _,
            filter_image: _,
            filter_pull_secret: _,
            gateway,
            section,
            hosts,
            gateway_proxies,
            gateway_name,
            host_certificate,
            gateway_certificate,
            host_authority,
            patch_policy,
        } = self;
        cluster.run(ui, loaded, |workload, loaded| {
            let derived = |suffix: &str| ObjectName::from_label(&workload.name, suffix);
            let target = gateway::EnvoyGateway {
                host_certificate: host_certificate.unwrap_or_else(|| derived("host-tls")),
                gateway_certificate: gateway_certificate.unwrap_or_else(|| derived("gateway-tls")),
                host_authority: host_authority.unwrap_or_else(|| derived("host-ca")),
                workload,
                filter,
                gateway,
                section,
                hosts,
                gateway_proxies,
                gateway_name,
                patch_policy,
            };
            let manifests = target.render(loaded)?;
            let mut steps = next_steps(&target, &manifests);
            for note in target.notes(&loaded.version.policy) {
                steps.note(note);
            }
            Ok((manifests, steps))
        })
    }
}

/// What to do with the objects.
fn next_steps(target: &gateway::EnvoyGateway, manifests: &Manifests) -> NextSteps {
    let workload = &target.workload;
    let (namespace, name) = (workload.namespace.as_str(), workload.name.as_str());
    let needs = Needs::of(manifests, Some(&target.gateway_proxies));
    let mut steps = NextSteps::after(needs.lines());
    steps.add_rollout(namespace, name);
    // Only now: a Gateway is not accepted while the Service of its access log does not exist.
    steps.add(
        "Let the Gateway name the EnvoyProxy, unless it has one: then add the rendered fields to it",
        target.attach_command(),
    );
    if target.patch_policy {
        steps.add(
            "See that each patch is programmed",
            format!("kubectl -n {namespace} describe envoypatchpolicy {name}"),
        );
    }
    let mut hosts = target.hosts.iter().map(Hostname::as_str);
    let host = hosts.find(|host| !host.starts_with('*'));
    steps.add(ANONYMOUS, request("https", host.unwrap_or("HOST")));
    steps
}
