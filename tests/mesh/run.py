"""`make test-mesh`: what we render for meshes is what the control planes take. The validator finds broken
objects; the translator reproduces published configuration; a real Envoy loads what the translator
makes of examples; and rendered folders, which the arguments name, are valid. Exits 0 only if all of it
is as expected.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True

import bootstraps
import examples
import istio
import live
import schemas
import translate

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensorgate"
ENVOY = os.environ.get("ENVOY") or str(CACHE / "envoy/bin/envoy")


def loaded(configuration, folder):
    """What Envoy says against a configuration, or None if it loads it."""
    path = folder / "bootstrap.json"
    path.write_text(json.dumps(configuration))
    environment = {**os.environ, "TENSORGATE_CONTEXT_KEY": "00" * 32}
    done = subprocess.run([ENVOY, "--mode", "validate", "-l", "error", "-c", path], capture_output=True, text=True, env=environment, timeout=60)
    return None if done.returncode == 0 else (done.stdout + done.stderr)[-1500:]


def examples_load(folder):
    """A real Envoy loads the examples of each platform. Returns how many it refuses."""
    wrong = 0
    for platform, rendered, addresses in examples.platforms(folder):
        if platform == "istio-sidecar":
            wrong += live.callers(ENVOY, folder, rendered, addresses)
        made = bootstraps.bootstrap(rendered, platform, {"*": str(examples.module(folder))}, addresses)
        refused = loaded(made, folder)
        filters = [one["name"] for one in examples.managers(made)[0]["httpFilters"]]
        ours = [name for name in filters if "tensorgate" in name]
        if refused or len(ours) != 1:
            wrong += 1
        print(f"{platform}: {refused or 'Envoy loads it'}; our filters in the first listener: {', '.join(ours) or 'none'}")
    return wrong


def istio_cases():
    """Where Istio's translation has traps. Returns how many of them are wrong."""
    plugin = {"match": [{"mode": "SERVER", "ports": [{"number": 8443}]}]}
    merged = {"a": [1], "b": {"c": 1}, "streamIdleTimeout": "0s"}
    istio.merge(merged, {"a": [2], "b": {"d": 2}, "plain": False, "useRemoteAddress": False})
    refused = False
    try:
        istio.patched([examples.filter_of_nothing()], "GATEWAY", [], [])
    except ValueError:
        refused = True
    cases = {
        "a sidecar is a server": istio.matches(plugin, "SIDECAR_INBOUND", 8443),
        "another port does not match": not istio.matches(plugin, "SIDECAR_INBOUND", 9000),
        "a gateway is no server": not istio.matches(plugin, "GATEWAY", 8443),
        "lists are appended, a plain false is nothing": merged == {"a": [1, 2], "b": {"c": 1, "d": 2}, "streamIdleTimeout": "0s", "useRemoteAddress": False},
        "names in maps stay": istio.camel({"typed_per_filter_config": {"a_b": {"c_d": 1}}}) == {"typedPerFilterConfig": {"a_b": {"cD": 1}}},
        "numbers become doubles": istio.struct({"n": 2**53 + 1}) == {"n": 2**53},
        "a patch that applies to nothing is an error": refused,
    }
    for name, right in cases.items():
        if not right:
            print(f"wrong: {name}")
    wrong = list(cases.values()).count(False)
    print(f"istio: {len(cases)} cases, {wrong} wrong")
    return wrong


def main(folders):
    """Runs everything."""
    wrong = schemas.main(["--self-test"]) + translate.published() + istio_cases()
    with tempfile.TemporaryDirectory() as made:
        wrong += examples_load(Path(made))
    if folders:
        wrong += schemas.validate([Path(folder) for folder in folders])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
