//! Every target of `render`, with marks as the names of its flags.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tensorgate_client::run::Scratch;
use tensorgate_filter_core::filter::Filter;
use tensorgate_policy_load::load::Loaded;

use super::names::Names;
use crate::render::Unrenderable;
use crate::render::cluster::affinity::Affinity;
use crate::render::cluster::domains::{DomainName, Hostname, Identity};
use crate::render::cluster::filter_source::{FilterImage, FilterSource};
use crate::render::cluster::monitoring::Monitoring;
use crate::render::cluster::names::{
    Image, Label, Namespace, NamespacedName, ObjectName, PodLabel,
};
use crate::render::cluster::pod_options::{Annotation, ExtraLabel, PodOptions, Toleration};
use crate::render::cluster::pod_ports::PodPorts;
use crate::render::cluster::policy_files::PolicyFiles;
use crate::render::cluster::sizes::Sizes;
use crate::render::cluster::workload::{HandlerSource, Workload, prints_audit_log};
use crate::render::cluster::{gateway, helm, istio, kubernetes};
use crate::render::envoy::control_plane::ControlPlane;
use crate::render::envoy::dynamic::Form;
use crate::render::envoy::remote_host::{Endpoint, HostName, RemoteHosts};
use crate::render::envoy::{Driver, RenderError, RenderOptions, render, stats, tls};
use crate::render::manifests::Manifests;

/// Rendered files, by name.
pub type Files = BTreeMap<String, String>;
/// Renders a policy with these names in flags.
pub type Render = fn(&Names, &Loaded) -> Result<Files, Unrenderable>;

/// Whether a flag takes a text.
type Takes = fn(&str) -> bool;

/// Flags that take names, and whether they take a text.
pub const FLAGS: [(&str, Takes); 48] = [
    ("zq-namespace-qz", takes::<Namespace>),
    ("zq-name-qz", takes::<Label>),
    (HOST_IMAGE, takes::<Image>),
    (PROXY_IMAGE, takes::<Image>),
    ("zq-context-qz", takes::<ObjectName>),
    ("zq-files-qz", takes::<ObjectName>),
    ("zq-handlers-qz", takes::<ObjectName>),
    ("zq-label-qz=zq-label-text-qz", takes::<PodLabel>),
    ("zq-model-namespace-qz", takes::<Namespace>),
    ("zq-metrics-qz", takes::<Namespace>),
    ("zq-from-qz", takes::<Namespace>),
    ("zq-pull-qz", takes::<ObjectName>),
    ("zq-istio-qz", takes::<Namespace>),
    ("zq-trust-domain-qz.example", takes::<DomainName>),
    (
        "zq-client-namespace-qz/zq-account-qz",
        takes::<NamespacedName>,
    ),
    (
        "zq-gateway-namespace-qz/zq-gateway-qz",
        takes::<NamespacedName>,
    ),
    ("zq-gateway-label-qz=v", takes::<PodLabel>),
    ("zq-gateway-account-qz", takes::<ObjectName>),
    ("zq-domain-host-qz.example", takes::<DomainName>),
    ("zq-section-qz", takes::<ObjectName>),
    ("zq-hostname-qz.example", takes::<Hostname>),
    ("zq-proxies-qz", takes::<Namespace>),
    (
        "spiffe://zq-edge-qz.example/zq-edge-path-qz",
        takes::<Identity>,
    ),
    ("zq-host-certificate-qz", takes::<ObjectName>),
    ("zq-gateway-certificate-qz", takes::<ObjectName>),
    ("zq-authority-qz", takes::<ObjectName>),
    ("zq-remote-qz.example:8443", takes::<Endpoint>),
    ("zq-remote-audit-qz.example:8444", takes::<Endpoint>),
    ("zq-remote-limits-qz.example:8445", takes::<Endpoint>),
    (
        "spiffe://zq-remote-name-qz/zq-remote-path-qz",
        takes::<HostName>,
    ),
    ("/zq-filters-qz", takes::<PathBuf>),
    ("/zq-socket-qz", takes::<PathBuf>),
    ("/zq-admin-qz", takes::<PathBuf>),
    ("/zq-root-qz", takes::<PathBuf>),
    ("/zq-secrets-qz", takes::<PathBuf>),
    ("/zq-authorities-qz", takes::<PathBuf>),
    ("/zq-dynamic-qz", takes::<PathBuf>),
    ("zq-remote-ca-qz.pem", takes::<PathBuf>),
    ("zq-remote-certificate-qz.pem", takes::<PathBuf>),
    ("zq-remote-key-qz.pem", takes::<PathBuf>),
    ("/zq-log-socket-qz", takes::<PathBuf>),
    ("zq-pod-pull-qz", takes::<ObjectName>),
    ("zq-node-qz=zq-node-text-qz", takes::<PodLabel>),
    ("zq-taint-qz=v:NoSchedule", takes::<Toleration>),
    ("zq-class-qz", takes::<ObjectName>),
    ("zq-pod-label-qz=zq-pod-label-text-qz", takes::<ExtraLabel>),
    ("zq-note-qz=zq-note-text-qz", takes::<Annotation>),
    (AFFINITY, takes::<Affinity>),
];

