//! What every target in a cluster shares: the pods of the sandbox host, their policy, and what may
//! reach them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tensorgate_filter_core::root::CONTEXT_KEY_VARIABLE;
use tensorgate_os_sandbox::BaseFolders;
use tensorgate_policy::Policy;
use tensorgate_policy_compiler::{Version, raw};
use tensorgate_policy_load::load::Loaded;
use tensorgate_settings::admin;
use tensorgate_settings::bundle::FILE;

use super::ending::{self, EndAfter, HUNG_S};
use super::host_checksum::{HOST_CHECKSUM, host_checksum};
use super::names::{Image, Label, Namespace, ObjectName, PodLabel};
use super::pod_options::PodOptions;
use super::pod_ports::PodPorts;
use super::policy_files::{PolicyFiles, Reader};
use super::sizes::{Sizes, resources};
use crate::render::manifests::MANAGED_BY;
use crate::render::node::{Node, entries, list, map};

/// The oldest Kubernetes that is supported. Sidecars, which end last, are on by default in it.
pub const OLDEST_KUBERNETES: &str = "1.30";
/// The user and group of both programs. Their images name it too.
pub const USER: u64 = 65_532;
/// Folder of the filters and of the host's program, which the first container copies there.
pub const FILTERS: &str = "/opt/tensorgate/filters";
/// Room for them.
const FILTERS_SIZE: &str = "256Mi";
/// Port of the data plane, where the host is a Service.
pub const GATE_PORT: u16 = 8443;
/// Port of the access log, which no route of a client leads to.
pub const AUDIT_PORT: u16 = 8444;
/// Port of the rate limit service, which no route of a client leads to either.
pub const LIMITS_PORT: u16 = 8445;
/// Folder of the sockets.
pub const RUN: &str = "/run/tensorgate";
/// Folder of the policy.
const POLICY: &str = "/etc/tensorgate/policy";
/// Folder that paths of the policy are relative to.
pub const ROOT: &str = "/etc/tensorgate/root";
/// Folder of the context key.
const CONTEXT: &str = "/etc/tensorgate/context";
/// Folder of the audit log.
const AUDIT: &str = "/var/lib/tensorgate";
/// Folder of compiled handlers.
const CACHE: &str = "/var/cache/tensorgate";
/// Key of the context key in its Secret.
pub const CONTEXT_KEY: &str = "context.key";
/// Largest content of a ConfigMap that is written, bytes. Kubernetes accepts 1 MiB in all.
const MAX_CONFIG_BYTES: usize = 1_000_000;
/// Mode of mounted secrets: their owner and the pod's group may read them. The host rejects a key
/// that others may read.
pub const GROUP_READABLE: u64 = 0o440;
/// Timeout of the host's liveness probe, seconds.
const LIVENESS_TIMEOUT_S: u64 = 5;
/// The host's option for the most concurrent calls of a handler.
pub const HANDLER_THREADS: &str = "--handler-threads";
/// The host's option for the memory of all handlers.
pub const HANDLER_MEMORY: &str = "--handler-memory";

/// Where handlers come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandlerSource {
    /// An image with the folders of components, mounted as a volume (Kubernetes 1.35 or later).
    Image(Image),
    /// A claim of a volume with these folders.
    Claim(ObjectName),
}

/// The pods of a gate.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Namespace of all objects.
    pub namespace: Namespace,
    /// Name of the gate; other names are derived from it.
    pub name: Label,
    /// Image of the sandbox host.
    pub host_image: Image,
    /// Number of pods.
    pub replicas: u32,
    /// Secret with the context key.
    pub context_secret: ObjectName,
    /// Secret with the certificates, keys and passwords that the policy names.
    pub files_secret: ObjectName,
    /// Where handlers come from.
    pub handlers: Option<HandlerSource>,
    /// Labels of the model servers' pods.
    pub model_servers: Vec<PodLabel>,
    /// Namespace of the model servers.
    pub model_namespace: Namespace,
    /// Ports of the pods behind the servers that the policy names.
    pub pod_ports: PodPorts,
    /// Namespace whose pods may read metrics.
    pub metrics_from: Option<Namespace>,
    /// Files of the policy.
    pub files: PolicyFiles,
    /// What the operator sets for the pods.
    pub pod_options: PodOptions,
    /// Whether the host prints the audit log; see [`prints_audit_log`].
    pub audit_stdout: bool,
    /// Sizes of the containers.
    pub sizes: Sizes,
}

