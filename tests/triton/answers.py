"""Inference, metadata and readiness: answers through the gate equal Triton's direct answers
exactly. Rejections are readable: a matching status and our own message, which reveals nothing about
the upstream.
"""

import queue

import numpy as np
from clients import attempt, status
from tritonclient.utils import InferenceServerException

# What no caller may read in an answer of the gate.
SECRETS = ["triton", "python", "secret.py", "127.0.0.1", "/opt/", "model.onnx", "Traceback", "grpc_"]


def tensors(rng):
    """Inputs of the two models."""
    image = rng.integers(0, 17, (3, 1, 8, 8)).astype(np.float32)
    text = np.array([b"", "na\u00efve \u2713".encode(), b'quote " and \\ backslash'], dtype=object)
    count = np.array([[0, -1], [2**63 - 1, -(2**63)]], dtype=np.int64)
    half = np.array([0.5, -65504, 6e-08, 1 / 3], dtype=np.float16)
    return {
        "digits": [("image", "FP32", image)],
        "echo": [("text", "BYTES", text), ("count", "INT64", count)],
        "all": [("text", "BYTES", text), ("count", "INT64", count), ("half", "FP16", half)],
        "raw bytes": [("text", "BYTES", np.array([bytes(range(64))], dtype=object)), ("count", "INT64", count)],
    }


def infer(side, protocol, model, inputs, outputs=(), binary=(True, True), **more):
    """One inference: its outputs as name, datatype, shape and the exact values."""
    client, module = side.client(protocol)
    named = []
    for name, datatype, array in inputs:
        tensor = module.InferInput(name, list(array.shape), datatype)
        if protocol == "http":
            tensor.set_data_from_numpy(array, binary_data=binary[0])
        else:
            tensor.set_data_from_numpy(array)
        named.append(tensor)
    form = {"binary_data": binary[1]} if protocol == "http" else {}
    wanted = [module.InferRequestedOutput(name, **form) for name in outputs] or None
    result = client.infer(model, named, outputs=wanted, headers=dict(side.headers), **more)
    answer = result.get_response()
    described = answer["outputs"] if protocol == "http" else answer.outputs
    names = [each["name"] if protocol == "http" else each.name for each in described]
    values = {}
    for name in sorted(names):
        array = result.as_numpy(name)
        exact = array.tolist() if array.dtype == object else array.tobytes()
        values[name] = (str(array.dtype), array.shape, exact)
    return values


def metadata(side, protocol, model):
    """A model's signature."""
    client, _ = side.client(protocol)
    if protocol == "http":
        said = client.get_model_metadata(model, headers=dict(side.headers))
    else:
        said = client.get_model_metadata(model, headers=dict(side.headers), as_json=True)
    ports = {}
    for kind in ("inputs", "outputs"):
        for port in said[kind]:
            ports[kind, port["name"]] = (port["datatype"], [int(dim) for dim in port["shape"]])
    return said["name"], said["versions"], ports


def config(side, protocol, model):
    """What a model's configuration says of its signature. The gate's has only this part."""
    client, _ = side.client(protocol)
    if protocol == "http":
        known = client.get_model_config(model, headers=dict(side.headers))
    else:
        known = client.get_model_config(model, headers=dict(side.headers), as_json=True)["config"]
    ports = {}
    for kind in ("input", "output"):
        for port in known[kind]:
            ports[kind, port["name"]] = (port["data_type"], [int(dim) for dim in port["dims"]], bool(port.get("optional")))
    return known["name"], int(known.get("max_batch_size", 0)), ports


def equal(table, title, call, direct, gate):
    """The same call on both sides must give the same value."""
    (one, fault), (other, refusal) = attempt(lambda: call(direct)), attempt(lambda: call(gate))
    right = fault is None and refusal is None and one == other
    show = lambda value, error: error if error else summary(value)
    table.row(title, show(one, fault), show(other, refusal), right, f"{one} / {other}")


