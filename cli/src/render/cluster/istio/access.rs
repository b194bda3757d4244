//! Who may reach the gate's pods in a mesh: identities that mTLS has verified, and only at the
//! gate's ports.

use super::pods::Port;
use crate::render::cluster::workload::Workload;
use crate::render::node::{Node, list, map};

/// API version of both objects.
const SECURITY: &str = "security.istio.io/v1";

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
pub fn only(workload: &Workload, principals: &[String], ports: &[Port]) -> Node {
    let principals: Vec<_> = (principals.iter())
        .map(|principal| Node::from(principal.as_str()))
        .collect();
    let ports: Vec<_> = (ports.iter())
        .map(|port| Node::from(port.number.to_string()))
        .collect();
    let spec = map! {
        "selector" => map! {"matchLabels" => workload.selector()},
        "action" => "ALLOW",
        "rules" => list![map! {
            "from" => list![map! {"source" => map! {"principals" => principals}}],
            "to" => list![map! {"operation" => map! {"ports" => ports}}],
        }],
    };
    let name = workload.name.as_str();
    workload.object(SECURITY, "AuthorizationPolicy", name, map! {"spec" => spec})
}
