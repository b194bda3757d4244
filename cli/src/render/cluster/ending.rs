//! How the pods of a gate end: in which order, and how long requests have.
//!
//! Envoy cuts off every request at SIGTERM, so something drains it before: a command of ours, or
//! the mesh. The host is behind it and ends last.

use tensorgate_policy::Policy;

use crate::render::node::{Node, entries, map};

/// Least seconds that requests and kept connections have to end.
const MIN_DRAIN_S: u64 = 30;
/// Most of these seconds. Autoscalers of nodes wait as long for a pod by default.
const MAX_DRAIN_S: u64 = 600;
/// Seconds between the end of a pod's endpoint and the start of the drain. Proxies learn in this
/// time that the pod is gone.
pub const LEAVE_S: u64 = 10;
/// Seconds that the host has once no request is left: it writes and sends its audit log.
const LAST_S: u64 = 5;
/// Seconds that a container has to end if its liveness probe failed. It serves nothing, so the
/// kubelet need not wait for a drain, as it does at the end of the pod.
pub const HUNG_S: u64 = 10;
/// Seconds beyond all others before the kubelet kills what is left.
const KILL_MARGIN_S: u64 = 10;

/// When the host of a pod gets its signal. Its in-flight requests come from a proxy, which drains
/// first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndAfter {
    /// After Envoy in the same pod. The kubelet ends a container of this kind (a sidecar) when all
    /// others have ended, however long that takes.
    Envoy,
    /// After the time that a mesh's proxy in the same pod has to drain. Whether the kubelet ends
    /// that proxy before or after the host is a setting of the mesh.
    Proxy,
    /// Once proxies in other pods have learnt that this one leaves. It finishes their requests.
    Endpoint,
}

impl EndAfter {
    /// Seconds that the host waits for requests after its signal.
    pub fn drain_s(self, policy: &Policy) -> u64 {
        match self {
            Self::Envoy | Self::Proxy => LAST_S,
            Self::Endpoint => drain_s(policy),
        }
    }

    /// The container with what makes it end so.
    pub fn of_container(self, container: Node, policy: &Policy) -> Node {
        let sleep =
            |seconds: u64| map! {"preStop" => map! {"sleep" => map! {"seconds" => seconds}}};
        let mut fields = entries(container);
        match self {
            Self::Envoy => {
                // Envoy starts after this probe's success. Readiness may need requests of Envoy.
                fields.retain(|(field, _)| field != "startupProbe");
                fields.push((
                    "startupProbe".to_owned(),
                    map! {
                        "httpGet" => map! {"path" => "/healthz", "port" => "admin"},
                        "periodSeconds" => 1_u64,
                        "failureThreshold" => 120_u64,
                    },
                ));
                fields.push(("restartPolicy".to_owned(), "Always".into()));
            }
            // The proxy reports its last requests to the host.
            Self::Proxy => {
                let seconds = leave_and_drain_s(policy).saturating_add(LAST_S);
                fields.push(("lifecycle".to_owned(), sleep(seconds)));
            }
            Self::Endpoint => fields.push(("lifecycle".to_owned(), sleep(LEAVE_S))),
        }
        Node::Map(fields)
    }
}

/// Seconds that requests and kept connections have to end: as long as the policy lets one of them
/// last, within bounds. The wait ends when none is left.
pub fn drain_s(policy: &Policy) -> u64 {
    let limits = policy.listen().limits();
    let longest_ms = limits.stream_ms.max(limits.idle_ms);
    longest_ms.div_ceil(1000).clamp(MIN_DRAIN_S, MAX_DRAIN_S)
}

/// Seconds from the end of a pod's endpoint to the end of its last request.
pub fn leave_and_drain_s(policy: &Policy) -> u64 {
    LEAVE_S.saturating_add(drain_s(policy))
}

/// Seconds until the kubelet kills a pod that ends. All targets have the same.
pub fn grace_s(policy: &Policy) -> u64 {
    // A host waits for its proxy, and then for itself.
    let host_s = LAST_S.saturating_mul(2);
    (leave_and_drain_s(policy).saturating_add(host_s)).saturating_add(KILL_MARGIN_S)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::cluster::test_support::{loaded, policy};

    #[test]
    fn requests_have_as_long_as_the_policy_lets_them_last() {
        for (limits, drain, grace) in [
            ("{}", 60, 90),
            ("{stream_ms: 9500, timeout_ms: 1000, idle_ms: 1000}", 30, 60),
            ("{stream_ms: 90500}", 91, 121),
            ("{idle_ms: 120000}", 120, 150),
            ("{stream_ms: 86400000}", 600, 630),
        ] {
            let listen = format!("listen: {{address: 127.0.0.1:8080, limits: {limits}}}");
            let text = policy("web").replace("listen: {address: 127.0.0.1:8080}", &listen);
            let loaded = loaded(&text);
            let found = (
                drain_s(&loaded.version.policy),
                grace_s(&loaded.version.policy),
            );
            assert_eq!(found, (drain, grace), "{limits}");
        }
    }
}
