"""The gate as these tests call it: Open Inference Protocol in JSON for models of tensors, chat for
the language model.
"""

import json
import time

from servers import exchange

# What no caller may read in an answer of the gate.
SECRETS = ["secret", "/srv/", "double.py", "traceback", "runtimeerror", "127.0.0.1", "uvicorn", "torch", "llama.cpp"]


class Answer:
    """The result of one request: status, our reason or None, the body's text, and how long it took.
    """

    def __init__(self, status, text, took):
        self.status, self.text, self.took = status, text, took
        self.reason = None
        if status != 200:
            try:
                self.reason = json.loads(text)["type"].removeprefix("urn:tensorgate:")
            except (ValueError, KeyError, TypeError):
                self.reason = "no reason"

    def leaks(self):
        """What a rejection reveals although it must not."""
        return [secret for secret in SECRETS if self.status != 200 and secret in self.text.lower()]

    def __str__(self):
        return f"{self.status} {self.reason or 'served'} in {self.took:.1f} s"


class Gate:
    """One running gate, called with a key or without."""

    def __init__(self, address, key=None):
        self.port = int(address.rsplit(":", 1)[1])
        self.headers = {"x-api-key": key} if key else {}

    def raw(self, method, path, body=b""):
        """A request to exactly this path: status, text."""
        headers = {**self.headers, "content-type": "application/json"}
        status, text = exchange(self.port, method, path, body, headers)
        return status, text.decode(errors="replace")

    def infer(self, model, rows, names=("x",)):
        """Twice the rows, or a rejection."""
        flat = [each for row in rows for each in row]
        asked = {"inputs": [{"name": name, "datatype": "FP32", "shape": [len(rows), 2], "data": flat} for name in names]}
        return self.post(f"/v2/models/{model}/infer", asked)

    def chat(self, text, tokens, **more):
        """An answer of the language model, or a rejection."""
        return self.post("/v1/chat/completions", chat("llama", text, tokens, **more))

    def post(self, path, asked):
        """Posts a document; returns the answer."""
        begun = time.monotonic()
        status, text = self.raw("POST", path, json.dumps(asked).encode())
        return Answer(status, text, time.monotonic() - begun)


def chat(model, text, tokens, **more):
    """A request of OpenAI's API with a deterministic answer."""
    return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": tokens, "temperature": 0, **more}


def rows(answer):
    """The rows of an answer in the Open Inference Protocol's JSON."""
    (y,) = json.loads(answer.text)["outputs"]
    return [y["data"][at : at + 2] for at in range(0, len(y["data"]), 2)]


def said(text):
    """A chat answer's text and why it ended, whole or streamed."""
    if not text.startswith("data: "):
        (choice,) = json.loads(text)["choices"]
        return choice["message"]["content"], choice["finish_reason"]
    pieces = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: {")]
    if any("error" in piece for piece in pieces):
        return pieces[-1], "error"
    choices = [piece["choices"][0] for piece in pieces if piece["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices), choices[-1]["finish_reason"]
