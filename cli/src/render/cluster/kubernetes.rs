//! The gate as a Deployment of its own: Envoy with the filter and the sandbox host in each pod.
//!
//! Both containers share Unix sockets and one user. The host is a sidecar: it starts before Envoy
//! and ends after it. Envoy reads what depends on the policy from mounted files and watches them,
//! so a new policy needs no restart.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use sha2::{Digest as _, Sha256};
use tensorgate_filter_core::filter::Filter;
use tensorgate_policy::{Fault, Policy, Severity, hex};
use tensorgate_policy_load::load::Loaded;
use tensorgate_settings::admin;

use super::ending::{self, EndAfter, HUNG_S, LEAVE_S};
use super::monitoring::Monitoring;
use super::names::{Image, Namespace};
use super::network::Admitted;
use super::policy_files::Reader;
use super::sizes::resources;
use super::workload::{
    FILTERS, Pod, ROOT, RUN, Workload, filters_mount, filters_volume, restricted, without_sidecar,
};
use crate::render::envoy::control_plane::ControlPlane;
use crate::render::envoy::dynamic::Form;
use crate::render::envoy::{Driver, RenderOptions, key_sets, render, stats, tls};
use crate::render::manifests::Manifests;
use crate::render::node::{Node, list, map};
use crate::render::{Unrenderable, cluster};

/// Folder of Envoy's bootstrap and secrets.
const ENVOY: &str = "/etc/tensorgate/envoy";
/// Folder of Envoy's own sockets: admin and readiness. The host cannot reach it, nor what breaks
/// out of a handler.
const ADMIN: &str = "/run/envoy";
/// Folder that Envoy watches.
const DYNAMIC: &str = "/etc/tensorgate/dynamic";
/// The first port that needs no privilege.
const UNPRIVILEGED: u16 = 1024;
/// Envoy's option for its number of workers.
pub const CONCURRENCY: &str = "--concurrency";
/// Interval of the readiness probe, seconds. Each starts a small process.
const READY_PERIOD_S: u64 = 5;
/// Timeout of the readiness probe, seconds: longer than that of Envoy and of the process.
const READY_TIMEOUT_S: u64 = 4;
/// Port of Envoy's counters.
const STATS_PORT: u16 = stats::DEFAULT_ADDRESS.port();
/// Annotation of the pods with the digest of the bootstrap, the only file that Envoy reads once. So
/// another bootstrap starts other pods, and another policy does not.
const BOOTSTRAP_CHECKSUM: &str = "checksum/envoy";

/// What this target needs beside a [`Workload`].
#[derive(Clone, Debug)]
pub struct Kubernetes {
    /// The pods.
    pub workload: Workload,
    /// Image of Envoy.
    pub envoy_image: Image,
    /// How Envoy runs the filter.
    pub driver: Driver,
    /// Namespace of the clients; any if absent.
    pub clients_from: Option<Namespace>,
    /// Objects for monitoring.
    pub monitoring: Monitoring,
}