def summary(value):
    """A value in short: a digest of the compared data."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {array[0]}{list(array[1])}" for name, array in value.items())
    if isinstance(value, tuple):
        return f"{value[0]} {value[1]}: {len(value[2])} tensors"
    return value


def same_answers(table, direct, gate):
    """Every allowed call."""
    table.head("answers, equal in every bit")
    rng = np.random.default_rng(3)
    known = tensors(rng)

    def check(title, *arguments, **more):
        equal(table, title, lambda side: infer(side, *arguments, **more), direct, gate)

    forms = [("JSON in, JSON out", (False, False)), ("binary in, JSON out", (True, False))]
    forms += [("JSON in, binary out", (False, True)), ("binary in, binary out", (True, True))]
    for form, binary in forms:
        check(f"HTTP {form}: digits, a batch of 3", "http", "digits", known["digits"], ["probabilities"], binary)
        check(f"HTTP {form}: BYTES and INT64", "http", "echo", known["echo"], ["text", "count"], binary)
    check("HTTP binary: FP16 beside them", "http", "echo", known["all"], ["text", "count", "half"])
    check("HTTP binary: BYTES that are no text", "http", "echo", known["raw bytes"], ["text", "count"])
    check("HTTP binary: every output, none named", "http", "echo", known["all"])
    check("HTTP: an answer compressed if the server likes", "http", "digits", known["digits"], response_compression_algorithm="gzip")
    for coding in ("gzip", "deflate"):
        for form, binary in (("JSON", (False, False)), ("binary", (True, True))):
            more = {"request_compression_algorithm": coding}
            check(f"HTTP {form}, the request compressed by {coding}", "http", "digits", known["digits"], ["probabilities"], binary, **more)
        check(f"gRPC raw, the request compressed by {coding}", "grpc", "digits", known["digits"], compression_algorithm=coding)
    check("HTTP: version and id said", "http", "digits", known["digits"], model_version="1", request_id="mine")
    check("gRPC raw: digits, a batch of 3", "grpc", "digits", known["digits"], ["probabilities"])
    check("gRPC raw: BYTES, INT64 and FP16", "grpc", "echo", known["all"], ["text", "count", "half"])
    check("gRPC raw: BYTES that are no text", "grpc", "echo", known["raw bytes"])
    check("gRPC raw: one output of three", "grpc", "echo", known["all"], ["count"])
    check("gRPC: version and id said, a deadline", "grpc", "digits", known["digits"], model_version="1", request_id="mine", client_timeout=20)
    for number in range(5):
        batch = [("image", "FP32", rng.integers(0, 17, (32, 1, 8, 8)).astype(np.float32))]
        check(f"gRPC raw: 32 random images, number {number}", "grpc", "digits", batch)

    for count, model in ((1, "digits"), (20, "digits"), (3, "echo")):
        requests = [(model, known["all"] if model == "echo" else known["digits"])] * count
        title = f"gRPC: {count} inferences of {model} over one stream"
        values = {side.name: attempt(lambda: stream(side, requests)) for side in (direct, gate)}
        (one, fault), (other, refusal) = values.values()
        right = fault is None and refusal is None and one == other and len(one) == count
        table.row(title, fault or f"{len(one)} answers", refusal or f"{len(other)} answers", right, f"{one} / {other}")
    mixed = [("digits", known["digits"]), ("echo", known["all"]), ("digits", known["digits"])]
    one, other = stream(direct, mixed), stream(gate, mixed)
    table.row("gRPC: two models over one stream, in order", f"{len(one)} answers", f"{len(other)} answers", one == other, f"{one} / {other}")

    table.head("questions, equal")
    for protocol in ("http", "grpc"):
        for model in ("digits", "echo"):
            equal(table, f"{protocol}: metadata of {model}", lambda side: metadata(side, protocol, model), direct, gate)
            equal(table, f"{protocol}: configuration of {model}", lambda side: config(side, protocol, model), direct, gate)
            ready = lambda side: side.client(protocol)[0].is_model_ready(model, headers=dict(side.headers))
            equal(table, f"{protocol}: {model} is ready", ready, direct, gate)
        for question in ("is_server_live", "is_server_ready"):
            ask = lambda side: getattr(side.client(protocol)[0], question)(headers=dict(side.headers))
            equal(table, f"{protocol}: {question}", ask, direct, gate)


def readable_refusals(table, direct, gate, anonymous):
    """Every rejected call: what the client's exception shows."""
    table.head("refusals, readable in the client's own exception")
    known = tensors(np.random.default_rng(4))
    (_, _, image), (text, count, half) = known["digits"][0], known["all"]

    def check(title, expected, says, call, side=gate):
        _, fault = attempt(lambda: call(direct))
        value, error = attempt(lambda: call(side))
        shown = "served" if error is None else f"{status(error)}: {error.message()}"
        right = error is not None and status(error) == expected and says in error.message()
        leaks = [secret for secret in SECRETS if error is not None and secret in str(error).lower()]
        table.row(title, f"{status(fault)}: {fault.message()}" if fault else "served", shown, right and not leaks, f"{expected} {says} {leaks}")

    both = lambda http, grpc: [("http", http), ("grpc", grpc)]
    for protocol, code in both("400", "INVALID_ARGUMENT"):
        ask = lambda *arguments, **more: lambda side: infer(side, protocol, *arguments, **more)
        wrong = image.astype(np.float64)
        check(f"{protocol}: another datatype", code, "datatype", ask("digits", [("image", "FP64", wrong)]))
        check(f"{protocol}: another shape", code, 'shape: input "image"', ask("digits", [("image", "FP32", image.reshape(3, 64))]))
        check(f"{protocol}: more images than may be", code, "shape", ask("digits", [("image", "FP32", np.zeros((33, 1, 8, 8), np.float32))]))
        check(f"{protocol}: no number", code, "image", ask("digits", [("image", "FP32", image * np.float32("nan"))]))
        check(f"{protocol}: out of its range", code, "image", ask("digits", [("image", "FP32", image + 100)]))
        check(f"{protocol}: an input that is not there", code, '"more"', ask("digits", [*known["digits"], ("more", "FP32", image)]))
        check(f"{protocol}: an input left out", code, '"count"', ask("echo", [text]))
        long = ("text", "BYTES", np.array([b"x" * 65], dtype=object))
        check(f"{protocol}: an element that is too long", code, "text", ask("echo", [long, count]))
        check(f"{protocol}: an output that is not there", code, '"other"', ask("echo", [text, count, half], ["other"]))
        check(f"{protocol}: a parameter that no rule names", code, "parameter", ask("digits", known["digits"], priority=1))
    for protocol, code in both("403", "PERMISSION_DENIED"):
        check(f"{protocol}: a model that is not there", code, "not granted", lambda side: infer(side, protocol, "nothing", known["digits"]))
    for protocol, code in both("401", "UNAUTHENTICATED"):
        check(f"{protocol}: without a key", code, "credential", lambda side: infer(side, protocol, "digits", known["digits"]), anonymous)
    for protocol, code in both("502", "INTERNAL"):
        raises = ("text", "BYTES", np.array([b"raise"], dtype=object))
        check(f"{protocol}: the model itself fails", code, "", lambda side: infer(side, protocol, "echo", [raises, count]))
    gzip = lambda side: infer(side, "http", "echo", known["echo"], request_compression_algorithm="gzip")
    check("http: compressed for a model that takes no such requests", "415", "encoding", gzip)
    gzip = lambda side: infer(side, "grpc", "echo", known["echo"], compression_algorithm="gzip")
    check("grpc: compressed for a model that takes no such requests", "INVALID_ARGUMENT", "encoding", gzip)
    bomb = [("image", "FP32", np.zeros((32, 1, 8, 8), np.float32))]
    gzip = lambda side: infer(side, "http", "digits", bomb, request_compression_algorithm="gzip")
    check("http: compressed beyond what a byte may stand for", "413", "too large", gzip)
    for protocol in ("grpc",):
        bad = lambda side: stream(side, [("digits", known["digits"]), ("digits", [("image", "FP32", image + 100)]), ("digits", known["digits"])])
        value, error = attempt(lambda: bad(gate))
        right = error is None and value[0] == value[2] and isinstance(value[1], str) and "image" in value[1]
        table.row("grpc: a refused message between two good ones of a stream", "-", "three answers" if right else error or value, right, f"{value}")
    check("grpc: a stream without a key", "UNAUTHENTICATED", "credential", lambda side: stream(side, [("digits", known["digits"])]), anonymous)


def stream(side, requests):
    """Inferences over one ModelStreamInfer: for each its exact outputs, or the text of its error.
    Raises the error that ends the stream.
    """
    client, module = side.client("grpc")
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), headers=dict(side.headers))
    values = []
    try:
        for model, inputs in requests:
            named = []
            for name, datatype, array in inputs:
                tensor = module.InferInput(name, list(array.shape), datatype)
                tensor.set_data_from_numpy(array)
                named.append(tensor)
            try:
                client.async_stream_infer(model, named)
            except InferenceServerException:
                # Rejected before the request was put into it: the callback has the error.
                break
        for _ in requests:
            result, error = answers.get(timeout=30)
            if error is not None and error.status() is not None:
                raise error
            if error is not None:
                values.append(error.message())
                continue
            outputs = {each.name: result.as_numpy(each.name) for each in result.get_response().outputs}
            values.append({name: (str(array.dtype), array.shape, array.tobytes() if array.dtype != object else array.tolist()) for name, array in sorted(outputs.items())})
    finally:
        client.stop_stream()
    return tuple(values)
