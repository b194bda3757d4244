"""The self-test of schemas.py: valid objects of every kind, and copies with one fault each, which must
be found for the right reason.
"""

import copy
from pathlib import Path

import manifests

HERE = Path(__file__).resolve().parent


def _examples():
    found = {}
    for _, document in manifests.read([HERE / "data/examples"]):
        group = document["apiVersion"].rpartition("/")[0]
        name = f"{document['kind']} {group}" if document["kind"] == "Gateway" else document["kind"]
        found.setdefault(name, document)
    return found


def _at(document, path):
    for step in path[:-1]:
        document = document[step]
    return document


def _with(document, *path, value):
    changed = copy.deepcopy(document)
    _at(changed, path)[path[-1]] = value
    return changed


def _without(document, *path):
    changed = copy.deepcopy(document)
    del _at(changed, path)[path[-1]]
    return changed


DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "tensorgate"},
    "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "host", "image": "host"}]}},
    },
}


def objects():
    """(what is wrong, the object, words of the expected message); without words, nothing is wrong."""
    valid = _examples()
    cases = [(f"valid: {name}", document, None) for name, document in valid.items()]
    cases.append(("valid: Deployment", DEPLOYMENT, None))
    cases.append(("valid: a URL without a scheme", _with(valid["WasmPlugin"], "spec", "url", value="registry.example/filter"), None))
    plugin, extension, policy = valid["WasmPlugin"], valid["TrafficExtension"], valid["EnvoyExtensionPolicy"]
    tls, route = valid["BackendTLSPolicy"], valid["HTTPRoute"]
    return cases + [
        ("an unknown field", _with(plugin, "spec", "vm_id", value="x"), "spec.vm_id: unknown field"),
        ("an unknown field in a list", _with(plugin, "spec", "match", 0, "port", value=1), "spec.match[0].port: unknown field"),
        ("a wrong enum", _with(plugin, "spec", "failStrategy", value="FAIL_CLOSED"), "is not one of FAIL_CLOSE"),
        ("a wrong type", _with(extension, "spec", "priority", value="10"), "is no integer"),
        ("a required field is missing", _without(plugin, "spec", "url"), "lacks url"),
        ("a pattern", _with(plugin, "spec", "sha256", value="sha256:00"), "spec.sha256"),
        ("a rule: a value from the host too", _with(plugin, "spec", "vmConfig", "env", 0, "value", value="x"), "does not hold"),
        ("a rule: wasm and lua", _with(extension, "spec", "lua", value={"inlineCode": "x"}), "has(self.wasm) != has(self.lua)"),
        ("a rule with a URL", _with(plugin, "spec", "url", value="ftp://registry.example/x"), "isURL(self)"),
        ("a rule on a socket", _with(valid["ServiceEntry"], "spec", "endpoints", value=[{"address": "unix://relative"}]), "self.substring(7, 8)"),
        ("a rule on a map's keys", _with(valid["PeerAuthentication"], "spec", "mtls_", value={}), "unknown field"),
        ("a port in a map's key", _with(valid["PeerAuthentication"], "spec", "portLevelMtls", value={"0": {"mode": "STRICT"}}), "int(key)"),
        ("a rule on two fields", _with(valid["AuthorizationPolicy"], "spec", "rules", 0, "from", 0, "source", "serviceAccounts", value=["gateway"]), "has(self.serviceAccounts)"),
        ("a rule on a default", _with(valid["Gateway gateway.networking.k8s.io"], "spec", "listeners", 0, "tls", value={"mode": "Passthrough"}), "l.protocol == 'HTTPS'"),
        ("a default that a rule needs", _without(valid["Gateway gateway.networking.k8s.io"], "spec", "listeners", 0, "tls", "certificateRefs"), "certificateRefs or options must be specified when mode is Terminate"),
        ("a rule on a part of a name", _with(route, "spec", "rules", 0, "matches", 0, "path", "value", value="/a/../b"), "contains('/../')"),
        ("a rule on durations", _with(route, "spec", "rules", 0, "timeouts", value={"request": "1s", "backendRequest": "2s"}), "duration(self.backendRequest)"),
        ("a rule on a list's items", _with(tls, "spec", "validation", "subjectAltNames", 1, value={"type": "URI", "hostname": "x"}), "self.type"),
        ("two items with one key", _with(valid["Gateway gateway.networking.k8s.io"], "spec", "listeners", value=valid["Gateway gateway.networking.k8s.io"]["spec"]["listeners"] * 2), "a second item with"),
        ("too many items", _with(tls, "spec", "validation", "subjectAltNames", value=[{"type": "Hostname", "hostname": f"n{n}.example"} for n in range(6)]), "more than 5"),
        ("no target", _without(policy, "spec", "targetRefs"), "has(self.targetRef)"),
        ("two sources of code", _with(policy, "spec", "wasm", 0, "code", "http", value={"url": "https://a.example"}), "self.type == 'HTTP'"),
        ("a registry's port after no scheme", _with(plugin, "spec", "url", value="registry.example:5000/filter"), "isURL(self)"),
        ("a URL with a wrong escape", _with(plugin, "spec", "url", value="oci://registry.example/%zz"), "isURL(self)"),
        ("two of which one may be given", _with(valid["VirtualService"], "spec", "http", 0, "match", 0, "uri", value={"prefix": "/", "exact": "/x"}), "of oneOf hold"),
        ("a window that is no quantity", _with(valid["ClientTrafficPolicy"], "spec", "http2", "initialStreamWindowSize", value="1 MB"), "does not match"),
        ("a window that is no integer", _with(valid["ClientTrafficPolicy"], "spec", "http2", "initialStreamWindowSize", value=-1.5), "initialStreamWindowSize"),
        ("two ways to detect addresses", _with(valid["ClientTrafficPolicy"], "spec", "clientIPDetection", value={"customHeader": {"name": "x"}, "directSourceIP": {}}), ".filter(x, x)"),
        ("a sink without its settings", _without(valid["EnvoyProxy"], "spec", "telemetry", "accessLog", "settings", 0, "sinks", 0, "als"), "has(self.als)"),
        ("a name that no object may have", _with(plugin, "metadata", "name", value="Tensor_Gate"), "metadata.name"),
        ("a label that no object may have", _with(DEPLOYMENT, "metadata", "labels", value={"a": "b c"}), "metadata.labels.a"),
        ("an unknown field of Kubernetes", _with(DEPLOYMENT, "spec", "template", "spec", "hostnetwork", value=True), "hostnetwork"),
        ("a wrong type in Kubernetes", _with(DEPLOYMENT, "spec", "replicas", value="2"), "spec.replicas"),
        ("a field that Kubernetes requires", _without(DEPLOYMENT, "spec", "selector"), "selector"),
        ("a version that is not served", {**plugin, "apiVersion": "extensions.istio.io/v1"}, "there is no definition"),
        ("a kind that does not exist", {**DEPLOYMENT, "kind": "Deploy"}, "has no Deploy"),
        ("no kind", {"apiVersion": "v1"}, "has no apiVersion or no kind"),
    ]


def test(validator):
    """Validates all of them. Returns 1 if a fault is missed, or found where there is none."""
    wrong = total = 0
    for name, document, words in objects():
        total += 1
        faults = validator.faults(document)
        if words is None and faults:
            wrong += 1
            print(f"{name}: {'; '.join(faults)}")
        elif words is not None and not any(words in fault for fault in faults):
            wrong += 1
            print(f"not found: {name} ({words}); found: {'; '.join(faults) or 'nothing'}")
    print(f"self-test: {total} objects, {validator.rules} rules in CEL, {wrong} wrong")
    return 1 if wrong else 0
