//! The gate's pods in a mesh: the host, the sidecar that Istio injects, and the sidecar's ports.

use tensorgate_policy::Policy;
use tensorgate_settings::admin;

use crate::render::cluster::ending::{EndAfter, leave_and_drain_s};
use crate::render::cluster::filter_source::FilterSource;
use crate::render::cluster::policy_files::Reader;
use crate::render::cluster::sizes::resources;
use crate::render::cluster::workload::{Pod, RUN, Workload, filters_mount, filters_volume};
use crate::render::node::{Node, entries, list, map};

/// The user that an injected sidecar runs as.
const PROXY_USER: u64 = 1_337;
/// How a Service announces HTTP/2. Sidecars of clients then send HTTP/2 whatever they receive, so
/// that gRPC and HTTP/1.1 have one port.
const HTTP2: &str = "kubernetes.io/h2c";

/// A port of the pods, and the host's socket behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its number.
    pub number: u16,
    name: &'static str,
    protocol: &'static str,
    socket: &'static str,
}

impl Port {
    /// The port of requests.
    ///
    /// Protocol `HTTP2` makes Envoy send HTTP/2 to the socket, which the verdict needs: it is a
    /// request trailer. The listener's own codec stays `AUTO`, so clients may use HTTP/1.1.
    pub const fn gate(number: u16) -> Self {
        Self {
            number,
            name: "http2-gate",
            protocol: "HTTP2",
            socket: "host.sock",
        }
    }

    /// A port of a gRPC service of the host.
    pub const fn grpc(name: &'static str, number: u16, socket: &'static str) -> Self {
        Self {
            number,
            name,
            protocol: "GRPC",
            socket,
        }
    }
}

/// Leads the sidecar's ports to the host's sockets. Other ports of the pods are not served.
///
/// It says nothing about `egress`: what the host may reach stays as the namespace has it.
pub fn sidecar(workload: &Workload, ports: &[Port]) -> Node {
    let ingress: Vec<_> = (ports.iter())
        .map(|port| {
            map! {
                "port" => map! {
                    "number" => u32::from(port.number),
                    "protocol" => port.protocol,
                    "name" => port.name,
                },
                "defaultEndpoint" => format!("unix://{RUN}/{}", port.socket),
            }
        })
        .collect();
    let spec = map! {
        "workloadSelector" => map! {"labels" => workload.selector()},
        "ingress" => ingress,
    };
    let name = workload.name.as_str();
    let (version, kind) = ("networking.istio.io/v1", "Sidecar");
    workload.object(version, kind, name, map! {"spec" => spec})
}

/// The Service of the ports.
pub fn service(workload: &Workload, ports: &[Port]) -> Node {
    let ports: Vec<_> = (ports.iter())
        .map(|port| (port.name, port.number, Some(HTTP2)))
        .collect();
    workload.service(&ports)
}

/// The pods, with the filter that their sidecar has, if any.
pub fn pod(workload: &Workload, policy: &Policy, filter: Option<&FilterSource>) -> Pod {
    let with_filter = filter.is_some();
    let with_module = matches!(filter, Some(FilterSource::HostImage));
    let drain_s = leave_and_drain_s(policy);
    let concurrency = if with_filter {
        format!(", \"concurrency\": {}", workload.sizes.workers())
    } else {
        String::new()
    };
    let mut annotations = vec![
        (
            "proxy.istio.io/config".to_owned(),
            // The host's connections go through the sidecar, which therefore starts first. When the
            // pod ends, it drains this long: its answers close connections of HTTP/1.1, and send
            // GOAWAY on those of HTTP/2. Each of its workers has a VM of the filter.
            Node::from(format!(
                "{{\"holdApplicationUntilProxyStarts\": true, \"terminationDrainDuration\": \"{drain_s}s\"{concurrency}}}"
            )),
        ),
        (
            // A kubelet has no certificate of the mesh, so the sidecar's agent runs its probes.
            "sidecar.istio.io/rewriteAppHTTPProbers".to_owned(),
            "true".into(),
        ),
    ];
    if with_filter {
        // Istio's template limits a sidecar to two processors by default, and Kubernetes rejects a
        // pod that asks for more than its limit. With this annotation the template has no limit.
        annotations.push((
            "sidecar.istio.io/proxyCPU".to_owned(),
            workload.sizes.envoy_cpu.to_string().into(),
        ));
    }
    let (mut first, mut volumes) = (Vec::new(), Vec::new());
    if with_module {
        first.push(workload.filters());
        volumes.push(filters_volume());
        annotations.extend([
            (
                // Otherwise the sidecar starts before the module is in the volume, and Envoy
                // rejects its configuration, which Istio does not send again.
                "sidecar.istio.io/nativeSidecar".to_owned(),
                "false".into(),
            ),
            (
                // By default a sidecar shows the counters of wasm modules, but not of these.
                "sidecar.istio.io/statsInclusionPrefixes".to_owned(),
                "dynamicmodulescustom".into(),
            ),
        ]);
    }
    if workload.metrics_from.is_some() {
        // A scraper may be outside the mesh. The network policy decides which pods reach it.
        annotations.push((
            "traffic.sidecar.istio.io/excludeInboundPorts".to_owned(),
            admin::DEFAULT_ADDRESS.port().to_string().into(),
        ));
    }
    let mut arguments = vec![
        format!("--socket={RUN}/host.sock").into(),
        format!("--peer-uid={PROXY_USER}").into(),
    ];
    if !with_filter {
        // Each stream of the gateway's proxies leads to one of the pods.
        arguments.push("--audit-shared".into());
    }
    Pod {
        labels: vec![("sidecar.istio.io/inject".to_owned(), "true".into())],
        annotations,
        containers: vec![
            workload.host(policy, EndAfter::Proxy, arguments, Vec::new()),
            proxy(workload, policy, filter),
        ],
        first,
        volumes,
    }
}

/// What the injected sidecar has beside Istio's template. Istio applies a container of this name
/// on top of its own, and `auto` stands for its own image. Without injection no such image exists,
/// and the pod does not start.
fn proxy(workload: &Workload, policy: &Policy, filter: Option<&FilterSource>) -> Node {
    let mut mounts = vec![map! {"name" => "run", "mountPath" => RUN}];
    let mut container = entries(map! {"name" => "istio-proxy", "image" => "auto"});
    if matches!(filter, Some(FilterSource::HostImage)) {
        mounts.push(filters_mount());
    }
    if filter.is_some() {
        mounts.extend(workload.secret_mounts(Reader::Envoy));
        let sizes = workload.sizes;
        container.extend(entries(map! {
            "env" => list![workload.context_key()],
            "resources" => resources(sizes.envoy_cpu, sizes.sidecar_mib(policy)),
        }));
    }
    container.push(("volumeMounts".to_owned(), mounts.into()));
    Node::Map(container)
}
