"""Requests to a served gate, by curl: what a client sends, what it must get, and the line that each
request must have in the host's audit log.
"""

import json
import struct
import subprocess

MODEL = "/v2/models/scores/infer"
GRPC = "/inference.GRPCInferenceService/ModelInfer"
KEY = "tg_InsffMl7dwwHMITDsh9Xu95PmB637Wn9F"
BURST = "tg_9ehozt4YOSLgSuzlMX31pznAIuf17JegZ"
PIXELS = 64
# 4096 images of 64 pixels of 4 bytes are 1 MiB.
ROWS = 4096


class Client:
    """A caller of a gate. `options` are curl's: certificates and addresses."""

    def __init__(self, base, options):
        self.base, self.options, self.requests = base, options, 0

    def call(self, path, body=None, headers=(), http2=False, method=None):
        """(status, headers, body) of a request."""
        self.requests += 1
        version = "--http1.1" if not http2 else "--http2" if self.base.startswith("https") else "--http2-prior-knowledge"
        command = ["curl", "-sS", "-k", "-i", version, "--max-time", "20", "--path-as-is", *self.options, self.base + path]
        for header in ("expect:", *headers):
            command += ["-H", header]
        if body is not None:
            command += ["--data-binary", "@-"]
        if method:
            command += ["-X", method]
        done = subprocess.run(command, input=body, capture_output=True, check=False, timeout=30)
        if done.returncode != 0:
            return 0, {}, done.stderr
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(first.split()[1]), fields, answer


def infer(shape, data):
    """The body of an inference in JSON."""
    tensor = {"name": "image", "datatype": "FP32", "shape": shape, "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


def small(value=1.5):
    """One image."""
    return infer([1, 1, 8, 8], [value] * PIXELS)


def large_binary():
    """(body, headers) of 1 MiB as binary data."""
    data = struct.pack("<f", 2.5) * (ROWS * PIXELS)
    tensor = {"name": "image", "datatype": "FP32", "shape": [ROWS, 1, 8, 8], "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + data, ["content-type: application/octet-stream", f"inference-header-content-length: {len(head)}"]


def problem(body):
    """The type of the problem in an answer, or nothing."""
    return json.loads(body).get("type", "").removeprefix("urn:tensorgate:") if body[:1] == b"{" else ""


JSON = "content-type: application/json"
AUTHORIZED = f"x-api-key: {KEY}"


def cases():
    """(name, arguments of a call, status, type of the problem, (by, reason) in the audit log)."""
    binary, headers = large_binary()
    ok = 200, None, ("host", "ok")
    return [
        ("no key", {"path": MODEL, "body": small(), "headers": [JSON]}, 401, "unauthenticated", ("gate", "unauthenticated")),
        ("a wrong key", {"path": MODEL, "body": small(), "headers": [JSON, f"x-api-key: {KEY[:-1]}x"]}, 401, "unauthenticated", ("gate", "unauthenticated")),
        ("a wrong shape", {"path": MODEL, "body": infer([1, 1, 8, 7], [1.5] * 56), "headers": [JSON, AUTHORIZED]}, 400, "shape", ("gate", "shape")),
        ("a value out of range", {"path": MODEL, "body": small(17.0), "headers": [JSON, AUTHORIZED]}, 400, "out-of-range", ("gate", "out-of-range")),
        ("a path outside", {"path": "/v2/repository/index", "body": b"{}", "headers": [JSON, AUTHORIZED]}, 404, "not-an-inference-route", ("gate", "not-an-inference-route")),
        ("another model", {"path": "/v2/models/other/infer", "body": small(), "headers": [JSON, AUTHORIZED]}, 403, "not-granted", ("gate", "not-granted")),
        ("one image", {"path": MODEL, "body": small(), "headers": [JSON, AUTHORIZED]}, *ok),
        ("one image over HTTP/2", {"path": MODEL, "body": small(), "headers": [JSON, AUTHORIZED], "http2": True}, *ok),
        ("a wrong shape over HTTP/2", {"path": MODEL, "body": infer([1, 1, 8, 7], [1.5] * 56), "headers": [JSON, AUTHORIZED], "http2": True}, 400, "shape", ("gate", "shape")),
        ("1 MiB of binary data", {"path": MODEL, "body": binary, "headers": [*headers, AUTHORIZED]}, *ok),
        ("1 MiB over HTTP/2", {"path": MODEL, "body": binary, "headers": [*headers, AUTHORIZED], "http2": True}, *ok),
        ("1 MiB of JSON", {"path": MODEL, "body": infer([ROWS, 1, 8, 8], [2.5] * (ROWS * PIXELS)), "headers": [JSON, AUTHORIZED]}, *ok),
    ]


def header_cases():
    """The same for data/shared.yaml: requests with more headers than Envoy accepts by default, 60 KiB and
    100 fields, and with more than the policy accepts.
    """
    ok, refused = (200, None, ("host", "ok")), (431, "header-too-large", ("gate", "header-too-large"))
    made = []
    for name, count, size, expected in (
        ("120 header fields", 120, 10, ok),
        ("62 KiB of headers", 4, 62 * 256, ok),
        ("170 header fields", 170, 10, refused),
        ("70 KiB of headers", 4, 70 * 256, refused),
    ):
        fields = [f"x-wide-{number}: {'a' * size}" for number in range(count)]
        call = {"path": MODEL, "body": small(), "headers": [JSON, AUTHORIZED, *fields]}
        made.append((name, call, *expected))
        # Over HTTP/2, curl reports a response that comes before its request has ended as an error.
        if expected is ok:
            made.append((f"{name} over HTTP/2", {**call, "http2": True}, *expected))
    return made