/// Whether the host of a policy prints its audit log. The log's files end with their pod, so the
/// lines go to the log of the container unless the policy's `audit.export` says where they go, or
/// that they go nowhere. It is an argument of the host and not a part of the policy, because the
/// policy must be the same in a cluster and elsewhere.
pub fn prints_audit_log(policy: &raw::Policy) -> bool {
    let audit = policy.audit.as_ref();
    audit.is_none_or(|audit| audit.export.is_none())
}

impl Workload {
    /// The container that copies the filters and the host's program out of the host's image, where
    /// Envoy's container cannot read them.
    pub fn filters(&self) -> Node {
        map! {
            "name" => "filters",
            "image" => self.host_image.to_string(),
            "args" => list!["install-filters", FILTERS],
            "resources" => map! {
                "requests" => map! {"cpu" => "10m", "memory" => "64Mi"},
                "limits" => map! {"memory" => "64Mi"},
            },
            "securityContext" => restricted(),
            "volumeMounts" => list![map! {"name" => "filters", "mountPath" => FILTERS}],
        }
    }

    /// An object of this gate with its metadata.
    pub fn object(&self, api_version: &str, kind: &str, name: &str, rest: Node) -> Node {
        self.object_in(&self.namespace, (api_version, kind), name, rest)
    }

    /// An object of this gate in any namespace.
    pub fn object_in(
        &self,
        namespace: &Namespace,
        (api_version, kind): (&str, &str),
        name: &str,
        rest: Node,
    ) -> Node {
        let mut object = entries(map! {
            "apiVersion" => api_version,
            "kind" => kind,
            "metadata" => map! {
                "name" => name,
                "namespace" => namespace.as_str(),
                "labels" => self.labels(),
            },
        });
        object.extend(entries(rest));
        Node::Map(object)
    }

    /// The name of an object of this gate in another namespace. Gates of several namespaces may
    /// have the same name there, so it begins with the gate's namespace. A dot separates both,
    /// because neither has one.
    pub fn qualified_name(&self) -> String {
        format!("{}.{}", self.namespace, self.name)
    }

    /// The name of objects about the model servers, in their namespace.
    pub fn name_for_model_servers(&self) -> String {
        format!("{}-model-servers", self.qualified_name())
    }

    /// Labels of every object.
    pub fn labels(&self) -> Node {
        let mut labels = entries(self.selector());
        labels.push((MANAGED_BY.to_owned(), "tensorgate".into()));
        Node::Map(labels)
    }

    /// Labels that select the pods.
    pub fn selector(&self) -> Node {
        map! {
            "app.kubernetes.io/name" => "tensorgate",
            "app.kubernetes.io/instance" => self.name.as_str(),
        }
    }

    /// The policy as a ConfigMap. It keeps its name when the policy changes, so running hosts load
    /// the new one without a restart.
    ///
    /// # Errors
    /// The policy does not fit into a ConfigMap.
    pub fn policy(&self, version: &Version) -> Result<Node, String> {
        let compiled = version.for_host();
        let encoded = STANDARD.encode(compiled.to_bytes());
        let data = map! {"binaryData" => map! {FILE => encoded}};
        self.config_map(&self.name.with("policy"), data)
    }

    /// A ConfigMap.
    ///
    /// # Errors
    /// It is larger than Kubernetes accepts.
    pub fn config_map(&self, name: &str, data: Node) -> Result<Node, String> {
        let bytes = data.to_yaml().len();
        if bytes > MAX_CONFIG_BYTES {
            return Err(format!(
                "the policy needs {bytes} bytes in ConfigMap {name}, and Kubernetes accepts 1 MiB; split the policy into gates of their own"
            ));
        }
        Ok(self.object("v1", "ConfigMap", name, data))
    }

