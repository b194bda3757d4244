//! Network policies: what may reach the gate's pods, what they may reach, and that nothing but them
//! reaches the model servers.

use tensorgate_settings::admin;

use super::names::PodLabel;
use super::pod_ports::tcp;
use super::workload::Workload;
use crate::render::node::{Node, list, map};

/// API version and kind of the objects.
const NETWORK_POLICY: (&str, &str) = ("networking.k8s.io/v1", "NetworkPolicy");
/// Label that every namespace has.
const NAMESPACE: &str = "kubernetes.io/metadata.name";
/// Port of name servers.
const DNS: u16 = 53;

/// Who may connect to the gate's pods, and at which ports.
#[derive(Clone, Debug, Default)]
pub struct Admitted {
    /// Ports that every pod of the cluster may reach.
    pub public: Vec<u16>,
    /// Ports that only these pods may reach.
    pub private: Vec<u16>,
    /// Namespace of these pods.
    pub namespace: Option<String>,
    /// Labels of these pods; all pods of the namespace if empty.
    pub pods: Vec<PodLabel>,
    /// Ports with metrics, beside the host's.
    pub metrics: Vec<u16>,
    /// Further rules of what the gate's pods may reach.
    pub reaches: Vec<Node>,
}

impl Workload {
    /// What may reach the gate's pods and what these may reach. All else is denied.
    pub fn network_policy(&self, admitted: &Admitted) -> Node {
        let mut ingress = Vec::new();
        if !admitted.public.is_empty() {
            ingress.push(map! {"ports" => tcp(&admitted.public)});
        }
        if let Some(namespace) = &admitted.namespace {
            ingress.push(map! {
                "from" => list![peer(namespace, &admitted.pods)],
                "ports" => tcp(&admitted.private),
            });
        }
        if let Some(namespace) = &self.metrics_from {
            let mut ports = vec![admin::DEFAULT_ADDRESS.port()];
            ports.extend(&admitted.metrics);
            ingress.push(map! {
                "from" => list![peer(namespace.as_str(), &[])],
                "ports" => tcp(&ports),
            });
        }
        let dns = |protocol| map! {"protocol" => protocol, "port" => u32::from(DNS)};
        let mut egress = vec![map! {"ports" => list![dns("UDP"), dns("TCP")]}];
        if let Some(models) = self.pod_ports.to_models() {
            let mut rule = Vec::new();
            if !self.model_servers.is_empty() {
                let peer = peer(self.model_namespace.as_str(), &self.model_servers);
                rule.push(("to".to_owned(), list![peer]));
            }
            rule.push(("ports".to_owned(), models));
            egress.push(Node::Map(rule));
        }
        egress.extend(
            self.pod_ports
                .to_others()
                .map(|ports| map! {"ports" => ports}),
        );
        egress.extend(admitted.reaches.iter().cloned());
        let spec = map! {
            "podSelector" => map! {"matchLabels" => self.selector()},
            "policyTypes" => list!["Ingress", "Egress"],
            "ingress" => ingress,
            "egress" => egress,
        };
        let (version, kind) = NETWORK_POLICY;
        self.object(version, kind, self.name.as_str(), map! {"spec" => spec})
    }

    /// Closes the model servers' pods: only the gate reaches them, and only at the ports behind the
    /// endpoints of the policy. Ports for management, metrics and messages between servers are
    /// closed with all others. `None` if the pods are not known.
    pub fn model_server_policy(&self) -> Option<Node> {
        if self.model_servers.is_empty() {
            return None;
        }
        let ports = self.pod_ports.to_models()?;
        let gate = map! {
            "namespaceSelector" => map! {"matchLabels" => map! {NAMESPACE => self.namespace.as_str()}},
            "podSelector" => map! {"matchLabels" => self.selector()},
        };
        let spec = map! {
            "podSelector" => map! {"matchLabels" => labels(&self.model_servers)},
            "policyTypes" => list!["Ingress"],
            "ingress" => list![map! {"from" => list![gate], "ports" => ports}],
        };
        let name = self.name_for_model_servers();
        let spec = map! {"spec" => spec};
        Some(self.object_in(&self.model_namespace, NETWORK_POLICY, &name, spec))
    }
}

/// Pods with these labels in a namespace; all of its pods if there is no label.
fn peer(namespace: &str, pods: &[PodLabel]) -> Node {
    let namespace = map! {"matchLabels" => map! {NAMESPACE => namespace}};
    if pods.is_empty() {
        return map! {"namespaceSelector" => namespace};
    }
    map! {
        "namespaceSelector" => namespace,
        "podSelector" => map! {"matchLabels" => labels(pods)},
    }
}

/// A rule of what pods may reach: this port, in one namespace or anywhere.
pub fn reach(namespace: Option<&str>, port: u16) -> Node {
    let mut rule = Vec::new();
    if let Some(namespace) = namespace {
        rule.push(("to".to_owned(), list![peer(namespace, &[])]));
    }
    rule.push(("ports".to_owned(), tcp(&[port]).into()));
    Node::Map(rule)
}

/// Labels as a mapping.
pub fn labels(pods: &[PodLabel]) -> Node {
    let each = pods.iter();
    Node::Map(
        each.map(|label| (label.key.clone(), label.value.as_str().into()))
            .collect(),
    )
}
