//! Who may reach the gate's pods and the model servers' in a mesh: identities that mTLS has
//! verified, and only at certain ports.

use crate::render::cluster::network;
use crate::render::cluster::workload::Workload;
use crate::render::node::{Node, list, map};

/// API version of the objects.
const SECURITY: &str = "security.istio.io/v1";
/// Kind of those that admit identities.
const POLICY: &str = "AuthorizationPolicy";

/// Connections without the mesh's mTLS are rejected.
pub fn strict(workload: &Workload) -> Node {
    let spec = map! {
        "selector" => map! {"matchLabels" => workload.selector()},
        "mtls" => map! {"mode" => "STRICT"},
    };
    let name = workload.name.as_str();
    workload.object(SECURITY, "PeerAuthentication", name, map! {"spec" => spec})
}

/// Only these identities reach these ports, and none reaches another port. The rule has nothing
/// but ports, because Istio skips rules about HTTP on connections that it does not read as HTTP.
pub fn only(workload: &Workload, principals: &[String], ports: &[u16]) -> Node {
    let name = workload.name.as_str();
    let spec = allow(workload.selector(), principals, ports);
    workload.object(SECURITY, POLICY, name, spec)
}

/// Only the gate reaches the model servers, as in their network policy. It is in their namespace,
/// where their proxies enforce it; pods without a proxy ignore it. `None` if the pods are not
/// known.
pub fn model_servers(workload: &Workload, gate: String) -> Option<Node> {
    let ports = workload.pod_ports.models.as_slice();
    if workload.model_servers.is_empty() || ports.is_empty() {
        return None;
    }
    let name = workload.name_for_model_servers();
    let selected = network::labels(&workload.model_servers);
    let spec = allow(selected, &[gate], ports);
    Some(workload.object_in(&workload.model_namespace, (SECURITY, POLICY), &name, spec))
}

/// The rule of a policy: only these identities reach these ports of the selected pods.
fn allow(selected: Node, principals: &[String], ports: &[u16]) -> Node {
    let principals: Vec<_> = (principals.iter())
        .map(|principal| Node::from(principal.as_str()))
        .collect();
    let ports: Vec<_> = (ports.iter())
        .map(|port| Node::from(port.to_string()))
        .collect();
    let spec = map! {
        "selector" => map! {"matchLabels" => selected},
        "action" => "ALLOW",
        "rules" => list![map! {
            "from" => list![map! {"source" => map! {"principals" => principals}}],
            "to" => list![map! {"operation" => map! {"ports" => ports}}],
        }],
    };
    map! {"spec" => spec}
}