const HOST_IMAGE: &str = "r.example:5000/zq-host-image-qz@sha256:5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e";
const PROXY_IMAGE: &str = "r.example:5000/zq-proxy-image-qz@sha256:5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e";

const AFFINITY: &str = r#"{"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zq-topology-qz", "labelSelector": {"matchLabels": {"zq-peer-qz": "zq-peer-text-qz"}}}]}}"#;

fn takes<T: FromStr>(text: &str) -> bool {
    text.parse::<T>().is_ok()
}

fn workload(names: &Names, loaded: &Loaded) -> Result<Workload, Unrenderable> {
    Ok(Workload {
        namespace: names.parse("zq-namespace-qz"),
        name: names.parse("zq-name-qz"),
        host_image: names.parse(HOST_IMAGE),
        replicas: 2,
        context_secret: names.parse("zq-context-qz"),
        files_secret: names.parse("zq-files-qz"),
        handlers: Some(HandlerSource::Claim(names.parse("zq-handlers-qz"))),
        model_servers: vec![names.parse("zq-label-qz=zq-label-text-qz")],
        model_namespace: names.parse("zq-model-namespace-qz"),
        pod_ports: PodPorts::of(&loaded.version.policy, &[], &[]).map_err(Unrenderable::Other)?,
        metrics_from: Some(names.parse("zq-metrics-qz")),
        files: PolicyFiles::of(&loaded.version.policy).map_err(Unrenderable::Policy)?,
        pod_options: PodOptions {
            pull_secrets: vec![names.parse("zq-pod-pull-qz")],
            node_selector: vec![names.parse("zq-node-qz=zq-node-text-qz")],
            tolerations: vec![names.parse("zq-taint-qz=v:NoSchedule")],
            affinity: Some(names.parse(AFFINITY)),
            priority_class: Some(names.parse("zq-class-qz")),
            labels: vec![names.parse("zq-pod-label-qz=zq-pod-label-text-qz")],
            annotations: vec![names.parse("zq-note-qz=zq-note-text-qz")],
        },
        audit_stdout: prints_audit_log(&loaded.version.raw),
        sizes: Sizes {
            envoy_cpu: 1,
            host_cpu: 1,
        },
    })
}

fn files(manifests: Manifests) -> Files {
    let objects = manifests.into_files().into_iter();
    objects
        .map(|(file, object)| (file, object.to_yaml()))
        .collect()
}

fn own_pods(names: &Names, loaded: &Loaded) -> Result<kubernetes::Kubernetes, Unrenderable> {
    Ok(kubernetes::Kubernetes {
        workload: workload(names, loaded)?,
        envoy_image: names.parse(PROXY_IMAGE),
        driver: Driver::Wasm,
        clients_from: Some(names.parse("zq-from-qz")),
        monitoring: Monitoring::default(),
    })
}

/// `render kubernetes`.
pub fn in_kubernetes(names: &Names, loaded: &Loaded) -> Result<Files, Unrenderable> {
    own_pods(names, loaded)?.render(loaded).map(files)
}

/// `render helm`, as the files of the chart.
pub fn chart(names: &Names, loaded: &Loaded) -> Result<Files, Unrenderable> {
    let gate = own_pods(names, loaded)?;
    let chart = helm::Helm { gate }.render(loaded)?;
    let scratch = Scratch::in_memory();
    chart.write(scratch.path()).unwrap();
    let mut files = Files::new();
    add_below(scratch.path(), "", &mut files);
    Ok(files)
}

fn add_below(folder: &Path, path: &str, files: &mut Files) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            add_below(&entry.path(), &format!("{path}{name}/"), files);
        } else {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            files.insert(format!("{path}{name}"), text);
        }
    }
}

fn in_mesh(
    names: &Names,
    loaded: &Loaded,
    release: istio::Release,
    entry: istio::Entry,
) -> Result<Files, Unrenderable> {
    let mesh = istio::Istio {
        workload: workload(names, loaded)?,
        filter: FilterSource::Image(FilterImage {
            image: names.parse(PROXY_IMAGE),
            pull_secret: Some(names.parse("zq-pull-qz")),
        }),
        release,
        trust_domain: names.parse("zq-trust-domain-qz.example"),
        control_plane: names.parse("zq-istio-qz"),
        entry,
    };
    mesh.render(loaded).map(files)
}

/// `render istio`, in a sidecar.
pub fn in_sidecar(names: &Names, loaded: &Loaded) -> Result<Files, Unrenderable> {
    let client = names.parse("zq-client-namespace-qz/zq-account-qz");
    let entry = istio::Entry::Sidecar(vec![client]);
    in_mesh(names, loaded, istio::Release::V1_29, entry)
}

