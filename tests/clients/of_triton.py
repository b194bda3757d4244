"""Triton's client in its four forms: HTTP and gRPC, each blocking and asynchronous; also with
compressed requests.
"""

import asyncio
import ssl
import time

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from common import DIGITS, ECHO, REFUSED, Direct, Part, exact
from seen import DIRECT_FIELD
from tritonclient.utils import InferenceServerException

# An id with a slash, a blank and a letter outside ASCII.
ID = "job/7 \u00e9"
# The time between two pings, milliseconds, and how long they are sent, seconds.
PING_MS = 1000
PINGS_S = 4


def told(error):
    """What Triton's exception shows: a status and a message."""
    if not isinstance(error, InferenceServerException):
        raise TypeError(error)
    return str(error.status()).removeprefix("StatusCode."), None, error.message()


def values(result, http):
    """An answer's outputs, exactly."""
    answer = result.get_response()
    names = [output["name"] for output in answer["outputs"]] if http else [output.name for output in answer.outputs]
    return {name: exact(result.as_numpy(name)) for name in names}


class Form:
    """One of the client's four forms."""

    def __init__(self, module, client, wait, http):
        self.module, self.client, self.wait, self.http = module, client, wait, http

    def infer(self, headers, binary=True, **more):
        """An inference."""

        def call(model, tensors):
            inputs = []
            for name, datatype, array in tensors:
                tensor = self.module.InferInput(name, list(array.shape), datatype)
                tensor.set_data_from_numpy(array, **({"binary_data": binary} if self.http else {}))
                inputs.append(tensor)
            return values(self.wait(self.client.infer(model, inputs, headers=dict(headers), **more)), self.http)

        return call


def one_dict(part, form, key):
    """One dict of header fields for every call. The client writes the length of an inference's JSON
    and its compression into it, which then come with requests that have no body.
    """
    headers, client = dict(key), form.client
    tensor = form.module.InferInput("image", [3, 1, 8, 8], "FP32")
    tensor.set_data_from_numpy(DIGITS[0][2])
    compressed = {"request_compression_algorithm" if form.http else "compression_algorithm": "gzip"}
    calls = [
        lambda: form.wait(client.infer("digits", [tensor], headers=headers, **compressed)) is not None,
        lambda: form.wait(client.is_server_live(headers=headers)),
        lambda: form.wait(client.is_server_ready(headers=headers)),
        lambda: form.wait(client.is_model_ready("digits", headers=headers)),
        lambda: form.wait(client.get_model_metadata("digits", headers=headers))["name"] == "digits",
        lambda: form.wait(client.get_model_config("digits", headers=headers))["name"] == "digits",
        lambda: form.wait(client.get_inference_statistics("digits", headers=headers)) is not None,
    ]
    part.same("one dict of header fields for all calls", lambda: [True] * len(calls), lambda: [call() for call in calls])


def analysed(metadata, config):
    """What perf_analyzer makes of a model, as its ModelParser::InitTriton reads the two answers."""
    most = int(config.get("max_batch_size", 0))
    signature = {}
    for kind in ("input", "output"):
        ports = {port["name"]: port for port in metadata[f"{kind}s"]}
        for port in config[kind]:
            shape = [int(dim) for dim in ports[port["name"]]["shape"]][most > 0 :]
            if shape != [int(dim) for dim in port["dims"]]:
                raise ValueError(f"{port['name']}: {shape} is not {port['dims']}")
            signature[port["name"]] = (ports[port["name"]]["datatype"], shape, bool(port.get("optional")))
    kinds = [name for name in ("sequence_batching", "dynamic_batching", "ensemble_scheduling") if config.get(name)]
    return most, signature, kinds, bool(config.get("model_transaction_policy", {}).get("decoupled"))


def perf_analyzer(part, form, key):
    """perf_analyzer's calls in their order, up to an inference of its own making."""
    headers, more = dict(key), {} if form.http else {"as_json": True}

    def calls():
        ask = lambda name, *arguments: form.wait(getattr(form.client, name)(*arguments, headers=dict(headers), **more))
        extensions = ask("get_server_metadata").get("extensions", [])
        metadata, config = ask("get_model_metadata", "digits"), ask("get_model_config", "digits")
        most, signature, *rest = analysed(metadata, config if form.http else config["config"])
        ((name, (datatype, shape, _)),) = [port for port in signature.items() if port[0] == "image"]
        tensor = form.module.InferInput(name, [most, *shape], datatype)
        tensor.set_data_from_numpy(np.zeros((most, *shape), np.float32))
        answer = form.wait(form.client.infer("digits", [tensor], headers=dict(headers)))
        return extensions, most, signature, rest, answer.as_numpy("probabilities").shape

    signature = {"image": ("FP32", [1, 8, 8], False), "probabilities": ("FP32", [10], False)}
    part.same("perf_analyzer's calls", lambda: ([], 32, signature, [[], False], (32, 10)), calls)


def own_id(part, form, key):
    """The id of a request comes back as it was sent."""
    tensor = form.module.InferInput("image", [3, 1, 8, 8], "FP32")
    tensor.set_data_from_numpy(DIGITS[0][2])

    def call():
        answer = form.wait(form.client.infer("digits", [tensor], request_id=ID, headers=dict(key))).get_response()
        return answer["id"] if form.http else answer.id

    part.same("the id of a request", lambda: ID, call)


def pings(part, address, key):
    """A connection that is kept alive by pings without calls."""
    often = tritonclient.grpc.KeepAliveOptions(PING_MS, PING_MS, keepalive_permit_without_calls=True, http2_max_pings_without_data=0)
    client, states = tritonclient.grpc.InferenceServerClient(address, keepalive_options=often), []

    def calls():
        live = [client.is_server_live(headers=key)]
        client._channel.subscribe(states.append)
        time.sleep(PINGS_S)
        live.append(client.is_server_live(headers=key))
        return live, [state.name for state in states]

    part.same("pings without calls", lambda: ([True, True], ["READY"]), calls)
    client.close()


