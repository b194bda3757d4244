"""The demo's traffic through a gate: good requests of several clients, and hostile ones with markup
and marks of direction in what a client chooses.
"""

import http.client
import json

from processes import TOP

KEYS = TOP / "examples/policies/digits/keys"
REQUESTS = TOP / "examples/requests"
INFER = "/v2/models/digits/infer"
# What a page must show as text.
HOSTILE = "\"><script>document.title='x'</script>\u202e"
# Enough for tables and plots to have rows.
ROUNDS = 8


def key(client):
    """The demo's key of a client."""
    return (KEYS / f"{client}.key").read_text().strip()


def send(address, method, path, headers, body):
    """The status of a request, or None if the connection was closed."""
    connection = http.client.HTTPConnection(address, timeout=20)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except ConnectionError:
        return None
    finally:
        connection.close()


def file(address, name):
    """Sends a request of a file, head and body as they are."""
    head, body = (REQUESTS / name).read_bytes().split(b"\r\n\r\n", 1)
    lines = head.decode().splitlines()
    method, path, _ = lines[0].split(" ")
    fields = dict(line.split(": ", 1) for line in lines[1:])
    fields = {field: value for field, value in fields.items() if field.lower() not in ("host", "content-length")}
    return send(address, method, path, fields, body)


def digit(address, client):
    """A good request."""
    image = {"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": [0] * 64}
    headers = {"x-api-key": key(client), "content-type": "application/json"}
    return send(address, "POST", INFER, headers, json.dumps({"inputs": [image]}))


def hostile_name(address):
    """A tensor whose name is markup."""
    tensor = {"name": HOSTILE, "datatype": "FP32", "shape": [1], "data": [1]}
    headers = {"x-api-key": key("scorer"), "content-type": "application/json"}
    return send(address, "POST", INFER, headers, json.dumps({"inputs": [tensor]}))


def run(address):
    """Sends all of it. Returns what was answered otherwise than expected."""
    expected = {"digit.http": 200, "out-of-range.http": 400, "wrong-rank.http": 400, "wrong-datatype.http": 400}
    wrong = []
    for _ in range(ROUNDS):
        found = {name: file(address, name) for name in expected}
        wrong += [f"{name}: {found[name]}" for name in expected if found[name] != expected[name]]
        wrong += [f"a hostile name: {status}" for status in [hostile_name(address)] if status != 400]
        send(address, "POST", INFER, {"x-api-key": "tg_" + "0" * 32}, "{}")
        file(address, "repository-load.http")
    return wrong