/// `render istio --gateway`.
pub fn in_ingress(names: &Names, loaded: &Loaded) -> Result<Files, Unrenderable> {
    let gateway: NamespacedName = names.parse("zq-gateway-namespace-qz/zq-gateway-qz");
    let entry = istio::Entry::Gateway(istio::IngressGateway {
        namespace: gateway.namespace,
        name: gateway.name,
        pods: vec![names.parse("zq-gateway-label-qz=v")],
        account: names.parse("zq-gateway-account-qz"),
        hosts: vec![names.parse("zq-domain-host-qz.example")],
    });
    in_mesh(names, loaded, istio::Release::default(), entry)
}

/// `render gateway --patch-policy`.
pub fn at_gateway(names: &Names, loaded: &Loaded) -> Result<Files, Unrenderable> {
    let gateway = gateway::EnvoyGateway {
        workload: workload(names, loaded)?,
        filter: FilterSource::Image(FilterImage {
            image: names.parse(PROXY_IMAGE),
            pull_secret: Some(names.parse("zq-pull-qz")),
        }),
        gateway: names.parse("zq-gateway-qz"),
        section: Some(names.parse("zq-section-qz")),
        hosts: vec![names.parse("zq-hostname-qz.example")],
        gateway_proxies: names.parse("zq-proxies-qz"),
        gateway_name: names.parse("spiffe://zq-edge-qz.example/zq-edge-path-qz"),
        host_certificate: names.parse("zq-host-certificate-qz"),
        gateway_certificate: names.parse("zq-gateway-certificate-qz"),
        host_authority: names.parse("zq-authority-qz"),
        patch_policy: true,
    };
    gateway.render(loaded).map(files)
}

/// `render envoy`.
pub fn envoy(names: &Names, loaded: &Loaded) -> Result<Files, Unrenderable> {
    bootstrap(names, loaded, ControlPlane::Plain, None)
}

/// `render envoy --as istio`.
pub fn envoy_of_istio(names: &Names, loaded: &Loaded) -> Result<Files, Unrenderable> {
    bootstrap(names, loaded, ControlPlane::Istio, None)
}

/// `render envoy --as envoy-gateway`.
pub fn envoy_of_gateway(names: &Names, loaded: &Loaded) -> Result<Files, Unrenderable> {
    bootstrap(names, loaded, ControlPlane::EnvoyGateway, None)
}

/// `render envoy --host`.
pub fn envoy_with_remote_host(names: &Names, loaded: &Loaded) -> Result<Files, Unrenderable> {
    let remote = RemoteHosts {
        hosts: vec![names.parse("zq-remote-qz.example:8443")],
        audit: names.parse("zq-remote-audit-qz.example:8444"),
        limits: vec![names.parse("zq-remote-limits-qz.example:8445")],
        name: names.parse("spiffe://zq-remote-name-qz/zq-remote-path-qz"),
        ca: names.parse("zq-remote-ca-qz.pem"),
        cert: names.parse("zq-remote-certificate-qz.pem"),
        key: names.parse("zq-remote-key-qz.pem"),
    };
    bootstrap(names, loaded, ControlPlane::Plain, Some(remote))
}

fn bootstrap(
    names: &Names,
    loaded: &Loaded,
    control_plane: ControlPlane,
    remote_hosts: Option<RemoteHosts>,
) -> Result<Files, Unrenderable> {
    let options = RenderOptions {
        control_plane,
        listen: None,
        driver: Driver::Wasm,
        filters: names.parse("/zq-filters-qz"),
        chain: vec![Filter::Gate],
        host_socket: names.parse("/zq-socket-qz"),
        admin_socket: names.parse("/zq-admin-qz"),
        ready_socket: None,
        stats: Some(stats::DEFAULT_ADDRESS),
        audit_socket: names.parse("/zq-log-socket-qz"),
        limits_socket: names.parse("/zq-socket-qz"),
        remote_hosts,
        root: names.parse("/zq-root-qz"),
        secrets: names.parse("/zq-secrets-qz"),
        system_authorities: names.parse("/zq-authorities-qz"),
        own_cgroup: false,
        sandbox_host: true,
    };
    let other = |error: RenderError| Unrenderable::Other(error.to_string());
    let rendered = |form| render(&loaded.version, &options, form).map_err(other);
    let folder: PathBuf = names.parse("/zq-dynamic-qz");
    let (whole, watched) = (rendered(Form::Whole)?, rendered(Form::Watched(&folder))?);
    let mut files = Files::new();
    files.insert("whole.yaml".to_owned(), whole.bootstrap.to_yaml());
    files.insert("envoy.yaml".to_owned(), watched.bootstrap.to_yaml());
    for resource in &watched.resources {
        files.insert(resource.file.clone(), resource.response().to_yaml());
    }
    let mut secrets = Vec::new();
    if let Some(listener) = loaded.version.policy.listen().tls() {
        secrets.extend(tls::secrets(listener, &options).map_err(other)?);
    }
    if let Some(remote) = &options.remote_hosts {
        secrets.extend(remote.secrets(&options).map_err(other)?);
    }
    let secrets = secrets.into_iter();
    files.extend(secrets.map(|(name, secret)| (name, secret.to_yaml())));
    Ok(files)
}
