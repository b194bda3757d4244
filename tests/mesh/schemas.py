"""Validates every object of rendered folders: `schemas.py FOLDER...`. Custom resources against the
definitions that their projects publish, in a folder beside the repository (TENSORGATE_CRDS names
another), everything else against Kubernetes' own schemas, unknown fields excluded in both.
`schemas.py --self-test` shows that it finds faults. Without the definitions, it says what it skips
and succeeds, except in CI.
"""

import os
import sys
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True

import crds
import kubernetes_validate
import manifests

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
DEFINITIONS = Path(os.environ.get("TENSORGATE_CRDS") or TOP.parent / "shared/crds")
# Parts of definitions that the folder lacks.
OWN = HERE / "data/definitions"
# The oldest and the newest Kubernetes whose schemas rendered objects must fit.
VERSIONS = "1.32", "1.37"
KUSTOMIZE = "kustomize.config.k8s.io/v1beta1"


def builtin(document):
    """The faults of an object of Kubernetes itself."""
    faults = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            at = ".".join(map(str, error.path)) or "the object"
            faults.append(f"{at}: {error.message[:300]} (Kubernetes {version})")
        except kubernetes_validate.SchemaNotFoundError:
            faults.append(f"the object: Kubernetes {version} has no {document['kind']} in {document['apiVersion']}")
    faults += crds.metadata(document)
    return list(dict.fromkeys(faults))


def is_builtin(api):
    """Whether an API group is one of Kubernetes' own: without a domain, or one under k8s.io that is no
    separate project's.
    """
    group = api.rpartition("/")[0]
    return "." not in group or group.endswith(".k8s.io") and not group.endswith(("gateway.networking.k8s.io", ".x-k8s.io", "inference.networking.k8s.io"))


class Validator:
    """Validates objects one by one, counting what it did."""

    def __init__(self, definitions):
        self.definitions = definitions
        self.kinds = Counter()
        self.rules = 0

    def faults(self, document):
        """What is wrong with an object, as a list of sentences."""
        if not isinstance(document, dict) or not isinstance(document.get("apiVersion"), str) or not isinstance(document.get("kind"), str):
            return ["the object: has no apiVersion or no kind"]
        api, kind = document["apiVersion"], document["kind"]
        if api == KUSTOMIZE:
            return []  # no object of a cluster; `kubectl kustomize` reads it
        self.kinds[kind] += 1
        if (api, kind) in self.definitions:
            faults, rules = crds.check(self.definitions[api, kind], document)
            self.rules += rules
            return faults
        if is_builtin(api):
            return builtin(document)
        return [f"the object: there is no definition of {kind} in {api}"]


def definitions():
    """The published definitions, or None if there are none and that is no error."""
    if DEFINITIONS.is_dir():
        return crds.load(DEFINITIONS) | crds.load(OWN)
    if os.environ.get("CI"):
        sys.exit(f"schemas: {DEFINITIONS} is missing; set TENSORGATE_CRDS")
    return None


def skipped(what):
    """Says what is not checked without the definitions."""
    print(f"skipped: {DEFINITIONS} is missing (set TENSORGATE_CRDS), so these were not checked:")
    for line in what:
        print(f"  {line}")


def validate(paths):
    """Validates all objects in folders and files. Returns how many of them have faults."""
    known = definitions()
    validator = Validator(known or {})
    wrong = 0
    unchecked = []
    for where, document in manifests.read(paths):
        if known is None and isinstance(document, dict) and not is_builtin(str(document.get("apiVersion"))) and document.get("apiVersion") != KUSTOMIZE:
            unchecked.append(f"{where} {document.get('kind')}")
            continue
        faults = validator.faults(document)
        wrong += bool(faults)
        for fault in faults:
            kind = document.get("kind") if isinstance(document, dict) else None
            print(f"{where} {kind}: {fault}")
    if unchecked:
        skipped(unchecked)
    total = validator.kinds.total()
    print(f"{total} objects of {len(validator.kinds)} kinds, {validator.rules} rules in CEL, {wrong} objects with faults")
    if not total and not unchecked:
        sys.exit(f"schemas: no objects in {' '.join(map(str, paths))}")
    return wrong


def main(arguments):
    """Runs the self-test or validates what the arguments name."""
    if arguments == ["--self-test"]:
        import broken

        known = definitions()
        if known is None:
            skipped([name for name, _, _ in broken.objects()])
            return 0
        return broken.test(Validator(known))
    if not arguments or any(argument.startswith("-") for argument in arguments):
        sys.exit("usage: schemas.py FOLDER... | schemas.py --self-test")
    return 1 if validate([Path(argument) for argument in arguments]) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
