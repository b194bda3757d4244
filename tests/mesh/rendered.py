"""What the real `tensorgate render` writes, for each target and three policies, and a policy with shared
limits: valid objects, the same for kubectl and for Helm. served.py then serves two of them.
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import chart
import manifests
import network
import pods
import schemas
import yaml

HERE = Path(__file__).resolve().parent
PROGRAM = pods.TARGET / "debug/tensorgate"
# Beside the interpreter, on machines for which they are published.
HELM, KUBECTL = (Path(sys.executable).parent / name for name in ("helm", "kubectl"))
DIGEST = "sha256:" + "0" * 64
# Each policy has a Service whose port 8001 is another one of its pods.
SERVICE_PORT, POD_PORT = 8001, 9001
COMMON = ["--model-server", "app=digits", "--model-port", f"{SERVICE_PORT}={POD_PORT}", "--host-image", f"r.example/host@{DIGEST}", "--namespace", "ml"]
# What an operator sets for the pods. The chart's schema must take the longest names, which begin with a digit.
PODS = ["--image-pull-secret", "regcred", "--node-selector", "disk=ssd", "--toleration", "pool=gate:NoSchedule", "--toleration", "a.b/c:NoExecute"]
PODS += ["--affinity", HERE / "data/affinity.yaml", "--priority-class", "high", "--label", "team=ml", "--annotation", 'example.com/note={{ "a" }}: #b']
COMMON += PODS
ENVOY = ["--envoy-image", f"envoyproxy/envoy@{DIGEST}", "--clients-from", "0" * 63]
MONITORED = ["--metrics-from", "ops", "--dashboards", "--pod-monitor"]
FILTER = ["--filter-image", f"r.example/filter@{DIGEST}"]
AT_ISTIO = ["--gateway", "istio-ingress/models", "--gateway-pods", "istio=ingressgateway", "--gateway-account", "gateway", "--hosts", "models.example.com"]
AT_ENVOY_GATEWAY = ["--gateway", "models", "--section", "https", "--hosts", "models.example.com", "--gateway-name", "gateway.example.com"]
TARGETS = {
    "kubernetes": ["kubernetes", *ENVOY],
    "kubernetes-monitored": ["kubernetes", *ENVOY, *MONITORED],
    "kubernetes-module": ["kubernetes", *ENVOY, "--driver", "module"],
    "istio-sidecar": ["istio", *FILTER, "--clients", "web/frontend"],
    "istio-sidecar-1.29": ["istio", *FILTER, "--istio-release", "1.29", "--clients", "web/frontend"],
    "istio-gateway": ["istio", *FILTER, *AT_ISTIO],
    "istio-gateway-1.29": ["istio", *FILTER, *AT_ISTIO, "--istio-release", "1.29"],
    "istio-sidecar-module": ["istio", "--driver", "module", "--clients", "web/frontend"],
    "istio-gateway-module": ["istio", "--driver", "module", *AT_ISTIO],
    "gateway": ["gateway", *FILTER, *AT_ENVOY_GATEWAY],
    "gateway-patched": ["gateway", *FILTER, *AT_ENVOY_GATEWAY, "--patch-policy"],
    "gateway-module": ["gateway", "--driver", "module", *AT_ENVOY_GATEWAY, "--patch-policy"],
    "helm": ["helm", *ENVOY],
    "helm-monitored": ["helm", *ENVOY, *MONITORED],
    "helm-module": ["helm", *ENVOY, "--driver", "module"],
}
CHARTS = [target for target, (verb, *_) in TARGETS.items() if verb == "helm"]
CLIENTS, MODELS = 200, 100
# The policies that served.py serves. The second has a limit that gateways share, which a host behind TCP
# counts.
SERVED = {"one": HERE / "data/gate.yaml", "shared": HERE / "data/shared.yaml"}
SHARED = ["istio-gateway", "istio-gateway-module", "gateway-patched", "gateway-module"]


def many(folder):
    """A policy with many clients and models."""
    model = yaml.safe_load((HERE / "data/gate.yaml").read_text())
    (one,) = model["models"].values()
    (grant,) = model["grants"]
    model["clients"] = {f"client-{n}": {"api_keys": [{"sha256": f"{n:064x}"}]} for n in range(1, CLIENTS + 1)}
    model["models"] = {f"model-{n}": one for n in range(MODELS)}
    model["grants"] = [{**grant, "name": f"grant-{n}", "clients": [f"client-{n}"], "models": [f"model-{n % MODELS}"]} for n in range(1, CLIENTS + 1)]
    path = folder / "many.yaml"
    path.write_text(json.dumps(model))
    return path


def render(target, policy, folder, *more):
    """Renders a policy for a target into a folder, with more options."""
    verb, *options = TARGETS[target]
    done = subprocess.run([PROGRAM, "render", verb, policy, *COMMON, *options, *more, "-o", folder], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise RuntimeError(f"render {target} {policy}: {done.stdout}{done.stderr}")
    return folder


def _keyed(documents):
    found = {}
    for one in documents:
        if one["kind"] == "Kustomization":
            continue
        key = one["apiVersion"], one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]
        if key in found:
            raise ValueError(f"{key} is there twice")
        found[key] = one
    return found


def kustomized(folder):
    """Where `kubectl kustomize` gives other objects than the files."""
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        return [done.stderr]
    expected = _keyed(document for _, document in manifests.read([folder]))
    actual = _keyed(manifests.documents(done.stdout))
    return [f"{key} differs" for key in sorted(expected.keys() | actual.keys(), key=str) if expected.get(key) != actual.get(key)]


def charted(folder, objects, values):
    """What chart.py finds in a chart, which must equal the objects; `values`: other values are tried."""
    command = [sys.executable, chart.__file__, folder, objects, "--helm", HELM, *([] if values else ["--no-values"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return [] if done.returncode == 0 else (done.stdout + done.stderr).splitlines()


def bundles(folder):
    """Whether the host and the filter get a policy of the same version."""
    found = pods.objects(folder)
    host = pods.generation(folder)
    kinds = ("WasmPlugin", "TrafficExtension", "EnvoyExtensionPolicy")
    filters = [one for (kind, _), one in found.items() if kind in kinds or kind == "EnvoyFilter" and pods.native_filters(one)]
    versions = [pods.version(pods.compiled_of(one)) for one in filters]
    return [f"{len(filters)} filters; expected one"] * (len(filters) != 1) + [
        "the filter's policy is not the host's" for one in versions if one != host
    ]


def _faults(name, target, folder):
    out, faults = folder / name / target, []
    if target not in CHARTS:
        faults = kustomized(out) if KUBECTL.exists() else []
    elif HELM.exists():
        # Values change nothing that depends on the policy.
        objects = folder / name / target.replace("helm", "kubernetes")
        faults = charted(out, objects, (name, target) == ("odd", "helm"))
    if TARGETS[target][0] in ("istio", "gateway"):
        faults += bundles(out)
    if target not in CHARTS:
        faults += network.faults(out, POD_PORT, SERVICE_PORT)
    return faults


def check(folder):
    """Renders everything into a folder. Returns how many folders have faults."""
    policies = {"one": SERVED["one"], "many": many(folder), "odd": HERE / "data/odd.yaml"}
    pairs = [(name, target) for name in policies for target in TARGETS]
    policies["shared"] = SERVED["shared"]
    pairs += [("shared", target) for target in SHARED]
    for name, target in pairs:
        render(target, policies[name], folder / name / target)
    wrong = 0
    with ThreadPoolExecutor(2) as pool:
        for (name, target), faults in zip(pairs, pool.map(lambda pair: _faults(*pair, folder), pairs), strict=True):
            for fault in faults:
                print(f"{name} for {target}: {fault}")
            wrong += bool(faults)
    left_out = ", ".join(path.name for path in (HELM, KUBECTL) if not path.exists())
    print(f"rendered: {len(pairs)} folders of {len(policies)} policies, {wrong} wrong{f'; without {left_out}' if left_out else ''}")
    return wrong + schemas.validate([folder / name / target for name, target in pairs if target not in CHARTS])
