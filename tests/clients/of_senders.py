"""How plain HTTP clients speak: http.client, requests and curl, with bodies beyond the bound, fields
and queries that are ignored, and offers of other protocols.
"""

import http.client
import json
import subprocess

import numpy as np
import requests
from common import DIGITS, Direct, Part, exact, image, told_by_problem

PATH = "/v2/models/digits/infer"
# The policy allows 2 MiB. The whole is sent before http.client reads.
LARGE = bytes(3 << 20)
TIMES = 5


class Refused(Exception):
    """A response with an error status."""

    def __init__(self, status, body):
        super().__init__(f"{status} {body[:200]}")
        self.status_code, self.body = status, body

    def json(self):
        return json.loads(self.body)


def by_http_client(address, method, path, fields, body=None):
    """One request on a connection of its own. A body of pieces is sent in chunks."""
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request(method, path, body=body, headers=fields)
        answer = connection.getresponse()
        read = answer.read()
    finally:
        connection.close()
    if answer.status >= 400:
        raise Refused(answer.status, read)
    return answer.status


def by_requests(address, path, fields, body):
    """The same by requests."""
    answer = requests.post(f"http://{address}{path}", data=body, headers=fields, timeout=30)
    if not answer.ok:
        raise Refused(answer.status_code, answer.content)
    return answer.status_code


def by_curl(address, path, fields, body, *more):
    """The same by curl."""
    flags = [flag for name, value in fields.items() for flag in ("-H", f"{name}: {value}")]
    command = ["curl", "-sS", "--max-time", "30", *flags, *more, "-w", "\\n%{http_code}", f"http://{address}{path}"]
    if body is not None:
        command += ["--data-binary", "@-"]
    said = subprocess.run(command, input=body, capture_output=True, timeout=60, check=True).stdout
    read, _, status = said.rpartition(b"\n")
    if int(status) >= 400:
        raise Refused(int(status), read)
    return int(status)


def ask(table, places):
    """Runs all calls."""
    table.head("http.client, requests and curl")
    part = Part(table, "senders", 0, told_by_problem)
    gate, key = places.plain, {"x-api-key": places.keys["scorer"]}
    typed = {**key, "content-type": "application/json"}
    pieces = lambda: (LARGE[at : at + 65536] for at in range(0, len(LARGE), 65536))
    for number in range(TIMES):
        part.refused(f"http.client, a body beyond the bound, {number}", "body-too-large", lambda: by_http_client(gate, "POST", PATH, typed, LARGE))
        part.refused(f"http.client, the same in chunks, {number}", "body-too-large", lambda: by_http_client(gate, "POST", PATH, typed, pieces()))
    part.refused("requests, a body beyond the bound", "body-too-large", lambda: by_requests(gate, PATH, typed, LARGE))
    part.refused("requests, the same in chunks", "body-too-large", lambda: by_requests(gate, PATH, typed, pieces()))
    part.refused("curl, a body beyond the bound", "body-too-large", lambda: by_curl(gate, PATH, typed, LARGE))
    part.refused("http.client, a body for a model that is not granted", "not-granted", lambda: by_http_client(gate, "POST", "/v2/models/nothing/infer", typed, bytes(2 << 20)))
    unknown = {**typed, "x-api-key": places.keys["unknown"]}
    part.refused("requests, 14 MB with an unknown key", "unauthenticated", lambda: by_requests(gate, PATH, unknown, bytes(14 << 20)))
    offer = {**key, "connection": "Upgrade", "upgrade": "TLS/1.2"}
    ok = lambda: 200
    for path in ("/v2/models/digits/ready", "/v2/models/digits", "/v2/health/ready", "/v1/models"):
        part.same(f"an offer of TLS on {path}", ok, lambda: by_http_client(gate, "GET", path, offer))
        part.same(f"a query on {path}", ok, lambda: by_http_client(gate, "GET", f"{path}?client_version=1", key))
        ignored = {**key, "content-type": "application/json", "content-encoding": "gzip", "inference-header-content-length": "164", "content-length": "0"}
        part.same(f"fields of a body on {path}", ok, lambda: by_http_client(gate, "GET", path, ignored))
    part.same("HEAD of readiness without a key", ok, lambda: by_http_client(gate, "HEAD", "/v2/health/ready", {}))
    part.refused("a websocket", "ambiguous-request", lambda: by_http_client(gate, "GET", "/v2", {**offer, "upgrade": "websocket"}), "upgrade")
    part.refused("curl -d without a type", "unsupported-media-type", lambda: by_curl(gate, PATH, key, b"{}"), "application/json")
    part.refused("a query on an inference", "not-an-inference-route", lambda: by_http_client(gate, "POST", f"{PATH}?trace=1", typed, b"{}"), '"trace"')
    part.refused("HTTP/1.0", "http-version", lambda: by_curl(gate, "/v2", key, None, "--http1.0"), "proxy_http_version 1.1")
    rows = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [3, 1, 8, 8], "data": image().ravel().tolist()}]}

    def infer():
        """A session that goes on after a rejection: the connection is kept."""
        with requests.Session() as session:
            session.post(f"http://{gate}{PATH}", data=LARGE, headers=typed, timeout=30)
            (output,) = session.post(f"http://{gate}{PATH}", json=rows, headers=key, timeout=30).json()["outputs"]
        return {"probabilities": exact(np.array(output["data"], np.float32).reshape(output["shape"]))}

    # curl waits for the interim response before it sends its body.
    waits, spaced = {"expect": "100-continue"}, json.dumps(rows).encode().ljust(640 << 10)
    part.same("curl, a body after 100-continue", ok, lambda: by_curl(gate, PATH, {**typed, **waits}, spaced))
    part.refused("curl, the same with an unknown key", "unauthenticated", lambda: by_curl(gate, PATH, {**unknown, **waits}, spaced))

    part.same("requests, an inference after a rejection", lambda: Direct(places).infer("digits", DIGITS), infer)
