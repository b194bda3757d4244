"""The common part of every client's table: the two ways to each server, calls that must give equal
results, and calls that must be rejected.
"""

import grpc
import numpy as np
from described import Service, pool_of
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from seen import DIRECT_FIELD

# What no caller may read in an answer of the gate.
SECRETS = ["envoy", "upstream", "127.0.0.1", "python", "traceback", "/srv", "vllm", "local/", "gpu-7", "grpc_", "wasm"]
NUMPY = {"FP32": np.float32, "INT64": np.int64}


def image(count=3, seed=7):
    """This many images of the kind that `digits` takes."""
    return np.random.default_rng(seed).integers(0, 17, (count, 1, 8, 8)).astype(np.float32)


TEXT = np.array([b"", "na\u00efve \u2713".encode(), b'quote " and \\ backslash'], dtype=object)
COUNT = np.array([[0, -1], [2**63 - 1, -(2**63)]], dtype=np.int64)
DIGITS = [("image", "FP32", image())]
ECHO = [("text", "BYTES", TEXT), ("count", "INT64", COUNT)]

# Calls that any client of the Open Inference Protocol may make: title, model, tensors.
SERVED = [
    ("digits, a batch of 3", "digits", DIGITS),
    ("digits, a batch of 32", "digits", [("image", "FP32", image(32, 8))]),
    ("BYTES and INT64", "echo", ECHO),
]
# Calls that are rejected: title, model, tensors, reason, and what the message names.
REFUSED = [
    ("another datatype", "digits", [("image", "FP64", image().astype(np.float64))], "datatype", '"image"'),
    ("another shape", "digits", [("image", "FP32", image().reshape(3, 64))], "shape", '"image"'),
    ("more images than may be", "digits", [("image", "FP32", np.zeros((33, 1, 8, 8), np.float32))], "shape", '"image"'),
    ("no number", "digits", [("image", "FP32", image() * np.float32("nan"))], "not-finite", '"image"'),
    ("out of its range", "digits", [("image", "FP32", image() + 100)], "out-of-range", '"image"'),
    ("an input that is not there", "digits", [*DIGITS, ("more", "FP32", image())], "unknown-input", '"more"'),
    ("an input left out", "echo", ECHO[:1], "missing-input", '"count"'),
    ("an element that is too long", "echo", [("text", "BYTES", np.array([b"x" * 65], dtype=object)), ECHO[1]], "item-too-long", '"text"'),
    ("a model that is not there", "nothing", DIGITS, "not-granted", ""),
]


def raw(array):
    """A tensor in OIP's raw form."""
    if array.dtype != object:
        return array.tobytes()
    return b"".join(len(each).to_bytes(4, "little") + each for each in array.ravel())


def exact(array):
    """A tensor's shape and every bit of it."""
    array = np.asarray(array)
    if array.dtype.kind in "OSU":
        return array.shape, [each if isinstance(each, bytes) else str(each).encode() for each in array.ravel()]
    return array.shape, array.tobytes()


def unraw(datatype, shape, data):
    """The same for a tensor in raw form."""
    if datatype != "BYTES":
        return exact(np.frombuffer(data, NUMPY[datatype]).reshape(shape))
    elements = []
    while data:
        size = int.from_bytes(data[:4], "little")
        elements.append(data[4 : 4 + size])
        data = data[4 + size :]
    return tuple(shape), elements


class Oip:
    """The Open Inference Protocol by its .proto file, at one address."""

    def __init__(self, channel, metadata=()):
        self.service = Service(pool_of(), channel, metadata)

    def infer(self, model, tensors):
        """One inference in raw form: every output, exactly."""
        request = {"modelName": model, "inputs": [{"name": name, "datatype": datatype, "shape": list(array.shape)} for name, datatype, array in tensors]}
        asked = json_format.ParseDict(request, self.service.message("ModelInfer"))
        asked.raw_input_contents.extend(raw(array) for *_, array in tensors)
        answer = self.service.send("ModelInfer", asked)
        outputs = zip(answer.outputs, answer.raw_output_contents, strict=True)
        return {output.name: unraw(output.datatype, list(output.shape), data) for output, data in outputs}


