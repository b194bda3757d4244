"""`make test-mesh`: what we render for meshes is what the control planes take. The validator finds broken
objects; the translator reproduces published configuration; a real Envoy loads what the translator
makes of examples; what the real command renders is valid, and a real host and a real Envoy serve it;
releases that do not understand each other say so, and an upgrade loses no request; the manifests of
verified models are valid; Grafana's dashboards fit its schema; and rendered folders, which the arguments name, are valid.
Exits 0 only if all of it is as expected.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.append(str(Path(__file__).resolve().parent.parent / "harness"))

import big_node
import bootstraps
import cases
import dashboards
import examples
import live
import rendered
import schemas
import served
import translate
import upgrade
import verified_models

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensorgate"
ENVOY = os.environ.get("ENVOY") or str(CACHE / "envoy/bin/envoy")


def loaded(configuration, folder):
    """What Envoy says against a configuration, or None if it loads it."""
    path = folder / "bootstrap.json"
    path.write_text(json.dumps(configuration))
    environment = {**os.environ, "TENSORGATE_CONTEXT_KEY": "00" * 31 + "f0"}
    done = subprocess.run([ENVOY, "--mode", "validate", "-l", "error", "-c", path], capture_output=True, text=True, env=environment, timeout=60)
    return None if done.returncode == 0 else (done.stdout + done.stderr)[-1500:]


def examples_load(folder):
    """A real Envoy loads the examples of each platform. Returns how many it refuses."""
    wrong = 0
    for platform, rendered, addresses in examples.platforms(folder):
        if platform == "istio-sidecar":
            wrong += live.callers(ENVOY, folder, rendered, addresses)
        made = bootstraps.bootstrap(rendered, platform, {"*": str(examples.module(folder))}, addresses)
        if platform == "gateway":
            wrong += cases.gateway_cases(made)
        refused = loaded(made, folder)
        filters = [one["name"] for one in examples.managers(made)[0]["httpFilters"]]
        ours = [name for name in filters if "tensorgate" in name]
        if refused or len(ours) != 1:
            wrong += 1
        print(f"{platform}: {refused or 'Envoy loads it'}; our filters in the first listener: {', '.join(ours) or 'none'}")
    return wrong


def main(folders):
    """Runs everything."""
    wrong = schemas.main(["--self-test"]) + translate.published() + cases.istio_cases() + cases.yaml_cases() + verified_models.check() + dashboards.check()
    with tempfile.TemporaryDirectory() as made:
        wrong += examples_load(Path(made))
    # Sockets lie in it, whose paths may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="tg-", dir="/tmp") as made:
        folder = Path(made)
        wrong += rendered.check(folder)
        wrong += served.check(folder, ENVOY)
        wrong += upgrade.check(folder / "u", ENVOY)
        wrong += big_node.check(folder, ENVOY)
    if folders:
        wrong += schemas.validate([Path(folder) for folder in folders])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
