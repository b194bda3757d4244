"""The manifests of the page about verified models: the page links to them and shows lines of them,
Kubernetes takes their pods, and only the container that verifies a model can write where the server
reads it.

KServe publishes no definitions that are kept here. Its objects become the pod that KServe makes of
them, and that pod is checked.
"""

import copy
import re
import textwrap
from pathlib import Path

import manifests
import schemas

TOP = Path(__file__).resolve().parents[2]
FOLDER = TOP / "examples/verified-models"
PAGE = TOP / "docs/how-to/verified-models.md"
# A heading, a link to a manifest, or a block.
PART = re.compile(r"^## |examples/verified-models/([a-z-]+\.yaml)\)|^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# The deepest indentation of lines that the page shows without it.
MAX_INDENTATION = 12
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
# Where KServe mounts an empty folder, for its storage initializer to fill.
KSERVE_VOLUME, KSERVE_PATH = "kserve-provision-location", "/mnt/models"


def is_part(block, text):
    """Whether the lines of a block are lines of a text, there with more indentation or the same."""
    return any(textwrap.indent(block, " " * width) in text for width in range(MAX_INDENTATION + 1))


def shown(files):
    """The files that the page does not link to, and the blocks below a link that are not lines of its file."""
    faults, linked, name = [], set(), None
    for part in PART.finditer(PAGE.read_text()):
        link, block = part.groups()
        if block is None:
            name = link
            linked.add(link)
        elif name and not (name in files and is_part(block, files[name].read_text())):
            faults.append(f"{name}: {PAGE.name} shows other lines: {block[:60]!r}")
    return faults + [f"{name}: {PAGE.name} does not link to it" for name in files if name not in linked]


def kserve_pod(storage, service):
    """The pod that KServe makes of a storage container and an inference service."""
    predictor = service["spec"]["predictor"]
    initializer = copy.deepcopy(storage["spec"]["container"])
    initializer["args"] = [predictor["model"]["storageUri"], KSERVE_PATH]
    initializer["volumeMounts"].append({"name": KSERVE_VOLUME, "mountPath": KSERVE_PATH})
    server = {
        "name": "kserve-container",
        "image": "example.com/runtime@sha256:" + "5" * 64,
        "args": predictor["model"]["args"],
        "volumeMounts": [{"name": KSERVE_VOLUME, "mountPath": KSERVE_PATH, "readOnly": True}],
    }
    volumes = [*predictor["volumes"], {"name": KSERVE_VOLUME, "emptyDir": {}}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": service["metadata"]["name"], "namespace": service["metadata"]["namespace"]},
        "spec": {"initContainers": [initializer], "containers": [server], "volumes": volumes},
    }


def pod_faults(spec):
    """What is wrong with a pod that verifies its model first."""
    faults = []
    verifier, server = spec["initContainers"][0], spec["containers"][0]
    command = [*verifier.get("command", []), *verifier["args"]]
    if "serve-verified" not in command:
        faults.append("the first container does not verify the model")
    if not any(word.startswith(("--key=", "--certificate-chain=")) for word in command):
        faults.append("no signer is named")
    volumes = {volume["name"] for volume in spec["volumes"]}
    writable = set()
    for container in (verifier, server):
        if not DIGEST.search(container["image"]):
            faults.append(f"{container['name']}: the image has no digest")
        for mount in container["volumeMounts"]:
            if mount["name"] not in volumes:
                faults.append(f"{container['name']}: there is no volume {mount['name']}")
            if not mount.get("readOnly"):
                writable.add((container["name"], mount["name"]))
    target = server["volumeMounts"][0]["name"]
    if writable != {(verifier["name"], target)}:
        faults.append(f"writable are {sorted(writable)}, expected only {target} for {verifier['name']}")
    return faults


def object_faults(documents):
    """What is wrong with the objects of one file."""
    kinds = {document["kind"]: document for document in documents}
    if set(kinds) == {"ClusterStorageContainer", "InferenceService"}:
        pod = kserve_pod(kinds["ClusterStorageContainer"], kinds["InferenceService"])
        return schemas.builtin(pod) + pod_faults(pod["spec"])
    if set(kinds) != {"Deployment"}:
        return [f"unexpected objects: {sorted(kinds)}"]
    deployment = kinds["Deployment"]
    return schemas.builtin(deployment) + pod_faults(deployment["spec"]["template"]["spec"])


def self_test(documents):
    """The faults that are not found in copies of a deployment with one fault each."""
    def mount(pod):
        del pod["containers"][0]["volumeMounts"][0]["readOnly"]

    def field(pod):
        pod["containers"][0]["comand"] = []

    def image(pod):
        pod["containers"][0]["image"] = "example.com/server:latest"

    def signer(pod):
        pod["initContainers"][0]["args"] = [word for word in pod["initContainers"][0]["args"] if "--key" not in word]

    missed = []
    for change in (mount, field, image, signer):
        broken = copy.deepcopy(documents)
        change(broken[0]["spec"]["template"]["spec"])
        if not object_faults(broken):
            missed.append(f"self-test: no fault is found after the change of the {change.__name__}")
    return missed


def check():
    """Checks the page and its manifests. Returns how many faults there are."""
    files = {path.name: path for path in sorted(FOLDER.glob("*.yaml"))}
    objects = {name: list(manifests.documents(path.read_text())) for name, path in files.items()}
    faults = shown(files) + self_test(objects["triton.yaml"])
    for name, documents in objects.items():
        faults += [f"{name}: {fault}" for fault in object_faults(documents)]
    for fault in faults:
        print(f"verified models: {fault}")
    print(f"verified models: {len(files)} manifests, {len(faults)} faults")
    return len(faults)
