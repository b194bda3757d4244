"""Clients that send inferences at a steady rate, and what they got: an answer's status and reason, or
how the connection ended.
"""

import http.client
import json
import threading
import time
from collections import namedtuple

from processes import TOP

KEYS = TOP / "examples/policies/digits/keys"
INFER = "/v2/models/digits/infer"
# What is sent again and again: (method, path, name of the key or a key that is none, value).
INFERENCE = ("POST", INFER, "scorer", 1)
# What stands before the reason in a denial.
REASON = "urn:tensorgate:"
# Longer than any deadline of the gate and the answer to it.
TIMEOUT_S = 10

# One request: when it was sent and done, what came of it, and the id that the gate gave it.
Seen = namedtuple("Seen", "sent done outcome id")


def key(name):
    """The text of a demo key. Other names are keys that no client has."""
    file = KEYS / f"{name}.key"
    return file.read_text().strip() if file.exists() else name


class Rest:
    """A client over HTTP/1.1 with a connection that it keeps."""

    def __init__(self, address, method, path, name, value):
        tensor = {"name": "image", "datatype": "FP32", "shape": [1, 1, 8, 8], "data": [value] * 64}
        fields = {"x-api-key": key(name), "content-type": "application/json"}
        self.request = (method, path, json.dumps({"inputs": [tensor]}), fields)
        self.connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)

    def ask(self):
        """What comes of one request, and its id."""
        try:
            return self.answer()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            # A kept connection that the other side has closed says so in several ways.
            said = {TimeoutError: "no answer", ConnectionRefusedError: "refused"}
            return said.get(type(error), "closed"), None

    def answer(self):
        """The status of an answer, with what the caller reads of a denial."""
        self.connection.request(*self.request)
        with self.connection.getresponse() as answer:
            body, identity = answer.read(), answer.headers["x-request-id"]
            if answer.status == 200:
                return "200", identity
            if answer.status == 503 and not answer.headers["retry-after"]:
                return "503 without retry-after", identity
            try:
                return f"{answer.status} {json.loads(body)['type'].removeprefix(REASON)}", identity
            except (ValueError, KeyError, TypeError):
                return f"{answer.status} {body.decode(errors='replace').strip()}", identity


class Load:
    """Clients that send until they are stopped, `rate` requests a second each. `client` makes one."""

    def __init__(self, client, clients=4, rate=25):
        self.client, self.period = client, 1 / rate
        self.seen, self.lock, self.ends = [], threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.send, daemon=True) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def send(self):
        """One client."""
        client = self.client()
        while not self.ends.wait(self.period):
            sent = time.monotonic()
            outcome, identity = client.ask()
            with self.lock:
                self.seen.append(Seen(sent, time.monotonic(), outcome, identity))

    def during(self, since, until):
        """The requests that were done in a time."""
        with self.lock:
            return [seen for seen in self.seen if since <= seen.done < until]

    def stop(self):
        """Has all clients end."""
        self.ends.set()
        for thread in self.threads:
            thread.join(2 * TIMEOUT_S)
