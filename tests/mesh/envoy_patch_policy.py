"""What Envoy Gateway makes of an EnvoyPatchPolicy: JSON patches of listeners, and further clusters. It
follows these files of envoyproxy/gateway, as far as rendered manifests need them:
internal/xds/translator/jsonpatch.go at 0111454b39effffa09f18c415bd499ff0b1c618f, and
internal/utils/jsonpatch/{patch,jsonpathtopointer}.go at 23cea5a6206ddeb34e28769a61a0b2cc6cdb9a32. A
patch that applies to nothing is an error, because Envoy Gateway would report it in a status only.
"""

import copy
import re

import istio

TYPES = {f"type.googleapis.com/envoy.config.{name}": name.split(".")[0] for name in ("listener.v3.Listener", "cluster.v3.Cluster")}
# The entries with a name in every list of this member, and what follows below them.
SELECTION = re.compile(r"\.\.(\w+)\[\?\(@\.name=='([^']+)'\)\]((?:\.\w+)*)")


def patched(documents, gateway, listeners, clusters):
    """Applies the policies of a Gateway to listeners and clusters, which it changes."""
    for document in documents:
        spec = document["spec"]
        if spec["targetRef"]["kind"] != "Gateway" or spec["targetRef"]["name"] != gateway or spec["type"] != "JSONPatch":
            raise ValueError(f"EnvoyPatchPolicy {document['metadata']['name']}: only JSON patches of the Gateway {gateway} are translated here")
        for number, patch in enumerate(spec["jsonPatches"]):
            try:
                _apply(TYPES[patch["type"]], patch["name"], patch["operation"], listeners, clusters)
            except (KeyError, ValueError) as error:
                raise ValueError(f"EnvoyPatchPolicy {document['metadata']['name']}: patch {number}: {error}") from error


def _apply(kind, name, operation, listeners, clusters):
    if kind == "cluster":
        if operation["op"] != "add" or operation["path"] or operation["value"]["name"] != name:
            raise ValueError("only whole new clusters are translated here")
        clusters.append(istio.camel(operation["value"]))
        return
    (listener,) = [one for one in listeners if one["name"] == name]
    # Patches name fields as protobuf does.
    document = snake(listener)
    found = pointers(document, operation["jsonPath"])
    if not found:
        raise ValueError(f"{operation['jsonPath']} selects nothing")
    for pointer in found:
        _change(document, operation["op"], (*pointer, *operation.get("path", "").split("/")[1:]), operation["value"])
    listener.clear()
    listener.update(istio.camel(document))


def snake(value):
    """Names of fields as protobuf has them. It is the inverse of istio.camel."""
    if isinstance(value, list):
        return [snake(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {}
    for name, member in value.items():
        long = name if name.startswith("@") else re.sub(r"[A-Z]", lambda found: f"_{found.group().lower()}", name)
        made[long] = {key: snake(inner) for key, inner in member.items()} if name in istio.MAPS and isinstance(member, dict) else snake(member)
    return made


def pointers(document, expression):
    """The members of a document that a JSONPath selects, each as the names and numbers on its way."""
    found = SELECTION.fullmatch(expression)
    if not found:
        raise ValueError(f"the JSONPath {expression} is not translated here")
    member, name, rest = found.groups()
    below = rest.split(".")[1:]
    made = []
    for pointer, value in _lists(document):
        if pointer[-1] == member:
            made += [(*pointer, number, *below) for number, one in enumerate(value) if isinstance(one, dict) and one.get("name") == name]
    return [pointer for pointer in made if _exists(document, pointer)]


def _lists(value, pointer=()):
    if isinstance(value, list):
        yield pointer, value
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, member in members:
        yield from _lists(member, (*pointer, name))


def _exists(document, pointer):
    try:
        for name in pointer:
            document = document[name]
    except (KeyError, IndexError, TypeError):
        return False
    return True


def _change(document, operation, pointer, value):
    *way, last = pointer
    for name in way:
        # Missing parents of an added member are made (EnsurePathExistsOnAdd).
        document = document.setdefault(name, {}) if isinstance(document, dict) and operation == "add" else document[name]
    if operation == "add" and isinstance(document, dict) or operation == "replace" and _exists(document, (last,)):
        document[last] = copy.deepcopy(value)
    else:
        raise ValueError(f"{operation} at /{'/'.join(map(str, pointer))} is not translated here")