def ask(table, places):
    """Runs all calls."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    now, later = lambda value: value, loop.run_until_complete

    async def made(kind, *arguments, **more):
        return kind(*arguments, **more)

    direct = Direct(places)
    key, wrong = {"x-api-key": places.keys["scorer"]}, {"x-api-key": places.keys["unknown"]}
    http, grpc = tritonclient.http, tritonclient.grpc
    forms = {
        "HTTP": Form(http, http.InferenceServerClient(places.plain, network_timeout=30), now, True),
        "HTTP asynchronous": Form(http, later(made(http.aio.InferenceServerClient, places.plain)), later, True),
        "gRPC": Form(grpc, grpc.InferenceServerClient(places.plain), now, False),
        "gRPC asynchronous": Form(grpc, later(made(grpc.aio.InferenceServerClient, places.plain)), later, False),
    }
    to_servers = {
        "gRPC": {model: Form(grpc, grpc.InferenceServerClient(address), now, False) for model, address in (("digits", places.cpu), ("echo", places.echoes))},
    }
    for name, form in forms.items():
        table.head(f"tritonclient, {name}")
        part = Part(table, name, int(not form.http), told)
        before = None
        if name in to_servers:
            before = lambda model, tensors: to_servers[name][model].infer([DIRECT_FIELD])(model, tensors)
        part.oip(form.infer(key), before or direct.infer, before)
        if form.http:
            json = Part(table, f"{name}, JSON", 0, told)
            json.oip(form.infer(key, binary=False), direct.infer, refused=REFUSED[1:3])
        for coding in ("gzip", "deflate"):
            option = "request_compression_algorithm" if form.http else "compression_algorithm"
            compressed = form.infer(key, **{option: coding})
            part.same(f"a request compressed by {coding}", lambda: direct.infer("digits", DIGITS), lambda: compressed("digits", DIGITS))
            part.refused(f"{coding} for a model that takes none", "unsupported-encoding", lambda: compressed("echo", ECHO))
        part.refused("an unknown key", "unauthenticated", lambda: form.infer(wrong)("digits", DIGITS), "credential")
        part.refused("one too many", "rate-limited", lambda: form.infer({"x-api-key": places.keys["burst"]})("digits", DIGITS), "too many")
        part.refused("management: the repository", "not-an-inference-route", lambda: form.wait(form.client.get_model_repository_index(headers=dict(key))))
        part.refused("management: load", "not-an-inference-route", lambda: form.wait(form.client.load_model("digits", headers=dict(key))))
        part.same("is_model_ready", lambda: True, lambda: form.wait(form.client.is_model_ready("digits", headers=dict(key))))
        ports = lambda said: [(port["name"], port["datatype"]) for kind in ("inputs", "outputs") for port in said[kind]]
        more = {} if form.http else {"as_json": True}
        metadata = lambda form, headers: ports(form.wait(form.client.get_model_metadata("echo", headers=dict(headers), **more)))
        expected = [("text", "BYTES"), ("count", "INT64")] * 2
        itself = (lambda: metadata(to_servers[name]["echo"], [DIRECT_FIELD])) if name in to_servers else lambda: expected
        part.same("get_model_metadata", itself, lambda: metadata(form, key))
        configuration = lambda: form.wait(form.client.get_model_config("echo", "1", headers=dict(key), **more))
        part.same("get_model_config of a version", lambda: "echo", lambda: (configuration() if form.http else configuration()["config"])["name"])
        part.refused("get_model_config of a model that is not there", "not-granted", lambda: form.wait(form.client.get_model_config("nothing", headers=dict(key))))
        perf_analyzer(part, form, key)
        own_id(part, form, key)
        if form.http:
            one_dict(part, form, key)
        # The gate counts the calls through it, whatever the server has counted.
        counted = lambda model: form.wait(form.client.get_inference_statistics(model, headers=dict(key), **more))["model_stats"]
        names = ["success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"]
        statistics = lambda: [(one["name"], one["version"], list(one["inference_stats"]), int(one["inference_count"]) > 0) for one in counted("digits")]
        part.same("get_inference_statistics", lambda: [("digits", "1", names, True)], statistics)
        part.refused("get_inference_statistics of a model that is not there", "not-an-inference-route", lambda: counted("nothing"))

    pings(Part(table, "gRPC", 1, told), places.plain, key)
    table.head("tritonclient with TLS")
    grpc_tls = Form(grpc, grpc.InferenceServerClient(places.tls, ssl=True, root_certificates=places.ca), now, False)
    Part(table, "gRPC with TLS", 1, told).oip(grpc_tls.infer(key), direct.infer, refused=REFUSED[:1])
    grpc_mtls = grpc.InferenceServerClient(places.tls, ssl=True, root_certificates=places.ca, private_key=places.engine["key"], certificate_chain=places.engine["pem"])
    Part(table, "gRPC by certificate alone", 1, told).oip(Form(grpc, grpc_mtls, now, False).infer({}), direct.infer, refused=REFUSED[:1])
    context = lambda: ssl.create_default_context(cafile=places.ca)
    http_tls = Form(http, http.InferenceServerClient(places.tls, ssl=True, ssl_context_factory=context, network_timeout=30), now, True)
    Part(table, "HTTP with TLS", 0, told).oip(http_tls.infer(key), direct.infer, refused=REFUSED[:1])
    for form in (*forms.values(), grpc_tls, http_tls):
        form.wait(form.client.close())
