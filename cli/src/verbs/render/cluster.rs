//! `render kubernetes`: a policy as objects of a cluster.

use std::path::PathBuf;

use clap::Args;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::load_error::LoadError;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_policy::{Fault, Policy, Severity};
use tensorgate_policy_load::load::Loaded;

use super::next_steps::NextSteps;
use super::pods::PodArguments;
use crate::render::Unrenderable;
use crate::render::cluster::monitoring::Monitoring;
use crate::render::cluster::names::{
    Image, Label, Namespace, ObjectName, PodLabel, check_distinct,
};
use crate::render::cluster::needs::Needs;
use crate::render::cluster::pod_ports::{PodPort, PodPorts, own_pod_note};
use crate::render::cluster::policy_files::PolicyFiles;
use crate::render::cluster::sizes::{MAX_CPU, MAX_REPLICAS, Sizes};
use crate::render::cluster::workload::{HandlerSource, Workload, prints_audit_log};
use crate::render::cluster::{audit_log_stays, kubernetes};
use crate::render::envoy::Driver;
use crate::render::manifests::Manifests;
use crate::render::source_record::SourceRecord;

/// What holds while nothing says which pods are model servers.
const NOT_CLOSED: &str =
    "note: no network policy closes the model servers: name their pods with --model-server";

/// What holds while no receiver outside of the pod gets the audit log.
const AUDIT_LOG_ENDS: &str =
    "note: the audit log ends with its pod: audit.export names no receiver outside of it";

/// What every target in a cluster takes.
#[derive(Args)]
pub struct Cluster {
    /// Policy file, instead of `-c`.
    #[arg(value_name = "GATE_YAML")]
    pub policy: Option<PathBuf>,
    /// Write into this folder: a chart, or one file for each object and kustomization.yaml. Without
    /// it objects go to standard output.
    #[arg(short, long, value_name = "DIR")]
    pub(super) output: Option<PathBuf>,
    /// Namespace of the gate. A chart is installed into the one that Helm is given.
    #[arg(long, default_value = "tensorgate")]
    pub(super) namespace: Namespace,
    /// Name of the gate. Its objects have this name, or begin with it.
    #[arg(long, default_value = "tensorgate")]
    pub(super) name: Label,
    /// Image of the sandbox host, as `tensorgate image build` makes it.
    #[arg(long, value_name = "IMAGE@sha256:DIGEST")]
    host_image: Image,
    /// Number of pods.
    #[arg(
        long,
        default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_REPLICAS))
    )]
    pub(super) replicas: u32,
    /// Processors that Envoy asks for in each pod. Its workers, at least two, and its memory
    /// follow. A gateway of Istio is not sized, because it belongs to others.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CPU))
    )]
    envoy_cpu: u32,
    /// Processors that the sandbox host asks for in each pod. The threads of its handlers and its
    /// memory follow.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CPU))
    )]
    host_cpu: u32,
    /// Secret with the context key, under `context.key`; NAME-context by default.
    #[arg(long, value_name = "SECRET")]
    context_secret: Option<ObjectName>,
    /// Secret with the certificates, keys and passwords that the policy names: `pki/ca.pem` is
    /// under `pki.ca.pem`. NAME-files by default.
    #[arg(long, value_name = "SECRET")]
    files_secret: Option<ObjectName>,
    /// Image with the policy's components, mounted as a volume. It needs Kubernetes 1.35, or
    /// 1.33 with the feature gate `ImageVolume`.
    #[arg(
        long,
        value_name = "IMAGE@sha256:DIGEST",
        conflicts_with = "handlers_claim"
    )]
    handlers_image: Option<Image>,
    /// Claim of a volume with the policy's components.
    #[arg(long, value_name = "CLAIM")]
    handlers_claim: Option<ObjectName>,
    /// Labels of the model servers' pods. With them, nothing but the gate reaches these pods.
    #[arg(long = "model-server", value_name = "KEY=VALUE")]
    model_servers: Vec<PodLabel>,
    /// Namespace of the model servers; the gate's by default.
    #[arg(long, value_name = "NAMESPACE")]
    model_namespace: Option<Namespace>,
    /// Port of the model servers' pods, if their Services map another one to it: 8080 for all,
    /// 80=8080 for port 80 of Services, HOST:80=8080 for one server; repeatable.
    #[arg(long = "model-port", value_name = "PORT=POD_PORT")]
    model_ports: Vec<PodPort>,
    /// The same for the other servers that the policy names: counters, key sets, lookups,
    /// collectors, webhooks; repeatable.
    #[arg(long = "pod-port", value_name = "PORT=POD_PORT")]
    other_ports: Vec<PodPort>,
    /// Namespace whose pods may read the metrics of the gate's pods; none by default.
    #[arg(long, value_name = "NAMESPACE")]
    metrics_from: Option<Namespace>,
    /// The proxies see the callers' own addresses: no proxy is in front, or the load balancer keeps
    /// them (`externalTrafficPolicy: Local`). A lockout needs it where listen.trusted_hops is 0.
    #[arg(long)]
    source_addresses_kept: bool,
    #[command(flatten)]
    pods: PodArguments,
}

