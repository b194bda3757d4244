"""The Grafana dashboards: they keep Grafana's published types, every metric and label in their queries
exists, and every query runs in a real Prometheus that scrapes a gate with the demo's policy and
traffic.
"""

import http.client
import json
import math
import subprocess
import sys
import time

import jsonschema
import metrics
import relabel
from processes import TOP, Gate, free_ports, wait
from prometheus import Prometheus

FOLDER = TOP / "monitoring/grafana"
DEMO = TOP / "examples/policies/digits"
KEYS = {file.stem: file.read_text().strip() for file in (DEMO / "keys").glob("*.key")}
DIGIT = (TOP / "examples/requests/digit.http").read_bytes().split(b"\r\n\r\n", 1)[1]
PNG = (TOP / "examples/images/digit-7-3.png").read_bytes()
JSON = "application/json"
# What Grafana puts in place of its variables for all models and kinds of clients.
VARIABLES = {"$__rate_interval": "1m", "$model": ".*", "$credential": ".*"}
# The requests of a round: key, path, content type and body.
ROUND = [
    ("scorer", "/v2/models/digits/infer", JSON, DIGIT),
    ("scorer", "/v2/models/digits/infer", JSON, DIGIT.replace(b"15", b"99")),
    ("scorer", "/v2/models/digits-png/infer", "image/png", PNG),
    ("scorer", "/v2/models/digits-png/infer", "image/png", PNG[:100]),
    ("scorer", "/v2/models/digits-loop/infer", JSON, DIGIT),
    ("scorer", "/v2/repository/models/digits/load", JSON, b"{}"),
    ("stranger", "/v2/models/digits/infer", JSON, DIGIT),
    ("burst", "/v2/models/digits/infer", JSON, DIGIT),
    ("", "/v2/models/digits/infer", JSON, DIGIT),
]
# A rate of `trickle` ends after five.
ROUNDS, PAUSE_S = 8, 1
# Parts of queries that have no data with this traffic, and why.
NO_DATA = {
    "tensorgate_host_model_verified": "no model of the policy has an artifact",
    "tensorgate_host_model_rejections_total": "no model of the policy has an artifact",
    "tensorgate_key_sets": "the policy has no issuer",
    "tensorgate_host_handler_asks_total": "no handler fetches or looks up",
    "tensorgate_host_handler_ask_seconds": "no handler fetches or looks up",
    "tensorgate_host_ignored_total": "no request has a name that the policy ignores",
    "tensorgate_host_escaped_total": "there is no language model",
    "tensorgate_host_copies_total": "no version is in shadow",
    "tensorgate_host_shadowed_total": "no grant is in shadow mode",
    "tensorgate_audit_export_lag": "the audit log has no exporter",
    "tensorgate_spans_dropped_total": "the policy has no traces",
    "tensorgate_tokens_total": "there is no language model",
    "tensorgate_limits_settlements_total": "no limit is shared",
    'verdict="aborted"': "no client leaves before its answer",
}
# Parts of queries that have data only if this machine is too slow for the traffic.
OVERLOAD = ["tensorgate_host_handler_shed_total", "tensorgate_host_overloaded_total"]


def read():
    """The dashboards by the names of their files."""
    return {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def queries():
    """All queries of panels: where each is, and its expression."""
    for name, dashboard in read().items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield f"{name}: {panel['title']}", target["expr"]


def faults_of_types(schema):
    """What differs from a JSON schema of Grafana's dashboards."""
    schema = json.loads(schema.read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    broken = {"panels": [], "refresh": 5}
    if not any(validator.iter_errors(broken)):
        return ["dashboards: the schema accepts a number in place of an interval"]
    dashboards = read()
    errors = [(name, error) for name, dashboard in dashboards.items() for error in validator.iter_errors(dashboard)]
    print(f"dashboards: {len(dashboards)} checked with Grafana's types, {len(errors)} faults", flush=True)
    return [f"{name}: {error.json_path}: {error.message}" for name, error in errors]


def faults_of_names():
    """Metrics, labels and reasons in queries that exist nowhere, and files that are not up to date."""
    ran = subprocess.run([sys.executable, TOP / "tools/dashboards.py", "--check"], capture_output=True, text=True)
    faults = [ran.stderr.strip()] if ran.returncode else []
    host = metrics.in_reference()
    envoy = {name: dict.fromkeys(labels) for name, labels in relabel.COUNTERS.items()}
    expressions = list(queries())
    for name, dashboard in read().items():
        variables = [one for one in dashboard["templating"]["list"] if one["type"] == "query"]
        expressions += [(f"{name}: variable {one['name']}", one["query"]["query"]) for one in variables]
    for where, expression in expressions:
        faults += [f"{where}: {fault}" for fault in metrics.faults_of_rule(expression, {}, host, envoy)]
    print(f"dashboards: {len(expressions)} queries, {len(faults)} faults of names", flush=True)
    return faults


def send(address, key, path, content_type, body):
    """Sends a request, and reads its answer."""
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        headers = {"content-type": content_type} | ({"x-api-key": KEYS[key]} if key else {})
        connection.request("POST", path, body, headers)
        connection.getresponse().read()
    finally:
        connection.close()


def filled(expression):
    """A query with values for its variables."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


def faults_of_data(prometheus):
    """Queries that Prometheus refuses, or that have no data without a reason, and reasons that do
    not apply.
    """
    faults, needless = [], set(NO_DATA)
    for where, expression in queries():
        try:
            has_data = any(math.isfinite(value) for value in prometheus.query(filled(expression)))
        except ValueError as error:
            faults.append(f"{where}: {error}")
            continue
        named = [name for name in NO_DATA if name in expression]
        if not has_data:
            needless -= set(named)
            if not named and not any(name in expression for name in OVERLOAD):
                faults.append(f"{where}: no data: {expression}")
    return faults + [f"{name} has data: remove it from NO_DATA" for name in sorted(needless)]


def faults_of_queries(program, folder):
    """Runs the demo's gate and a Prometheus, sends requests, and runs every query."""
    if not program:
        print("dashboards: their queries are left out, there is no Prometheus", flush=True)
        return []
    folder = folder / "dashboards"
    folder.mkdir()
    (stats,) = free_ports(1)
    gate = Gate(DEMO / "gate.yaml", folder, more=["--stats", f"127.0.0.1:{stats}"])
    prometheus = None
    try:
        wait("the demo's models", gate.all_ready, gate.process)
        prometheus = Prometheus(program, folder, gate.readyz.split("/")[2], f"127.0.0.1:{stats}")
        for _ in range(ROUNDS):
            for request in ROUND:
                send(gate.address, *request)
            # Rates need several scrapes.
            time.sleep(PAUSE_S)
        faults = faults_of_data(prometheus)
    finally:
        if prometheus:
            prometheus.stop()
        gate.stop()
    print(f"dashboards: {len(list(queries()))} queries in Prometheus, {len(faults)} faults", flush=True)
    return faults
