"""What reaches whom by the NetworkPolicies of a rendered folder. By Kubernetes' rules a policy closes the
pods that it selects but for its rules, a connection needs a rule at both of its ends, and a port is that
of the pod.
"""

import manifests

NAMESPACE = "kubernetes.io/metadata.name"
MODEL = "ml", {"app": "digits"}
STRANGER = "web", {"app": "frontend"}


def _matches(selector, labels):
    if selector.keys() - {"matchLabels"}:
        raise ValueError(f"a selector with {sorted(selector)} is not followed here")
    return selector.get("matchLabels", {}).items() <= labels.items()


def _is_peer(peer, pod):
    if "namespaceSelector" not in peer or peer.keys() - {"namespaceSelector", "podSelector"}:
        raise ValueError(f"a peer with {sorted(peer)} is not followed here")
    namespace, labels = pod
    return _matches(peer["namespaceSelector"], {NAMESPACE: namespace}) and _matches(peer.get("podSelector", {}), labels)


def _lets(policies, pod, direction, peers, peer, port):
    """Whether the policies of a pod let a connection with a peer pass in a direction."""
    namespace, labels = pod
    of_pod = [
        one["spec"]
        for one in policies
        if one["metadata"]["namespace"] == namespace and direction in one["spec"]["policyTypes"] and _matches(one["spec"]["podSelector"], labels)
    ]
    rules = [rule for spec in of_pod for rule in spec.get(direction.lower(), [])]
    return not of_pod or any(
        ("ports" not in rule or {"protocol": "TCP", "port": port} in rule["ports"])
        and (peers not in rule or any(_is_peer(one, peer) for one in rule[peers]))
        for rule in rules
    )


def reaches(policies, source, target, port):
    """Whether a pod reaches a port of another one."""
    return _lets(policies, source, "Egress", "to", target, port) and _lets(policies, target, "Ingress", "from", source, port)


def faults(folder, port, service_port):
    """Where a folder does not let the gate alone reach the model server's pod, at one port: that behind
    the Service's.
    """
    found = [one for _, one in manifests.read([folder])]
    policies = [one for one in found if one["kind"] == "NetworkPolicy"]
    (deployment,) = [one for one in found if one["kind"] == "Deployment"]
    gate = deployment["metadata"]["namespace"], deployment["spec"]["template"]["metadata"]["labels"]
    expected = [
        ("the gate, at the pod's port", gate, port, True),
        ("the gate, at the Service's port", gate, service_port, False),
        ("the gate, at a port for management", gate, 8002, False),
        ("another pod", STRANGER, port, False),
        ("another pod of the servers", MODEL, port, False),
    ]
    return [f"{what}: {'is cut off' if allowed else 'reaches the model server'}" for what, source, at, allowed in expected if reaches(policies, source, MODEL, at) != allowed]
