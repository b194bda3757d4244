"""Compares a chart of `tensorgate render helm` with the objects of `tensorgate render kubernetes`.

    chart.py CHART OBJECTS [--helm PROGRAM] [--no-values]

CHART is the folder of the chart, OBJECTS the folder of the objects, both rendered with the same
options. With its default values the chart must give equal objects. Then other values are tried:
those that the schema must reject, and those that add or remove parts of objects (not with
`--no-values`).
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys

import yaml

DIGEST = "sha256:" + "0" * 64
# What would break out of a quoted scalar, or be evaluated, if a template wrote it as it stands.
HOSTILE = ['a"b', "a\nb: c", "{{ .Release.Name }}", "a: b", "A", "-a", "a_b", "../a", "a b"]
# Values that the schema must reject: name, value.
REJECTED = [
    ("images.host.digest", "latest"),
    ("images.host.digest", DIGEST.upper()),
    ("images.host.digest", DIGEST[:-1]),
    ("images.host.digest", DIGEST + "\n"),
    ("images.host.tag", "latest"),
    ("images.envoy.repository", 'envoy"'),
    ("images.envoy.repository", "envoy/"),
    ("images.envoy.repository", "envoy {{ .Values }}"),
    ("images.other.repository", "envoy"),
    ("replicas", 0),
    ("replicas", 1001),
    ("replicas", "2"),
    ("replicas", 1.5),
    ("clientsFrom", "a" * 64),
    ("images.host.repository", "oci://r.example/host"),
    ("modelServers.labels", {"app": 'a"b'}),
    ("modelServers.labels", {"a b": "c"}),
    ("modelServers.labels", {"app": 1}),
    ("modelServers.labels", ["app"]),
    ("resources.host.limits.memory", "1Gi; rm"),
    ("resources.host.limits.memory", 1),
    ("resources.host.requests", {"hugepages": "1"}),
    ("podPorts.models", []),
    ("podPorts.models", [{}]),
    ("podPorts.models", [{"port": 0}]),
    ("podPorts.models", [{"port": "http"}]),
    ("podPorts.models", [{"port": 8080, "endPort": 9090}]),
    ("podPorts.models", None),
    ("resources.host.requests.cpu", 0),
    ("imagePullSecrets", ["regcred"]),
    ("imagePullSecrets", [{"name": "a b"}]),
    ("nodeSelector", {"disk": 1}),
    ("tolerations", [{"key": "gpu", "effect": "Never"}]),
    ("affinity", {"nodeAfinity": {}}),
    ("affinity", {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 101, "podAffinityTerm": {"topologyKey": "a"}}]}}),
    ("podLabels", {"app.kubernetes.io/name": "other"}),
    ("podAnnotations", {"checksum/envoy": "0"}),
    ("podAnnotations", {"example.com/a": 1}),
    ("handlers", {}),
    ("handlers.claim", "a/b"),
    ("unknown", "x"),
]
NAMES = ["secrets.context", "secrets.files", "clientsFrom", "metricsFrom", "modelServers.namespace"]

# Values for a pod's `spec`.
PODS = {
    "imagePullSecrets": [{"name": "one"}, {"name": "two"}],
    "nodeSelector": {"disk": "nvme"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}],
    "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a/b", "namespaceSelector": {}}]}},
    "priorityClassName": "low",
}


class Strict(yaml.SafeLoader):
    """A loader for which a key that is given twice is an error."""


def mapping(loader, node):
    pairs = loader.construct_pairs(node, deep=True)
    found = dict(pairs)
    if len(found) != len(pairs):
        raise yaml.constructor.ConstructorError(None, None, "a key is given twice", node.start_mark)
    return found


Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)


def documents(text):
    """The objects of a YAML stream by kind, namespace and name."""
    found = {}
    for item in yaml.load_all(text, Loader=Strict):
        if item is not None:
            metadata = item["metadata"]
            key = (item["kind"], metadata["namespace"], metadata["name"])
            if key in found:
                raise SystemExit(f"{key} is there twice")
            found[key] = item
    return found


def nested(name, value):
    """The JSON of values in which only `name` is given."""
    for part in reversed(name.split(".")):
        value = {part: value}
    return json.dumps(value)


class Chart:
    """A chart of a gate in a namespace."""

    def __init__(self, helm, folder, namespace):
        self.helm, self.folder, self.namespace = helm, folder, namespace

    def template(self, values="{}"):
        """Standard output, or None and the cause."""
        command = [self.helm, "template", "release", str(self.folder), "--namespace", self.namespace, "--values", "-"]
        ran = subprocess.run(command, input=values, capture_output=True, text=True, check=False)
        return (ran.stdout, "") if ran.returncode == 0 else (None, ran.stderr)

    def objects(self, values="{}"):
        text, cause = self.template(values)
        if text is None:
            raise SystemExit(f"helm rejects {values}: {cause}")
        return documents(text)


def differences(one, other, path=""):
    """Where two trees differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            yield from differences(one.get(key), other.get(key), f"{path}/{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (first, second) in enumerate(zip(one, other)):
            yield from differences(first, second, f"{path}/{number}")
    elif one != other or type(one) is not type(other):
        yield f"{path}: {str(one)[:200]!r} in the chart, {str(other)[:200]!r} in the objects"


def faults_of_values(chart):
    """Values that are accepted and should not be, or whose effect is missing."""
    defaults = yaml.load((chart.folder / "values.yaml").read_text(), Loader=Strict)
    tried = REJECTED + [(name, text) for name in NAMES for text in HOSTILE]
    for name, value in tried:
        if name == "handlers" and "handlers" not in defaults:
            continue
        # Helm merges maps, so an empty one replaces nothing: take its parts away.
        if value == {}:
            value = {part: None for part in defaults[name]}
        text, cause = chart.template(nested(name, value))
        if text is not None:
            yield f"{name}: {value!r} is accepted"
        elif "schema" not in cause:
            yield f"{name}: {value!r} is rejected, but not by the schema: {cause.strip()[-200:]}"

    def effect(name, value, wanted, what):
        if not wanted(chart.objects(nested(name, value))):
            yield f"{name}: {value!r} {what}"

    def policies(objects):
        return {name: item for (kind, _, name), item in objects.items() if kind == "NetworkPolicy"}

    def gate(objects):
        return next(item for name, item in policies(objects).items() if not name.endswith("-model-servers"))

    def closed(objects):
        return any(name.endswith("-model-servers") for name in policies(objects))

    def peers(objects):
        return [rule.get("from") for rule in gate(objects)["spec"]["ingress"]]

    def deployment(objects):
        return next(item["spec"] for (kind, _, _), item in objects.items() if kind == "Deployment")

    def pod(objects):
        return deployment(objects)["template"]

    def volume(objects):
        volumes = deployment(objects)["template"]["spec"]["volumes"]
        return next((item for item in volumes if item["name"] == "handlers"), None)

    yield from effect("clientsFrom", "", lambda found: peers(found)[0] is None, "does not admit every pod")
    yield from effect("clientsFrom", "web-2", lambda found: "web-2" in str(peers(found)[0]), "admits others")
    closed_ports = lambda found: not any(port in str(gate(found)) for port in ("9902", "9903"))
    yield from effect("metricsFrom", "", closed_ports, "leaves metrics open")
    yield from effect("metricsFrom", "ops-2", lambda found: "ops-2" in str(peers(found)[1]), "admits others")
    no_labels = {name: None for name in defaults["modelServers"]["labels"]}
    yield from effect("modelServers.labels", no_labels, lambda found: not closed(found), "still closes servers")
    at_9100 = lambda found: all("'port': 9100" in str(policy) for policy in policies(found).values())
    yield from effect("podPorts.models", [{"port": 9100}], at_9100, "is not taken")
    labels = {"example.com/tier": "Gpu_1"}
    yield from effect("modelServers.labels", labels, closed, "closes no servers")
    yield from effect("replicas", 7, lambda found: deployment(found)["replicas"] == 7, "is not taken")
    requests = lambda found: [one["resources"]["requests"] for part in ("initContainers", "containers") for one in pod(found)["spec"][part]]
    for cpu in ("250m", 1, 0.5):
        is_taken = lambda found, cpu=cpu: cpu in [one["cpu"] for one in requests(found)]
        yield from effect("resources.envoy", {"requests": {"cpu": cpu}}, is_taken, "is not taken")
    is_taken = lambda found: 2**30 in [one["memory"] for one in requests(found)]
    yield from effect("resources.host", {"requests": {"memory": 2**30}}, is_taken, "is not taken")
    texts = {"example.com/a": '{{ "b" }}: #c\n"'}
    found = pod(chart.objects(json.dumps({**PODS, "podAnnotations": texts})))
    if not texts.items() <= found["metadata"]["annotations"].items():
        yield f"podAnnotations: {texts!r} is not taken"
    for name, value in PODS.items():
        actual = found["spec"][name]
        # Helm merges maps with the defaults.
        if not (value.items() <= actual.items() if isinstance(value, dict) else value == actual):
            yield f"{name}: {value!r} is not taken: {actual!r}"
    # As after `helm upgrade --reuse-values` from a chart without these values.
    found = pod(chart.objects(json.dumps(dict.fromkeys([*PODS, "podLabels", "podAnnotations"]))))
    if found["spec"].keys() & PODS.keys():
        yield f"{sorted(found['spec'])} is set without a value"
    envoy = lambda found: next(one for one in deployment(found)["template"]["spec"]["containers"] if one["name"] == "envoy")
    memory = lambda found: int(envoy(found)["resources"]["limits"]["memory"].removesuffix("Mi"))
    before, large = memory(chart.objects()), {"requests": {"cpu": "63500m"}}
    yield from effect("resources.envoy", large, lambda found: "64" in envoy(found)["args"], "leaves Envoy's workers as they were")
    yield from effect("resources.envoy", large, lambda found: memory(found) > before, "leaves Envoy's memory as it was")
    text, cause = chart.template(nested("resources.envoy.limits.memory", f"{before - 1}Mi"))
    if text is not None or "is less than the" not in cause:
        yield f"resources.envoy.limits.memory: {before - 1}Mi is accepted: {cause.strip()[-200:]}"
    if "handlers" in defaults:
        claim = {"claim": "components.v2"}
        image = {"claim": "", "image": {"repository": "r.example:5000/c", "digest": DIGEST}}
        is_claim = lambda found: volume(found).get("persistentVolumeClaim", {}).get("claimName") == claim["claim"]
        is_image = lambda found: volume(found).get("image", {}).get("reference") == f"r.example:5000/c@{DIGEST}"
        yield from effect("handlers", claim, is_claim, "is not mounted")
        yield from effect("handlers", image, is_image, "is not mounted")


def faults_of_templates(folder):
    """Templates with content of a ConfigMap of their own."""
    for file in sorted((folder / "templates").glob("configmap-*.yaml")):
        _, *data = re.split(r"\n(?:data|binaryData):\n", file.read_text())
        data = "".join(data).splitlines()
        if not data or not all(".Files.Get" in line and line.startswith("  ") for line in data):
            yield f"{file}: the data does not come from files"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("chart", type=pathlib.Path)
    parser.add_argument("objects", type=pathlib.Path)
    parser.add_argument("--helm", default="helm")
    parser.add_argument("--no-values", action="store_true")
    arguments = parser.parse_args()

    files = sorted(arguments.objects.glob("*.yaml"))
    stream = "\n---\n".join(file.read_text() for file in files if file.name != "kustomization.yaml")
    expected = documents(stream)
    namespace = next(namespace for kind, namespace, _ in expected if kind == "Deployment")
    chart = Chart(arguments.helm, arguments.chart, namespace)

    lint = [arguments.helm, "lint", "--strict", "--namespace", namespace, str(arguments.chart)]
    ran = subprocess.run(lint, capture_output=True, text=True, check=False)
    faults = [] if ran.returncode == 0 else [f"helm lint: {ran.stdout}{ran.stderr}"]
    actual = chart.objects()
    faults += [f"{key} is only in the chart" for key in sorted(actual.keys() - expected.keys())]
    faults += [f"{key} is not in the chart" for key in sorted(expected.keys() - actual.keys())]
    for key in sorted(actual.keys() & expected.keys()):
        faults += [f"{key}{fault}" for fault in differences(actual[key], expected[key])]
    faults += faults_of_templates(arguments.chart)
    if not arguments.no_values:
        faults += faults_of_values(chart)
    for fault in faults:
        print(fault, file=sys.stderr)
    if faults:
        raise SystemExit(1)
    print(f"{arguments.chart}: {len(actual)} objects equal those of render kubernetes")


if __name__ == "__main__":
    main()
