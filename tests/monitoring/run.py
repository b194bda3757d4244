#!/usr/bin/env python3
"""`make test-monitoring`: the rules for Prometheus, tested by promtool, and compared with the pages
that a real host and a real Envoy serve; the queries of the dashboards; the export of the audit log
and of traces to a real collector, and OCSF events.

run.py PROMTOOL PROMETHEUS, which may be empty: what they check is left out then. Every rule needs a test that
fires, one that does not, and a section in the how-to page. Every metric and label that a rule names
must exist. Every line of the audit log must arrive. Exits 0 only if all of it is as expected.
"""

import subprocess
import sys
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.append(str(Path(__file__).resolve().parents[1] / "harness"))

import dashboards
import decisions
import metrics
import ocsf
import relabel
import request_trace
import rules
import traces
from collector import Collector
from export import Export
from processes import Gate, begin, fetch, free_ports, wait

HERE = Path(__file__).resolve().parent
# The only page of Envoy's admin interface that Prometheus can read.
PAGE = "/stats/prometheus"
OTHER_PATHS = ["/", "/stats", "/config_dump", f"{PAGE}/", f"/{PAGE}", "/stats/./prometheus", "/stats%2fprometheus",
               f"{PAGE}?filter=.", f"{PAGE}?"]
OTHER_METHODS = ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"]
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


def status(method, url):
    """The status of a request without a body."""
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def envoy_page(gate, url):
    """The page of the gate's Envoy, and the faults of the listener that serves it."""

    def page():
        answer = fetch(url)
        # The issuer does not exist, so its first fetch fails soon.
        return answer[1] if answer and answer[0] == 200 and "tensorgate_key_sets{" in answer[1] else None

    found = wait("Envoy's counters", page, gate.process, 30)
    requests = [("GET", url.replace(PAGE, path)) for path in OTHER_PATHS]
    requests += [(method, url) for method in OTHER_METHODS]
    requests.append(("POST", url.replace(PAGE, "/quitquitquit")))
    answers = [(method, other, status(method, other)) for method, other in requests]
    return found, [f"{method} {other}: {code}, not 404" for method, other, code in answers if code != 404]


def host_page(gate):
    """The page of the gate's host, as `fetch` asks for it. One that is late is asked for again."""
    answer = wait("the host's page", lambda: fetch(host_url(gate)), gate.process)
    return answer[1]


def host_url(gate):
    """The URL of the host's page."""
    return gate.readyz.replace("/readyz", "/metrics")


def faults_of_format(gate):
    """Whether the host serves OpenMetrics to Prometheus."""
    request = urllib.request.Request(host_url(gate), headers={"Accept": ACCEPT})
    with urllib.request.urlopen(request, timeout=10) as answer:
        served = answer.headers["content-type"]
    if served.startswith("application/openmetrics-text"):
        return []
    return [f"Prometheus gets {served} from the host; expected OpenMetrics"]


def run_gate(folder):
    """Sends requests through a gate that exports its audit log to a collector. Returns the page of
    its Envoy, that of its host, and faults.
    """
    (stats,) = free_ports(1)
    with Collector(folder) as collector, request_trace.ModelServer() as server:
        export = Export(collector, folder)
        policy = export.policy(HERE / "gate.yaml", request_trace.set_up(folder, server))
        gate = Gate(policy, folder, more=["--stats", f"127.0.0.1:{stats}"])
        try:
            envoy, faults = envoy_page(gate, f"http://127.0.0.1:{stats}{PAGE}")
            page = partial(host_page, gate)
            send = partial(decisions.faults_of, gate, page)
            faults += send() + traces.faults_of(collector, export.log)
            faults += request_trace.faults_of(gate, page, server, collector, export.log)
            faults += export.faults_of_stop(page, send)
            host = page()
            faults += faults_of_format(gate)
        finally:
            gate.stop()
        return envoy, host, faults + export.faults_of_log()


def main(program, prometheus, schema):
    """Runs everything."""
    alerts, recorded = rules.read()
    faults = dashboards.faults_of_types(Path(schema)) + dashboards.faults_of_names()
    faults += rules.faults_of_tests(alerts) + rules.faults_of_page(alerts)
    faults += promtool(program, "check", "rules", str(rules.RULES))
    faults += promtool(program, "test", "rules", *map(str, rules.TESTS))
    faults += ocsf.faults()
    folder = begin("monitoring")
    faults += promtool(program, "check", "config", str(relabel.scrape_configuration(folder)))
    envoy, host, more = run_gate(folder)
    faults += more
    faults += dashboards.faults_of_queries(prometheus, folder)
    faults += promtool(program, "check", "metrics", page=host)
    known = metrics.in_reference()
    faults += [f"the host serves {name}, which the reference lacks" for name in metrics.on_page(host) if name not in known]
    faults += relabel.faults_of(metrics.samples(envoy))
    # Only the native module can panic.
    series = metrics.on_page(envoy) | {"tensorgate_panics": {}}
    names = {rule["record"]: rule["expr"] for rule in recorded}
    for rule in alerts + recorded:
        name = rule.get("alert") or rule["record"]
        faults += [f"{name}: {fault}" for fault in metrics.faults_of_rule(rule["expr"], names, known, series)]
    for fault in faults:
        print(fault)
    print(f"{len(alerts)} alerts, {len(recorded)} recorded series, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