impl Cluster {
    /// Why the policy's lockout would be one for all callers, if so.
    pub(super) fn lockout_fault(&self, policy: &Policy) -> Option<Fault> {
        let is_by_connection = policy.listen().trusted_hops() == 0;
        let is_shared =
            policy.lockout().is_some() && is_by_connection && !self.source_addresses_kept;
        is_shared.then(|| Fault {
            severity: Severity::Error,
            path: "lockout".to_owned(),
            message: "listen.trusted_hops is 0: behind a load balancer all callers have its address, so one guesser locks out all of them".to_owned(),
            fix: Some("listen.trusted_hops: the number of proxies in front, or render with --source-addresses-kept".to_owned()),
        })
    }

    /// The pods of the gate for this policy.
    fn workload(&self, loaded: &Loaded) -> Result<Workload, Unrenderable> {
        check_distinct(&self.model_servers, "--model-server").map_err(Unrenderable::Other)?;
        let derived = |suffix: &str| ObjectName::from_label(&self.name, suffix);
        let image = self.handlers_image.clone().map(HandlerSource::Image);
        let claim = self.handlers_claim.clone().map(HandlerSource::Claim);
        let model_namespace = self.model_namespace.as_ref().unwrap_or(&self.namespace);
        Ok(Workload {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            host_image: self.host_image.clone(),
            replicas: self.replicas,
            context_secret: (self.context_secret.clone()).unwrap_or_else(|| derived("context")),
            files_secret: (self.files_secret.clone()).unwrap_or_else(|| derived("files")),
            handlers: image.or(claim),
            model_servers: self.model_servers.clone(),
            model_namespace: model_namespace.clone(),
            pod_ports: PodPorts::of(&loaded.version.policy, &self.model_ports, &self.other_ports)
                .map_err(Unrenderable::Other)?,
            metrics_from: self.metrics_from.clone(),
            files: PolicyFiles::of(&loaded.version.policy).map_err(Unrenderable::Policy)?,
            pod_options: self.pods.options().map_err(Unrenderable::Other)?,
            audit_stdout: prints_audit_log(&loaded.version.raw),
            sizes: Sizes {
                envoy_cpu: self.envoy_cpu,
                host_cpu: self.host_cpu,
            },
        })
    }

    /// Renders with `target`, and returns what it returns. `None` if the faults of the policy are
    /// only warnings.
    pub(super) fn render<T>(
        &self,
        loaded: Loaded,
        target: impl FnOnce(Workload, &Loaded) -> Result<(T, NextSteps), Unrenderable>,
    ) -> Result<Option<(T, NextSteps)>, Failure> {
        let rendered = self.workload(&loaded).and_then(|workload| {
            let unmapped = workload.pod_ports.note();
            let (output, mut steps) = target(workload, &loaded)?;
            if self.model_servers.is_empty() {
                steps.note(NOT_CLOSED.to_owned());
            }
            for note in unmapped
                .into_iter()
                .chain(own_pod_note(&loaded.version.policy))
            {
                steps.note(note);
            }
            if audit_log_stays(&loaded) {
                steps.note(AUDIT_LOG_ENDS.to_owned());
            }
            Ok((output, steps))
        });
        match rendered {
            Ok(rendered) => Ok(Some(rendered)),
            Err(Unrenderable::Other(cause)) => Err(Failure::Input(cause)),
            Err(Unrenderable::Policy(faults)) => {
                let unfit: Result<_, LoadError> = loaded.unless(faults);
                unfit.map(|_| None).map_err(Failure::from)
            }
        }
    }

    /// Renders with `target`, writes the objects, and says what comes before and after them.
    pub(super) fn run(
        self,
        ui: &Ui,
        loaded: Loaded,
        target: impl FnOnce(Workload, &Loaded) -> Result<(Manifests, NextSteps), Unrenderable>,
    ) -> Result<(), Failure> {
        let record = SourceRecord::of_this_run(&loaded);
        let Some((manifests, mut steps)) = self.render(loaded, target)? else {
            return Ok(());
        };
        let apply = manifests.apply_command(self.output.as_deref());
        match self.output {
            Some(folder) => {
                manifests.write(&folder)?;
                record.write(&folder)?;
                steps.begin("Apply the objects", apply);
                let left_over = manifests.left_over(&folder);
                if !left_over.is_empty() {
                    steps.note(left_over_note(&left_over));
                }
                steps.print_of_folder(ui, &folder, manifests.objects().count());
            }
            None => {
                if ui.json {
                    manifests.objects().for_each(|object| ui.json_line(object));
                } else {
                    ui.line(manifests.to_stream().trim_end());
                }
                steps.begin("Apply these objects from standard input", apply);
                steps.print(ui, true);
            }
        }
        Ok(())
    }
}

