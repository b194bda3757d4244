#!/usr/bin/env python3
"""`make test-monitoring`: the rules for Prometheus, tested by promtool, and compared with the pages
that a real host and a real Envoy serve.

run.py PROMTOOL, which may be empty: what it checks is left out then. Every rule needs a test that
fires, one that does not, and a section in the how-to page. Every metric and label that a rule names
must exist. Exits 0 only if all of it is as expected.
"""

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.append(str(Path(__file__).resolve().parents[1] / "harness"))

import decisions
import metrics
import relabel
import rules
import yaml
from processes import Gate, Process, begin, fetch, free_ports, wait

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensorgate"
ENVOY = os.environ.get("ENVOY") or str(CACHE / "envoy/bin/envoy")
# What Prometheus sends.
ACCEPT = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"


def promtool(program, *arguments, page=None):
    """Runs promtool. Returns what it says if it finds a fault."""
    if not program:
        print(f"promtool {arguments[0]} {arguments[1]}: left out, there is no promtool", flush=True)
        return []
    done = subprocess.run([program, *arguments], input=page, capture_output=True, text=True)
    print(f"promtool {arguments[0]} {arguments[1]}: {'ok' if done.returncode == 0 else 'WRONG'}", flush=True)
    return [] if done.returncode == 0 else [f"promtool {arguments[0]} {arguments[1]}:\n{done.stdout}{done.stderr}"]


def envoy_page(gate, folder):
    """The page of the gate's Envoy, through the Envoy that lets Prometheus read it."""
    state = yaml.safe_load((folder / gate.name / "envoy.yaml").read_text())
    (port,) = free_ports(1)
    shipped = (rules.FOLDER / "envoy-stats.yaml").read_text()
    configuration = shipped.replace("/run/tensorgate/envoy-admin.sock", state["admin"]["address"]["pipe"]["path"])
    configuration = configuration.replace("port_value: 9901", f"port_value: {port}")
    path = folder / "envoy-stats.yaml"
    path.write_text(configuration)
    process = Process("stats", [ENVOY, "--use-dynamic-base-id", "-l", "error", "-c", path], folder / "stats.log")
    url = f"http://127.0.0.1:{port}/stats/prometheus"

    def page():
        answer = fetch(url)
        # The issuer does not exist, so its first fetch fails soon.
        return answer[1] if answer and answer[0] == 200 and "tensorgate_key_sets{" in answer[1] else None

    try:
        found = wait("Envoy's counters", page, process.process, 30)
        others = [other for other in ("/", "/stats", "/config_dump") if fetch(url.replace("/stats/prometheus", other))[0] != 404]
    finally:
        process.stop()
    return found, [f"Prometheus can read {other} of Envoy's admin interface" for other in others]


def main(program):
    """Runs everything."""
    alerts, recorded = rules.read()
    faults = rules.faults_of_tests(alerts) + rules.faults_of_page(alerts)
    faults += promtool(program, "check", "rules", str(rules.RULES))
    faults += promtool(program, "test", "rules", *map(str, rules.TESTS))
    folder = begin("monitoring")
    faults += promtool(program, "check", "config", str(relabel.scrape_configuration(folder)))
    gate = Gate(HERE / "gate.yaml", folder)
    try:
        envoy, more = envoy_page(gate, folder)
        faults += more
        url = gate.readyz.replace("/readyz", "/metrics")
        faults += decisions.faults_of(gate, lambda: fetch(url)[1])
        _, host = fetch(url)
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": ACCEPT}), timeout=10) as answer:
            if not answer.headers["content-type"].startswith("application/openmetrics-text"):
                faults.append(f"Prometheus gets {answer.headers['content-type']} from the host; expected OpenMetrics")
    finally:
        gate.stop()
    faults += promtool(program, "check", "metrics", page=host)
    known = metrics.in_reference()
    faults += [f"the host serves {name}, which the reference lacks" for name in metrics.on_page(host) if name not in known]
    faults += relabel.faults_of(metrics.samples(envoy))
    series = metrics.on_page(envoy)
    names = {rule["record"] for rule in recorded}
    for rule in alerts + recorded:
        name = rule.get("alert") or rule["record"]
        faults += [f"{name}: {fault}" for fault in metrics.faults_of_rule(rule["expr"], names, known, series)]
    for fault in faults:
        print(fault)
    print(f"{len(alerts)} alerts, {len(recorded)} recorded series, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
