"""The readiness of the pod of `render kubernetes`: it is ready only while a request passes a loaded filter
to a host with the filter's key. Until then its clients get an answer in the gate's words, and each
request has one line in the audit log.
"""

import json

import calls
import gates
from processes import wait

PROBE = "/tensorgate/ready"
OTHER_KEY = "6b" * 31 + "f0"
UNAVAILABLE = "14"


def lines(gate, field, value):
    """The lines of a request in the audit log."""
    return [one for one in gate.decisions() if one.get(field) == value]


def refused(gate, client, what, by, field):
    """A request that is not served: its answers, and its only line. Returns the faults."""
    faults = [f"{what}: Envoy is ready"] if gate.pod.succeeds("envoy", "readinessProbe") else []
    status, headers, body = client.call(calls.MODEL, calls.small(), [calls.JSON, calls.AUTHORIZED])
    request_id = headers.get("x-request-id")
    if (status, calls.problem(body)) != (503, "overloaded") or json.loads(body).get("instance") != request_id:
        return [*faults, f"{what}: {status} {headers} {body[:300]}; expected 503 overloaded with an instance"]
    status, headers, _ = client.call(calls.GRPC, b"", ["content-type: application/grpc", calls.AUTHORIZED], http2=True)
    # Of a loaded filter it is the filter's own, because the message is missing.
    if (status, headers.get("grpc-status")) != (200, UNAVAILABLE) and by == "envoy":
        faults.append(f"{what}: gRPC gets {status} {headers}")
    wait("the audit log", lambda: lines(gate, field, request_id), seconds=10)
    later = headers["x-request-id"]
    wait("the audit log", lambda: lines(gate, field, later), seconds=10)
    found = lines(gate, field, request_id)
    if [(one["by"], one["reason"], one["status"]) for one in found] != [(by, "overloaded", 503)]:
        faults.append(f"{what}: the audit log has {found}")
    return faults


def without_filter(rendered, folder, certificates, model, programs):
    """A pod whose filter cannot be loaded. Returns how much is wrong."""
    gate, faults = gates.Gate("kubernetes", rendered, folder, certificates, model, None), []
    try:
        gate.start(rendered, programs, has_filter=False)
        client = calls.Client(gate.base, gate.options)
        faults += refused(gate, client, "without a filter", "envoy", "client_request_id")
        if gate.pod.succeeds("host", "readinessProbe"):
            faults.append("without a filter: the host is ready")
    except RuntimeError as error:
        faults.append(str(error))
    finally:
        unfinished = gate.stop()
    for fault in faults:
        print(f"readiness: {fault}")
    if faults:
        print(gate.logs())
    return len(faults) + unfinished


def other_key(gate, client):
    """The host of a pod that served gets another context key than its filter, and then the same again.
    Returns the faults.
    """
    gate.pod.wait_ready()
    probed = [one for one in gate.log() if one["type"] == "lost" or one.get("path") == PROBE]
    faults = [f"probes are in the audit log: {one}" for one in probed]
    gate.pod.volumes["context"].put({"context.key": OTHER_KEY + "\n"})
    wait("the other key", lambda: not gate.pod.succeeds("envoy", "readinessProbe"), seconds=10)
    faults += refused(gate, client, "another key", "host", "request_id")
    gate.pod.volumes["context"].put({"context.key": gates.CONTEXT_KEY + "\n"})
    gate.pod.wait_ready()
    return faults