    /// The identity of the pods, without a token for the API server.
    pub fn service_account(&self) -> Node {
        let rest = map! {"automountServiceAccountToken" => false};
        self.object("v1", "ServiceAccount", self.name.as_str(), rest)
    }

    /// At most one pod at a time leaves by a drain of its node. A pod that is not ready serves
    /// nothing and may leave at any time. Otherwise pods with a fault would keep nodes from
    /// draining.
    pub fn disruption_budget(&self) -> Node {
        let spec = map! {
            "maxUnavailable" => 1_u64,
            "unhealthyPodEvictionPolicy" => "AlwaysAllow",
            "selector" => map! {"matchLabels" => self.selector()},
        };
        let name = self.name.as_str();
        self.object(
            "policy/v1",
            "PodDisruptionBudget",
            name,
            map! {"spec" => spec},
        )
    }

    /// A Service with these ports: name, port, and how the protocol is announced.
    pub fn service(&self, ports: &[(&str, u16, Option<&str>)]) -> Node {
        let ports: Vec<_> = (ports.iter())
            .map(|(name, port, protocol)| {
                let mut entry = entries(map! {
                    "name" => *name,
                    "port" => u32::from(*port),
                    "targetPort" => u32::from(*port),
                });
                if let Some(protocol) = protocol {
                    entry.push(("appProtocol".to_owned(), (*protocol).into()));
                }
                Node::Map(entry)
            })
            .collect();
        let spec = map! {"selector" => self.selector(), "ports" => ports};
        self.object("v1", "Service", self.name.as_str(), map! {"spec" => spec})
    }

    /// The Deployment of the pods. One pod more than usual starts before one ends, so a rollout
    /// never has fewer pods.
    pub fn deployment(&self, loaded: &Loaded, pod: Pod) -> Node {
        let mut labels = entries(self.labels());
        labels.extend(pod.labels);
        labels.extend(entries(self.pod_options.labels()));
        let mut annotations = pod.annotations;
        let folders = BaseFolders {
            root: ROOT.into(),
            audit: Some(AUDIT.into()),
        };
        let checksum = host_checksum(&loaded.version, &folders);
        annotations.push((HOST_CHECKSUM.to_owned(), checksum.into()));
        annotations.extend(entries(self.pod_options.annotations()));
        let metadata =
            map! {"labels" => Node::Map(labels), "annotations" => Node::Map(annotations)};
        let mut volumes = self.volumes();
        volumes.extend(pod.volumes);
        let mut spec = entries(map! {
                "serviceAccountName" => self.name.as_str(),
                "automountServiceAccountToken" => false,
                "enableServiceLinks" => false,
                "terminationGracePeriodSeconds" => ending::grace_s(&loaded.version.policy),
                "securityContext" => map! {
                    "runAsNonRoot" => true,
                    "runAsUser" => USER,
                    "runAsGroup" => USER,
                    // Secrets are mounted for this group.
                    "fsGroup" => USER,
                    "seccompProfile" => map! {"type" => "RuntimeDefault"},
                },
                "topologySpreadConstraints" => list![map! {
                    "maxSkew" => 1_u64,
                    "topologyKey" => "kubernetes.io/hostname",
                    "whenUnsatisfiable" => "ScheduleAnyway",
                    "labelSelector" => map! {"matchLabels" => self.selector()},
                }],
        });
        spec.extend(self.pod_options.spec());
        if !pod.first.is_empty() {
            spec.push(("initContainers".to_owned(), pod.first.into()));
        }
        spec.push(("containers".to_owned(), pod.containers.into()));
        spec.push(("volumes".to_owned(), volumes.into()));
        let template = map! {"metadata" => metadata, "spec" => Node::Map(spec)};
        let spec = map! {
            "replicas" => self.replicas,
            "selector" => map! {"matchLabels" => self.selector()},
            "strategy" => map! {
                "type" => "RollingUpdate",
                "rollingUpdate" => map! {"maxUnavailable" => 0_u64, "maxSurge" => 1_u64},
            },
            "template" => template,
        };
        let name = self.name.as_str();
        self.object("apps/v1", "Deployment", name, map! {"spec" => spec})
    }