impl Kubernetes {
    /// All objects.
    ///
    /// # Errors
    /// What the target cannot enforce.
    pub fn render(&self, loaded: &Loaded) -> Result<Manifests, Unrenderable> {
        let policy = &loaded.version.policy;
        let workload = &self.workload;
        let address = policy.listen().address();
        let port = address.port();
        let mut faults = cluster::faults(policy, workload, self.driver);
        if port < UNPRIVILEGED {
            faults.push(Fault {
                severity: Severity::Error,
                path: "listen.address".to_owned(),
                message: format!("port {port} needs a privilege that the pods do not have"),
                fix: Some(format!("{}:8080", address.ip())),
            });
        }
        // Otherwise the port of the clients would lead to the admin server, or to counters.
        let taken = [
            (admin::DEFAULT_ADDRESS.port(), "the host"),
            (admin::LOCAL_PORT, "the host"),
            (STATS_PORT, "Envoy's counters"),
        ];
        for (_, owner) in taken.iter().filter(|(reserved, _)| *reserved == port) {
            faults.push(Fault {
                severity: Severity::Error,
                path: "listen.address".to_owned(),
                message: format!("port {port} of the pods belongs to {owner}"),
                fix: Some(format!("{}:8080", address.ip())),
            });
        }
        if !faults.is_empty() {
            return Err(Unrenderable::Policy(faults));
        }
        let options = RenderOptions {
            control_plane: ControlPlane::Plain,
            // The pod's own address; Services lead there.
            listen: Some(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)),
            driver: self.driver,
            filters: PathBuf::from(FILTERS),
            chain: vec![Filter::Gate],
            host_socket: format!("{RUN}/host.sock").into(),
            admin_socket: admin_socket().into(),
            ready_socket: Some(ready_socket().into()),
            // The network policy keeps all but `metrics_from` away, as from the host's page.
            stats: Some(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), STATS_PORT)),
            audit_socket: format!("{RUN}/audit.sock").into(),
            limits_socket: format!("{RUN}/limits.sock").into(),
            remote_hosts: None,
            root: PathBuf::from(ROOT),
            secrets: PathBuf::from(ENVOY),
            system_authorities: PathBuf::from(key_sets::SYSTEM_AUTHORITIES[0]),
            own_cgroup: true,
            sandbox_host: true,
        };
        let form = Form::Watched(DYNAMIC.as_ref());
        let rendered = render(&loaded.version, &options, form)
            .map_err(|error| Unrenderable::Other(error.to_string()))?;
        let text = rendered.bootstrap.to_yaml();
        let checksum = hex(&Sha256::digest(&text));
        let mut bootstrap = vec![("envoy.yaml".to_owned(), text.into())];
        if let Some(listener) = policy.listen().tls() {
            let secrets = tls::secrets(listener, &options)
                .map_err(|error| Unrenderable::Other(error.to_string()))?;
            bootstrap.extend(
                secrets
                    .into_iter()
                    .map(|(name, secret)| (name, secret.to_yaml().into())),
            );
        }
        let dynamic = (rendered.resources.iter())
            .map(|resource| (resource.file.clone(), resource.response().to_yaml().into()))
            .collect();
        let config = |suffix: &str, files| {
            let data = map! {"data" => Node::Map(files)};
            workload
                .config_map(&workload.name.with(suffix), data)
                .map_err(Unrenderable::Other)
        };

        let mut manifests = cluster::common(workload, loaded)?;
        manifests.add("configmap-envoy", config("envoy", bootstrap)?);
        manifests.add("configmap-dynamic", config("dynamic", dynamic)?);
        manifests.add(
            "deployment",
            workload.deployment(loaded, self.pod(loaded, port, checksum)),
        );
        manifests.add("service", workload.service(&[("http", port, None)]));
        let mut admitted = Admitted {
            metrics: vec![STATS_PORT],
            ..Admitted::default()
        };
        match &self.clients_from {
            Some(namespace) => {
                admitted.private = vec![port];
                admitted.namespace = Some(namespace.to_string());
            }
            None => admitted.public = vec![port],
        }
        let network = workload.network_policy(&admitted);
        manifests.add("networkpolicy", network);
        self.monitoring.add_to(&mut manifests, workload);
        Ok(manifests)
    }

    fn pod(&self, loaded: &Loaded, port: u16, checksum: String) -> Pod {
        let workload = &self.workload;
        let configuration = |name: &str| map! {"name" => name, "configMap" => map! {"name" => workload.name.with(name)}};
        Pod {
            labels: vec![without_sidecar()],
            annotations: vec![
                (BOOTSTRAP_CHECKSUM.to_owned(), checksum.into()),
                // Many configurations of Prometheus read one page of each pod that says so.
                ("prometheus.io/scrape".to_owned(), "true".into()),
                (
                    "prometheus.io/port".to_owned(),
                    STATS_PORT.to_string().into(),
                ),
                ("prometheus.io/path".to_owned(), stats::PATH.into()),
            ],
            first: vec![
                workload.filters(),
                workload.host(
                    &loaded.version.policy,
                    EndAfter::Envoy,
                    vec![
                        format!("--socket={RUN}/host.sock").into(),
                        // The probe of Envoy's container is such a request.
                        "--wait-for-filter".into(),
                    ],
                    Vec::new(),
                ),
            ],
            containers: vec![self.envoy(loaded, port)],
            volumes: vec![
                configuration("envoy"),
                configuration("dynamic"),
                map! {"name" => "admin", "emptyDir" => map! {"medium" => "Memory", "sizeLimit" => "1Mi"}},
                filters_volume(),
            ],
        }
    }

    fn envoy(&self, loaded: &Loaded, port: u16) -> Node {
        let workload = &self.workload;
        let mut mounts = vec![
            map! {"name" => "run", "mountPath" => RUN},
            map! {"name" => "admin", "mountPath" => ADMIN},
            map! {"name" => "envoy", "mountPath" => ENVOY, "readOnly" => true},
            map! {"name" => "dynamic", "mountPath" => DYNAMIC, "readOnly" => true},
            filters_mount(),
        ];
        mounts.extend(workload.secret_mounts(Reader::Envoy));
        let sizes = workload.sizes;
        let log_level = format!("{}:info", self.driver.logger());
        map! {
            "name" => "envoy",
            "image" => self.envoy_image.to_string(),
            "command" => list!["/usr/local/bin/envoy"],
            "args" => list![
                "-c", format!("{ENVOY}/envoy.yaml"), "--disable-hot-restart",
                "-l", "warning", "--component-log-level", log_level,
                // By default Envoy has a worker for each processor of the node.
                CONCURRENCY, sizes.workers().to_string(),
            ],
            "env" => list![workload.context_key()],
            "ports" => list![
                map! {"name" => "http", "containerPort" => u32::from(port)},
                map! {"name" => stats::NAME, "containerPort" => u32::from(STATS_PORT)},
            ],
            // Envoy listens once it has compiled the filter. This probe does not wait for the host,
            // which may compile handlers for minutes.
            "startupProbe" => map! {
                "tcpSocket" => map! {"port" => "http"},
                "periodSeconds" => 1_u64,
                "failureThreshold" => 120_u64,
            },
            // Envoy also listens without a filter that it could not load.
            "readinessProbe" => map! {
                "exec" => map! {
                    "command" => list![program(), "pod", "ready", "--socket", ready_socket()],
                },
                "periodSeconds" => READY_PERIOD_S,
                "timeoutSeconds" => READY_TIMEOUT_S,
                "failureThreshold" => 2_u64,
            },
            // Not the clients' port: short of memory, Envoy stops accepting their connections, and
            // enough of them fill that port's queue. A restart would cut off all others.
            "livenessProbe" => map! {
                "tcpSocket" => map! {"port" => stats::NAME},
                "periodSeconds" => 10_u64,
                "failureThreshold" => 3_u64,
                "terminationGracePeriodSeconds" => HUNG_S,
            },
            "lifecycle" => drain(&loaded.version.policy),
            "resources" => resources(sizes.envoy_cpu, sizes.envoy_mib(&loaded.version.policy)),
            "securityContext" => restricted(),
            "volumeMounts" => mounts,
        }
    }
}

/// Path of Envoy's admin socket.
fn admin_socket() -> String {
    format!("{ADMIN}/admin.sock")
}

/// Path of the socket of the readiness probe.
fn ready_socket() -> String {
    format!("{ADMIN}/ready.sock")
}

/// Path of the host's program in the container of Envoy.
fn program() -> String {
    format!("{FILTERS}/tensorgate-host")
}

/// Drains Envoy before the kubelet sends it a signal, at which it cuts off what it has. Its image
/// may have no shell and no client of HTTP, so the host's program does it.
fn drain(policy: &Policy) -> Node {
    let command = list![
        program(),
        "pod",
        "drain",
        "--admin-socket",
        admin_socket(),
        "--leave-seconds",
        LEAVE_S.to_string(),
        "--seconds",
        ending::drain_s(policy).to_string(),
    ];
    map! {"preStop" => map! {"exec" => map! {"command" => command}}}
}
