"""KServe's clients, both asynchronous: InferenceRESTClient with version 2 in JSON and binary and
with version 1, and InferenceGRPCClient.
"""

import asyncio
import logging

import httpx
import numpy as np
from common import DIGITS, REFUSED, Direct, Part, exact, image, told_by_grpc, told_by_problem
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from seen import DIRECT_FIELD


def told_by_rest(error):
    """What KServe's REST client raises: httpx's exception with the answer in it."""
    if not isinstance(error, httpx.HTTPStatusError):
        raise TypeError(error)
    return told_by_problem(error.response)


def request_of(model, tensors, binary):
    """Tensors in the types of KServe's package."""
    inputs = []
    for name, datatype, array in tensors:
        tensor = InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return InferRequest(model_name=model, infer_inputs=inputs)


def values(answer):
    """An answer's outputs, exactly."""
    return {output.name: exact(output.as_numpy()) for output in answer.outputs}


class Clients:
    """KServe's clients for one gate. Their calls run in one event loop."""

    def __init__(self, loop, places, secure):
        self.wait = loop.run_until_complete
        address, self.base = (places.tls, f"https://{places.tls}") if secure else (places.plain, f"http://{places.plain}")
        trust = places.ca if secure else True
        self.v2, self.v1 = (InferenceRESTClient(RESTConfig(protocol=protocol, http2=secure, verify=trust, timeout=30)) for protocol in ("v2", "v1"))
        more = {"use_ssl": True, "root_certificates": places.ca} if secure else {}
        self.grpc = InferenceGRPCClient(address, timeout=30, **more)

    def rest(self, key, binary):
        """An inference over REST."""
        headers = lambda: {"x-api-key": key}

        def infer(model, tensors):
            return values(self.wait(self.v2.infer(self.base, request_of(model, tensors, binary), model_name=model, headers=headers())))

        return infer

    def rpc(self, field, binary=True, client=None):
        """An inference over gRPC."""

        def infer(model, tensors):
            return values(self.wait((client or self.grpc).infer(request_of(model, tensors, binary), headers=[field])))

        return infer

    def close(self):
        for client in (self.v2, self.v1, self.grpc):
            self.wait(client.close())


def ask(table, places):
    """Runs all calls over HTTP/1.1 and gRPC in the clear, then the served ones again over HTTP/2
    and gRPC with TLS.
    """
    # The gRPC client logs each error with a stack trace.
    logging.disable(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    direct = Direct(places)
    key, wrong = places.keys["scorer"], places.keys["unknown"]
    clients = Clients(loop, places, secure=False)

    table.head("kserve InferenceRESTClient, version 2")
    binary = Part(table, "binary", 0, told_by_rest)
    binary.oip(clients.rest(key, binary=True), direct.infer)
    json = Part(table, "JSON", 0, told_by_rest)
    # Its JSON writer has no NaN: it sends null.
    held = [row for row in REFUSED if row[0] not in ("no number", "another datatype")]
    json.oip(clients.rest(key, binary=False), direct.infer, refused=held)
    json.refused("no number, which it sends as null", "datatype", lambda: clients.rest(key, False)("digits", [("image", "FP32", image() * float("nan"))]), '"image"')
    for title, theirs, reason in (("an unknown key", wrong, "unauthenticated"), ("a client without grants", places.keys["stranger"], "not-granted"), ("one too many", places.keys["burst"], "rate-limited")):
        binary.refused(title, reason, lambda: clients.rest(theirs, True)("digits", DIGITS))
    for question in ("is_server_ready", "is_server_live"):
        binary.same(question, lambda: True, lambda: clients.wait(getattr(clients.v2, question)(clients.base)))
    for model, ready in (("digits", True), ("nothing", False)):
        binary.same(f"is_model_ready {model}", lambda: ready, lambda: clients.wait(clients.v2.is_model_ready(clients.base, model, headers={"x-api-key": key})))

    table.head("kserve InferenceRESTClient, version 1, which is TF Serving's form")
    v1 = Part(table, "JSON", 0, told_by_rest)

    def predict(theirs, data, model="digits"):
        answer = clients.wait(clients.v1.infer(clients.base, data, model_name=model, headers={"x-api-key": theirs}))
        return {"probabilities": exact(np.array(answer["predictions"], dtype=np.float32))}

    expected = lambda: direct.infer("digits", DIGITS)
    v1.same("digits, a batch of 3", expected, lambda: predict(key, {"instances": image().tolist()}))
    v1.refused("a text for a number", "datatype", lambda: predict(key, {"instances": [[[["x"] * 8] * 8]]}), '"image"')
    v1.refused("another shape", "shape", lambda: predict(key, {"instances": [[1.0] * 64]}), '"image"')
    v1.refused("out of its range", "out-of-range", lambda: predict(key, {"instances": (image() + 100).tolist()}), '"image"')
    v1.refused("an unknown key", "unauthenticated", lambda: predict(wrong, {"instances": image().tolist()}))
    v1.refused("a model that is not there", "not-granted", lambda: predict(key, {"instances": [1]}, "nothing"))
    v1.refused("explain", "not-an-inference-route", lambda: clients.wait(clients.v1.explain(clients.base, "digits", {"instances": [1]}, headers={"x-api-key": key})))

    table.head("kserve InferenceGRPCClient")
    itself = {model: InferenceGRPCClient(address, timeout=30) for model, address in (("digits", places.cpu), ("echo", places.echoes))}
    before = lambda model, tensors: clients.rpc(DIRECT_FIELD, client=itself[model])(model, tensors)
    raw = Part(table, "raw", 1, told_by_grpc)
    # The embedded server takes no parameters of tensors, and this client always sends one, so its
    # direct answers are requested without it.
    raw.oip(clients.rpc(("x-api-key", key)), direct.infer, before)
    typed = Part(table, "typed", 1, told_by_grpc)
    typed.oip(clients.rpc(("x-api-key", key), binary=False), direct.infer)
    for title, theirs, reason in (("an unknown key", wrong, "unauthenticated"), ("a client without grants", places.keys["stranger"], "not-granted"), ("one too many", places.keys["burst"], "rate-limited")):
        raw.refused(title, reason, lambda: clients.rpc(("x-api-key", theirs))("digits", DIGITS))
    for question in ("is_server_ready", "is_server_live"):
        raw.same(question, lambda: clients.wait(getattr(itself["digits"], question)()), lambda: clients.wait(getattr(clients.grpc, question)()))
    ready = lambda client, field: clients.wait(client.is_model_ready("digits", headers=[field]))
    raw.same("is_model_ready digits", lambda: ready(itself["digits"], DIRECT_FIELD), lambda: ready(clients.grpc, ("x-api-key", key)))
    raw.refused("is_model_ready of a model that is not there", "not-granted", lambda: clients.wait(clients.grpc.is_model_ready("nothing", headers=[("x-api-key", key)])))

    table.head("kserve with TLS: REST over HTTP/2, gRPC")
    secure = Clients(loop, places, secure=True)
    Part(table, "binary over HTTP/2", 0, told_by_rest).oip(secure.rest(key, True), direct.infer, refused=REFUSED[:1])
    Part(table, "raw over gRPC with TLS", 1, told_by_grpc).oip(secure.rpc(("x-api-key", key)), direct.infer, refused=REFUSED[:1])
    secure.close()
    clients.close()
    for client in itself.values():
        clients.wait(client.close())
