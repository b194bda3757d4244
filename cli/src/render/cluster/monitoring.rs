//! Objects for monitoring that an operator asks for: Grafana's dashboards for its sidecar, and a
//! PodMonitor for the Prometheus Operator.

use super::workload::Workload;
use crate::render::envoy::stats;
use crate::render::manifests::Manifests;
use crate::render::node::{Node, entries, list, map};

/// Label by which the sidecar of Grafana's chart finds dashboards, with its value.
const LABEL: (&str, &str) = ("grafana_dashboard", "1");
/// The dashboards: the name of each file, and its JSON.
const DASHBOARDS: [(&str, &str); 6] = [
    (
        "artifacts.json",
        include_str!("../../../../monitoring/grafana/artifacts.json"),
    ),
    (
        "client-kind.json",
        include_str!("../../../../monitoring/grafana/client-kind.json"),
    ),
    (
        "handlers.json",
        include_str!("../../../../monitoring/grafana/handlers.json"),
    ),
    (
        "model.json",
        include_str!("../../../../monitoring/grafana/model.json"),
    ),
    (
        "overview.json",
        include_str!("../../../../monitoring/grafana/overview.json"),
    ),
    (
        "tokens.json",
        include_str!("../../../../monitoring/grafana/tokens.json"),
    ),
];

/// What an operator asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Monitoring {
    /// Whether there is a ConfigMap with the dashboards.
    pub dashboards: bool,
    /// Whether there is a PodMonitor, if a namespace may read the metrics.
    pub pod_monitor: bool,
}

impl Monitoring {
    /// Adds the objects.
    pub fn add_to(self, manifests: &mut Manifests, workload: &Workload) {
        if self.dashboards {
            manifests.add("configmap-dashboards", dashboards(workload));
        }
        if self.pod_monitor && workload.metrics_from.is_some() {
            manifests.add("podmonitor", pod_monitor(workload));
        }
    }
}

/// The dashboards as a ConfigMap. They are far smaller than Kubernetes accepts.
fn dashboards(workload: &Workload) -> Node {
    let (label, value) = LABEL;
    let mut labels = entries(workload.labels());
    labels.push((label.to_owned(), value.into()));
    let data = DASHBOARDS.map(|(file, json)| (file.to_owned(), Node::from(json)));
    map! {
        "apiVersion" => "v1",
        "kind" => "ConfigMap",
        "metadata" => map! {
            "name" => workload.name.with("dashboards"),
            "namespace" => workload.namespace.as_str(),
            "labels" => Node::Map(labels),
        },
        "data" => Node::Map(data.to_vec()),
    }
}

/// Both pages of each pod: that of the host, and that of Envoy.
fn pod_monitor(workload: &Workload) -> Node {
    let spec = map! {
        "selector" => map! {"matchLabels" => workload.selector()},
        "podMetricsEndpoints" => list![
            map! {"port" => "admin", "path" => "/metrics"},
            map! {"port" => stats::NAME, "path" => stats::PATH},
        ],
    };
    let api = "monitoring.coreos.com/v1";
    let name = workload.name.as_str();
    workload.object(api, "PodMonitor", name, map! {"spec" => spec})
}