/// What to do with files of an earlier rendering in the output folder.
fn left_over_note(files: &[String]) -> String {
    let files: Vec<_> = files.iter().map(|file| printable(file)).collect();
    format!(
        "note: the folder has files of an earlier rendering, and their objects stay in the cluster: {}; to remove an object, run kubectl delete -f with its file, and delete the file",
        files.join(", ")
    )
}

/// A gate of its own in a Kubernetes cluster: Envoy with the filter, and the sandbox host.
///
/// Nothing secret is written. Two Secrets must exist: the one with the context key, and, if the
/// policy names certificates or passwords, the one with these files. The command prints what must
/// exist, and the commands that apply the objects and show that the gate is in force.
#[derive(Args)]
#[command(
    after_help = "Example: tensorgate render kubernetes gate.yaml -o rendered --namespace ml --model-server app=triton \\\n  --host-image registry.example.com/tensorgate/host@sha256:DIGEST --envoy-image envoyproxy/envoy@sha256:DIGEST"
)]
pub struct Kubernetes {
    #[command(flatten)]
    pub cluster: Cluster,
    /// Image of Envoy 1.37 or later; with --driver module, of 1.38, 1.39 or 1.40.
    #[arg(long, value_name = "IMAGE@sha256:DIGEST")]
    pub(super) envoy_image: Image,
    /// How Envoy runs the filter.
    #[arg(long, value_name = "DRIVER", default_value = "wasm")]
    pub(super) driver: Driver,
    /// Namespace of the clients; by default every pod of the cluster may connect.
    #[arg(long, value_name = "NAMESPACE")]
    pub(super) clients_from: Option<Namespace>,
    #[command(flatten)]
    pub(super) monitoring: MonitoringArguments,
}

/// Options for objects of monitoring.
#[derive(Args)]
pub(super) struct MonitoringArguments {
    /// Add the dashboards for Grafana: a ConfigMap with the label `grafana_dashboard`, which the
    /// sidecar of Grafana's chart looks for. Once for each Grafana.
    #[arg(long)]
    dashboards: bool,
    /// Add a PodMonitor, for a Prometheus Operator whose Prometheus is in the namespace of
    /// --metrics-from.
    #[arg(long, requires = "metrics_from")]
    pod_monitor: bool,
}

impl MonitoringArguments {
    /// What is asked for.
    pub(super) const fn objects(&self) -> Monitoring {
        Monitoring {
            dashboards: self.dashboards,
            pod_monitor: self.pod_monitor,
        }
    }
}

impl Kubernetes {
    /// Refuses an Envoy that the driver is not for, as far as the image's tag names its release.
    pub(super) fn check_release(&self) -> Result<(), Failure> {
        let (driver, tag) = (self.driver, self.envoy_image.tag().unwrap_or_default());
        let Some((major, minor)) = driver.unsuitable_release(tag) else {
            return Ok(());
        };
        Err(Failure::Input(format!(
            "--driver module is for Envoy {}, and --envoy-image {} is of release {major}.{minor}: name another image, or leave out --driver",
            driver.listed_releases(),
            self.envoy_image
        )))
    }

    /// Renders the policy.
    pub fn run(self, ui: &Ui, loaded: Loaded) -> Result<(), Failure> {
        self.check_release()?;
        let Self {
            cluster,
            envoy_image,
            driver,
            clients_from,
            monitoring,
        } = self;
        cluster.run(ui, loaded, |workload, loaded| {
            let target = kubernetes::Kubernetes {
                workload,
                envoy_image,
                driver,
                clients_from,
                monitoring: monitoring.objects(),
            };
            let manifests = target.render(loaded)?;
            let needs = Needs::of(&manifests, None);
            let steps = own_pods(&needs, &target.workload, &loaded.version.policy);
            Ok((manifests, steps))
        })
    }
}

/// What to do with the objects of pods that take requests themselves.
pub(super) fn own_pods(needs: &Needs, workload: &Workload, policy: &Policy) -> NextSteps {
    let mut steps = NextSteps::after(needs.lines());
    let (namespace, name) = (workload.namespace.as_str(), workload.name.as_str());
    steps.add_rollout(namespace, name);
    let listen = policy.listen();
    let is_encrypted = listen.tls().is_some();
    steps.add_forwarded_request(namespace, name, listen.address().port(), is_encrypted);
    steps
}