    /// The container of the host. `arguments` say where it listens.
    pub fn host(
        &self,
        policy: &Policy,
        end: EndAfter,
        arguments: Vec<Node>,
        mounts: Vec<Node>,
    ) -> Node {
        let admin = u32::from(admin::DEFAULT_ADDRESS.port());
        let mut args = vec![
            format!("--bundle={POLICY}/{FILE}").into(),
            format!("--root={ROOT}").into(),
            format!("--context-key-file={CONTEXT}/{CONTEXT_KEY}").into(),
            format!("--audit-folder={AUDIT}").into(),
            format!("--cache-folder={CACHE}/components").into(),
            // The kubelet's probes come from outside the pod. The network policy keeps others away.
            format!("--admin=0.0.0.0:{admin}").into(),
            "--admin-public".into(),
            // For `kubectl port-forward`: the console, and what `tensorgate status` asks.
            format!("--admin-local=127.0.0.1:{}", admin::LOCAL_PORT).into(),
            "--harden=best-effort".into(),
            "--log=json".into(),
            format!("--drain-s={}", end.drain_s(policy)).into(),
            // On a large node the host would run as many handlers as the node has processors.
            HANDLER_THREADS.into(),
            self.sizes.host_cpu.to_string().into(),
            // Without it, handlers would have half of the container's memory.
            HANDLER_MEMORY.into(),
            format!("{}MiB", self.sizes.handler_mib(policy)).into(),
        ];
        if self.audit_stdout {
            args.push("--audit-stdout".into());
        }
        args.extend(arguments);
        let mut all_mounts = self.mounts();
        all_mounts.extend(mounts);
        let probe = |path: &str| map! {"httpGet" => map! {"path" => path, "port" => "admin"}};
        let every = |path: &str, period: u64, failures: u64| {
            let mut probe = entries(probe(path));
            probe.push(("periodSeconds".to_owned(), period.into()));
            probe.push(("failureThreshold".to_owned(), failures.into()));
            probe
        };
        let mut alive = every("/healthz", 10, 3);
        // A host that is busy is not restarted, which would make the others busier.
        alive.push(("timeoutSeconds".to_owned(), LIVENESS_TIMEOUT_S.into()));
        alive.push(("terminationGracePeriodSeconds".to_owned(), HUNG_S.into()));
        let container = map! {
            "name" => "host",
            "image" => self.host_image.to_string(),
            "args" => args,
            "ports" => list![map! {"name" => "admin", "containerPort" => admin}],
            // Handlers are compiled before a policy is in force: ten minutes at most. Readiness may
            // depend on another container, and this one must not be restarted for that.
            "startupProbe" => Node::Map(every("/readyz?started", 2, 300)),
            "readinessProbe" => Node::Map(every("/readyz", 2, 2)),
            "livenessProbe" => Node::Map(alive),
            "resources" => resources(self.sizes.host_cpu, self.sizes.host_mib(policy)),
            "securityContext" => restricted(),
            "volumeMounts" => all_mounts,
        };
        end.of_container(container, policy)
    }

    /// The variable with the context key in the container of a proxy with the filter. In the
    /// environment, no configuration dump shows it.
    pub fn context_key(&self) -> Node {
        map! {
            "name" => CONTEXT_KEY_VARIABLE,
            "valueFrom" => map! {"secretKeyRef" => map! {
                "name" => self.context_secret.as_str(),
                "key" => CONTEXT_KEY,
            }},
        }
    }