class Direct:
    """The servers themselves, for clients that cannot call them directly."""

    def __init__(self, places):
        servers = {"digits": places.cpu, "echo": places.echoes}
        self.to = {model: Oip(grpc.insecure_channel(address), [DIRECT_FIELD]) for model, address in servers.items()}

    def infer(self, model, tensors):
        """One inference."""
        return self.to[model].infer(model, tensors)


def reason_of(error):
    """The reason that a gRPC error carries as `ErrorInfo`."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else []:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    return None


def told_by_grpc(error):
    """What a gRPC error shows: the name of its status, its reason, its message."""
    return error.code().name, reason_of(error), error.details()


def told_by_problem(answer):
    """What a rejection over HTTP shows, for any client whose answers have `status_code` and
    `json()`.
    """
    body = answer.json()
    return str(answer.status_code), body["type"].removeprefix("urn:tensorgate:"), body["error"]


# The statuses of some reasons: HTTP's and gRPC's.
STATUSES = {
    "unauthenticated": ("401", "UNAUTHENTICATED"),
    "not-granted": ("403", "PERMISSION_DENIED"),
    "not-an-inference-route": ("404", "UNIMPLEMENTED"),
    "method-not-allowed": ("405", "INVALID_ARGUMENT"),
    "unsupported-media-type": ("415", "INVALID_ARGUMENT"),
    "unsupported-encoding": ("415", "INVALID_ARGUMENT"),
    "rate-limited": ("429", "RESOURCE_EXHAUSTED"),
    "body-too-large": ("413", "RESOURCE_EXHAUSTED"),
    "http-version": ("426", "INVALID_ARGUMENT"),
    "backend-fault": ("502", "INTERNAL"),
}


class Part:
    """One client's part of the table. `told` extracts what its exceptions show: status, reason
    (None where the client hides it) and message.
    """

    def __init__(self, table, name, grpc_like, told):
        self.table, self.name, self.grpc_like, self.told = table, name, grpc_like, told

    def same(self, title, direct, gate):
        """Both calls give the same value and raise nothing."""
        one, other = attempt(direct), attempt(gate)
        right = one[1] is None and other[1] is None and one[0] == other[0]
        self.table.row(f"{self.name}: {title}", shown(one), shown(other), right, f"{one} / {other}")
        return right

    def refused(self, title, reason, call, says="", direct=None):
        """The call ends in the client's own exception, with this reason."""
        answer = attempt(call)
        before = "-" if direct is None else shown(attempt(direct))
        if answer[1] is None:
            return self.table.row(f"{self.name}: {title}", before, f"served: {shown(answer)}", False, reason)
        try:
            status, given, sentence = self.told(answer[1])
        except Exception as error:
            return self.table.row(f"{self.name}: {title}", before, repr(answer[1]), False, repr(error))
        expected = STATUSES.get(reason, ("400", "INVALID_ARGUMENT"))[self.grpc_like]
        leaks = [secret for secret in SECRETS if secret in str(sentence).lower()]
        right = status == expected and given in (reason, None) and says in sentence and bool(sentence) and not leaks
        self.table.row(f"{self.name}: {title}", before, f"{status} {given or ''}: {sentence}", right, f"{expected} {reason} {says} {leaks}")

    def oip(self, infer, direct, before=None, refused=REFUSED):
        """Served and rejected tensors. `infer` goes through the gate, `direct` to the servers, and
        `before` too where the client itself can.
        """
        for title, model, tensors in SERVED:
            self.same(title, lambda: direct(model, tensors), lambda: infer(model, tensors))
        for title, model, tensors, reason, says in refused:
            itself = (lambda: before(model, tensors)) if before and model != "nothing" else None
            self.refused(title, reason, lambda: infer(model, tensors), says, itself)


def attempt(call):
    """The result of a call: its value and None, or None and the exception."""
    try:
        return call(), None
    except Exception as error:
        return None, error


def shown(answer):
    """A value or an exception, in short."""
    value, error = answer
    if error is not None:
        return f"{type(error).__name__}: {getattr(error, 'details', lambda: error)()}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {list(each[0]) if isinstance(each, tuple) else each}" for name, each in value.items())
    return value
