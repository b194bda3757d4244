"""Requests of every kind through a gate, and what the host's page counts of them: each once,
whether the filter, Envoy or the host decided it.
"""

import http.client
import json

import metrics
from processes import TOP, wait

KEY = (TOP / "examples/policies/digits/keys/scorer.key").read_text().strip()
WITH_KEY = {"x-api-key": KEY, "content-type": "application/json"}
INFER = "/v2/models/scores/infer"
NAME = "tensorgate_decisions_total"
# Envoy's access log arrives within a fraction of a second.
ARRIVES_S = 20


def inference(value):
    """A request's body with one value eight times."""
    return json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [8], "data": [value] * 8}]})


# The model of requests that a filter or a host decides after it is granted.
MODEL = "scores"
# Who decides it, how, why and for which model, with the request: method, path, header fields, body.
CASES = {
    ("gate", "deny", "unauthenticated", ""): ("POST", INFER, {}, inference(1)),
    ("gate", "deny", "not-an-inference-route", ""): ("POST", "/v2/repository/index", WITH_KEY, "{}"),
    ("gate", "deny", "out-of-range", MODEL): ("POST", INFER, WITH_KEY, inference(11)),
    ("envoy", "deny", "header-too-large", ""): ("POST", INFER, {"x-large": "x" * 100_000}, ""),
    ("host", "deny", "backend-unavailable", MODEL): ("POST", INFER, WITH_KEY, inference(1)),
    ("host", "allow", "ok", ""): ("GET", "/v2/health/live", WITH_KEY, None),
}


def send(address, method, path, headers, body):
    """Sends a request, and reads its response. Returns its status, or None without one."""
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except ConnectionError:
        # Envoy closes the connection before it has read a head that is too large.
        return None
    finally:
        connection.close()


def counted(page):
    """The requests on a page, by what the labels say."""
    samples = [(labels, float(value)) for name, labels, value in metrics.values(page) if name == NAME]
    return {(labels["by"], labels["verdict"], labels["reason"], labels["model"]): value for labels, value in samples}


def faults_of(gate, read_page):
    """Sends each case another number of times. Returns what the page does not count as sent."""
    before = counted(read_page())
    expected = dict(before)
    for times, (outcome, request) in enumerate(CASES.items(), 1):
        if outcome not in before and not outcome[3]:
            return [f"{NAME} has no series {outcome} before its first request"]
        for _ in range(times):
            send(gate.address, *request)
        expected[outcome] = expected.get(outcome, 0) + times
    try:
        wait("the counts", lambda: counted(read_page()) == expected, gate.process, ARRIVES_S)
    except RuntimeError:
        found = counted(read_page())
        wrong = [outcome for outcome in found | expected if found.get(outcome) != expected.get(outcome)]
        return [f"{NAME}{outcome} is {found.get(outcome)}; expected {expected.get(outcome)}" for outcome in wrong]
    return []