    /// Volumes of the host.
    fn volumes(&self) -> Vec<Node> {
        let mut volumes = vec![
            map! {"name" => "run", "emptyDir" => map! {"medium" => "Memory", "sizeLimit" => "16Mi"}},
            map! {"name" => "audit", "emptyDir" => map! {}},
            map! {"name" => "cache", "emptyDir" => map! {}},
            map! {"name" => "policy", "configMap" => map! {"name" => self.name.with("policy")}},
            map! {
                "name" => "context",
                "secret" => map! {
                    "secretName" => self.context_secret.as_str(),
                    "defaultMode" => GROUP_READABLE,
                    "items" => list![map! {"key" => CONTEXT_KEY, "path" => CONTEXT_KEY}],
                },
            },
        ];
        let secrets = self.files.secret.iter().enumerate();
        volumes.extend(secrets.map(|(at, ((reader, folder), names))| {
            let items = names.iter().map(|name| {
                map! {"key" => PolicyFiles::secret_key(folder, name), "path" => name.as_str()}
            });
            map! {
                "name" => format!("{}-{at}", reader.name()),
                "secret" => map! {
                    "secretName" => self.files_secret.as_str(),
                    "defaultMode" => GROUP_READABLE,
                    "items" => items.collect::<Vec<_>>(),
                },
            }
        }));
        volumes.extend(self.handlers.iter().map(|source| match source {
            HandlerSource::Image(image) => map! {
                "name" => "handlers",
                "image" => map! {"reference" => image.to_string(), "pullPolicy" => "IfNotPresent"},
            },
            HandlerSource::Claim(claim) => map! {
                "name" => "handlers",
                "persistentVolumeClaim" => map! {"claimName" => claim.as_str(), "readOnly" => true},
            },
        }));
        volumes
    }

    /// Mounts of the host.
    fn mounts(&self) -> Vec<Node> {
        let mut mounts = vec![
            map! {"name" => "run", "mountPath" => RUN},
            map! {"name" => "audit", "mountPath" => AUDIT},
            map! {"name" => "cache", "mountPath" => CACHE},
            map! {"name" => "policy", "mountPath" => POLICY, "readOnly" => true},
            map! {"name" => "context", "mountPath" => CONTEXT, "readOnly" => true},
        ];
        mounts.extend(self.secret_mounts(Reader::Host));
        mounts.extend(self.files.components.iter().map(|folder| {
            map! {
                "name" => "handlers",
                "mountPath" => format!("{ROOT}/{folder}"),
                "subPath" => folder.as_str(),
                "readOnly" => true,
            }
        }));
        mounts
    }

    /// Mounts of the certificates, keys and passwords that a program reads.
    pub fn secret_mounts(&self, reader: Reader) -> Vec<Node> {
        let folders = self.files.secret.keys().enumerate();
        folders
            .filter(|(_, (of, _))| *of == reader)
            .map(|(at, (_, folder))| {
                map! {
                    "name" => format!("{}-{at}", reader.name()),
                    "mountPath" => format!("{ROOT}/{folder}"),
                    "readOnly" => true,
                }
            })
            .collect()
    }
}

/// What a target adds to the pods.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    /// Further labels.
    pub labels: Vec<(String, Node)>,
    /// Annotations.
    pub annotations: Vec<(String, Node)>,
    /// Containers that run to their end before the others start.
    pub first: Vec<Node>,
    /// Containers.
    pub containers: Vec<Node>,
    /// Further volumes.
    pub volumes: Vec<Node>,
}

/// The label that keeps Istio from adding a sidecar, as it does to each pod of some namespaces. The
/// network policy closes what a sidecar needs, so the pod would not start.
pub fn without_sidecar() -> (String, Node) {
    ("sidecar.istio.io/inject".to_owned(), "false".into())
}

/// The volume of the filters and of the host's program.
pub fn filters_volume() -> Node {
    map! {"name" => "filters", "emptyDir" => map! {"sizeLimit" => FILTERS_SIZE}}
}

/// Where Envoy's container has that volume.
pub fn filters_mount() -> Node {
    map! {"name" => "filters", "mountPath" => FILTERS, "readOnly" => true}
}

/// A container's rights: none.
pub fn restricted() -> Node {
    map! {
        "allowPrivilegeEscalation" => false,
        "readOnlyRootFilesystem" => true,
        "capabilities" => map! {"drop" => list!["ALL"]},
    }
}
