"""What Java's HTTP clients write. Apache HttpClient offers TLS by `Upgrade` with GET, HEAD and
OPTIONS, and the JDK's client offers HTTP/2 with its first request. A proxy may ignore an offer (RFC
9110, 7.8). Requests are written by hand.
"""

import json
import socket

from common import image

# Apache HttpClient since 5.4, in Spring Boot since 3.4.
TLS = {"Upgrade": "TLS/1.2", "Connection": "Upgrade"}
JDK = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"}
WEBSOCKET = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
# How long an answer may take, seconds.
ANSWER_S = 30


def sent(address, method, path, fields, body=b""):
    """Sends one request as HTTP/1.1 and returns the status of the answer."""
    host, port = address.split(":")
    length = {"Content-Length": str(len(body)), "Content-Type": "application/json"} if body else {}
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address}", *(f"{name}: {value}" for name, value in {**fields, **length}.items())]
    with socket.create_connection((host, int(port)), ANSWER_S) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        answer = connection.makefile("rb").readline()
    return answer.split()[1].decode() if answer else "closed"


def ask(table, places):
    """Runs all calls: each with an offer and without it."""
    table.head("Java's HTTP clients")
    key = {"x-api-key": places.keys["scorer"], "User-Agent": "Apache-HttpClient/5.5 (Java/21.0.4)"}

    def alike(title, method, path, offer, expected, body=b""):
        """A request has the same answer with an offer and without it."""
        plain = sent(places.plain, method, path, key, body)
        offered = sent(places.plain, method, path, {**key, **offer}, body)
        table.row(f"java: {title}", plain, offered, plain == offered == expected, expected)

    alike("TLS offered with GET, readiness", "GET", "/v2/models/digits/ready", TLS, "200")
    alike("TLS offered with GET, metadata", "GET", "/v2/models/digits", TLS, "200")
    alike("TLS offered with GET, OpenAI's models", "GET", "/v1/models", TLS, "200")
    alike("TLS offered with GET, TF Serving's status", "GET", "/v1/models/digits", TLS, "200")
    alike("TLS offered with OPTIONS", "OPTIONS", "/v2/models/digits", TLS, "405")
    infer = json.dumps({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": image(1).ravel().tolist()}]}).encode()
    alike("HTTP/2 offered with an inference", "POST", "/v2/models/digits/infer", JDK, "200", infer)
    # Another protocol than HTTP stays refused.
    status = sent(places.plain, "GET", "/v2/models/digits", {**key, **WEBSOCKET})
    table.row("java: a websocket", "-", status, status in ("400", "403"), "400 or 403")
