"""Translates manifests into Envoy's configuration, as the control planes do: `translate.py --published`
compares with outputs that Envoy Gateway publishes (a folder beside the repository; TENSORGATE_XDS
names another), and `bootstrap()` makes one static configuration of a rendered folder. See
envoy_gateway.py and istio.py for what is followed. Without the published outputs, it says what it
skips and succeeds, except in CI.
"""

import difflib
import json
import os
import sys
from pathlib import Path

sys.dont_write_bytecode = True

import envoy_gateway
import yaml

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
PUBLISHED = Path(os.environ.get("TENSORGATE_XDS") or TOP.parent / "shared/xds")
OUTPUTS = "envoy-gateway-wasm.listeners.yaml", "envoy-gateway-wasm.routes.yaml"


def published():
    """Compares with the published outputs. Returns how many of them differ."""
    if not PUBLISHED.is_dir():
        if os.environ.get("CI"):
            sys.exit(f"translate: {PUBLISHED} is missing; set TENSORGATE_XDS")
        print(f"skipped: {PUBLISHED} is missing (set TENSORGATE_XDS), so these were not compared: {', '.join(OUTPUTS)}")
        return 0
    given = yaml.safe_load((HERE / "data/envoy-gateway/wasm.yaml").read_text())
    made = [envoy_gateway.listener(one) for one in given["http"]], [envoy_gateway.routes(one) for one in given["http"]]
    wrong = 0
    for name, translated in zip(OUTPUTS, made):
        expected = yaml.safe_load((PUBLISHED / name).read_text())
        if translated != expected:
            wrong += 1
            shown = [json.dumps(value, indent=1, sort_keys=True).splitlines() for value in (expected, translated)]
            print(*difflib.unified_diff(*shown, name, "translated", lineterm=""), sep="\n")
    print(f"{len(OUTPUTS)} published outputs, {wrong} differ")
    return wrong


def main(arguments):
    """Compares with what is published, or prints a bootstrap."""
    if arguments == ["--published"]:
        return 1 if published() else 0
    if len(arguments) == 4:
        import bootstraps

        folder, platform, modules, addresses = arguments
        made = bootstraps.bootstrap(Path(folder), platform, json.loads(modules), json.loads(addresses))
        print(json.dumps(made, indent=1))
        return 0
    sys.exit("usage: translate.py --published | translate.py FOLDER PLATFORM MODULES ADDRESSES")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
