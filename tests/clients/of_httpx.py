"""httpx, with HTTP/1.1 and HTTP/2, each in the clear and with TLS: REST of all three kinds,
streamed answers, keys, tokens and certificates.
"""

import json
import ssl

import httpx
import numpy as np
from common import DIGITS, REFUSED, Direct, Part, exact, image, raw, told_by_problem, unraw

WAYS = [
    ("HTTP/1.1", False, {}),
    ("HTTP/2", False, {"http1": False, "http2": True}),
    ("HTTP/1.1 with TLS", True, {}),
    ("HTTP/2 with TLS", True, {"http1": False, "http2": True}),
]


def told(error):
    """What `raise_for_status` shows: its exception contains the answer."""
    if not isinstance(error, httpx.HTTPStatusError):
        raise TypeError(error)
    return told_by_problem(error.response)


def told_by_openai_route(error):
    """The same for a route of OpenAI's, whose error is an object."""
    body = error.response.json()
    return str(error.response.status_code), body["error"]["code"], body["error"]["message"]


def infer(client, model, tensors, headers=None):
    """An inference, with binary data in both directions."""
    inputs = [{"name": name, "datatype": datatype, "shape": list(array.shape), "parameters": {"binary_data_size": len(raw(array))}} for name, datatype, array in tensors]
    head = json.dumps({"parameters": {"binary_data_output": True}, "inputs": inputs}).encode()
    fields = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head)), **(headers or {})}
    answer = client.post(f"/v2/models/{model}/infer", content=b"".join([head, *(raw(array) for *_, array in tensors)]), headers=fields)
    answer.raise_for_status()
    cut = int(answer.headers["inference-header-content-length"])
    said, rest, outputs = json.loads(answer.content[:cut]), answer.content[cut:], {}
    for output in said["outputs"]:
        size = output["parameters"]["binary_data_size"]
        outputs[output["name"]] = unraw(output["datatype"], output["shape"], rest[:size])
        rest = rest[size:]
    return outputs


def plain(client, headers=None):
    """An inference in JSON."""
    answer = client.post("/v2/models/digits/infer", json={"inputs": [{"name": "image", "datatype": "FP32", "shape": [3, 1, 8, 8], "data": image().ravel().tolist()}]}, headers=headers)
    answer.raise_for_status()
    (output,) = answer.json()["outputs"]
    return {output["name"]: exact(np.array(output["data"], np.float32).reshape(output["shape"]))}


def chat(client, headers=None, **more):
    """A streamed chat: the texts of its events, as they arrive."""
    asked = {"model": "assistant", "messages": [{"role": "user", "content": "one two three"}], "stream": True, **more}
    with client.stream("POST", "/v1/chat/completions", json=asked, headers=headers) as answer:
        if answer.is_error:
            answer.read()
        answer.raise_for_status()
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    return [json.loads(line)["choices"][0]["delta"].get("content", "") for line in lines[:-1]], lines[-1]


def ask(table, places):
    """Runs all calls, over each kind of connection."""
    direct = Direct(places)
    trust = ssl.create_default_context(cafile=places.ca)
    for title, secure, more in WAYS:
        table.head(f"httpx over {title}")
        base = f"https://{places.tls}" if secure else f"http://{places.plain}"
        verify = {"verify": trust} if secure else {}
        versions = set()
        hooks = {"response": [lambda answer: versions.add(answer.http_version)]}
        with httpx.Client(base_url=base, timeout=30, event_hooks=hooks, **verify, **more) as client:
            one_way(Part(table, title, 0, told), client, direct, places)
        part = Part(table, title, 0, told)
        part.same("it was that", lambda: {title.split()[0]}, lambda: versions)
    certificates(table, direct, places)


def one_way(part, client, direct, places):
    """Every kind of call over one connection."""
    key = {"x-api-key": places.keys["scorer"]}
    expected = lambda: direct.infer("digits", DIGITS)
    part.oip(lambda model, tensors: infer(client, model, tensors, key), direct.infer, refused=REFUSED[:5])
    part.same("JSON", expected, lambda: plain(client, key))
    part.same("with a token", expected, lambda: plain(client, {"authorization": f"Bearer {places.tokens['good']}"}))
    part.refused("with a token of another's key", "unauthenticated", lambda: plain(client, {"authorization": f"Bearer {places.tokens['forged']}"}))
    part.refused("with an unknown key", "unauthenticated", lambda: plain(client, {"x-api-key": places.keys["unknown"]}))
    part.refused("with two credentials", "ambiguous-request", lambda: plain(client, [*key.items(), ("authorization", f"Bearer {places.tokens['good']}")]))
    part.refused("one too many", "rate-limited", lambda: plain(client, {"x-api-key": places.keys["burst"]}))
    part.refused("NaN, as Python writes it", "malformed", lambda: client.post("/v2/models/digits/infer", content=json.dumps({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1], "data": [float("nan")]}]}), headers=key).raise_for_status())
    # The response comes after the body, so that each client can read it.
    part.refused("a body beyond the bound", "body-too-large", lambda: client.post("/v2/models/digits/infer", content=bytes(3 << 20), headers=key).raise_for_status())
    for path in ("/v2/repository/index", "/metrics", "/v2/models/digits/infer/../../../repository/index"):
        part.refused(f"POST {path}", "not-an-inference-route", lambda: client.post(path, headers=key).raise_for_status())
    rows = json.dumps({"instances": image().tolist()})
    predict = lambda: client.post("/v1/models/digits:predict", content=rows, headers={**key, "content-type": "application/json"}).raise_for_status().json()
    part.same("TF Serving's form", expected, lambda: {"probabilities": exact(np.array(predict()["predictions"], np.float32))})
    pieces = (["", "0:", " three", " two", " one", ""], "[DONE]")
    part.same("OpenAI's form, in pieces", lambda: pieces, lambda: chat(client, key))
    openai = Part(part.table, part.name, 0, told_by_openai_route)
    openai.refused("OpenAI's form, a member that no rule names", "parameter", lambda: chat(client, key, guided_grammar="root ::= root"), "guided_grammar")


def certificates(table, direct, places):
    """Client certificates, and their authorities."""
    table.head("httpx with certificates of clients")
    part = Part(table, "TLS", 0, told)

    def caller(leaf, http2, trusted=places.ca):
        trust = ssl.create_default_context(cafile=trusted)
        if leaf:
            trust.load_cert_chain(leaf["pem"], leaf["key"])
        return httpx.Client(base_url=f"https://{places.tls}", timeout=30, verify=trust, http1=not http2, http2=http2)

    expected = lambda: direct.infer("digits", DIGITS)
    for title, http2 in (("HTTP/1.1", False), ("HTTP/2", True)):
        with caller(places.engine, http2) as client:
            part.same(f"{title}: a certificate alone", expected, lambda: plain(client))
        with caller(places.other, http2) as client:
            part.refused(f"{title}: an unknown certificate", "unauthenticated", lambda: plain(client))
        with caller(places.other, http2) as client:
            part.same(f"{title}: the same, beside a key", expected, lambda: plain(client, {"x-api-key": places.keys["scorer"]}))
        for what, leaf, trusted in (("a certificate of another authority", places.foreign, places.ca), ("a caller that does not trust the gate", None, places.foreign_ca)):
            with caller(leaf, http2, trusted) as client:
                try:
                    said = plain(client, {"x-api-key": places.keys["scorer"]})
                except httpx.TransportError as error:
                    said = type(error).__name__
                table.row(f"TLS: {title}: {what}", "-", said, isinstance(said, str))
