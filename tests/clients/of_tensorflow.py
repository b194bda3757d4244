"""TF Serving's clients: its API package over gRPC, and `requests` as in its documentation. There is
no TF Serving here. Direct calls use the protocol of the server behind the gate, or go to a server
that is built from the API package's own services.
"""

import json

import grpc
import numpy as np
import requests
from common import COUNT, DIGITS, Direct, Part, exact, image, told_by_grpc, told_by_problem
from seen import DIRECT_FIELD
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tf_server import ANOTHER_VERSION, NOT_A_NUMBER, RAISES, SHORT

DATATYPES = {np.dtype(np.float32): types_pb2.DT_FLOAT, np.dtype(np.float64): types_pb2.DT_DOUBLE, np.dtype(np.int64): types_pb2.DT_INT64}
LISTS = {np.dtype(np.float32): "float_val", np.dtype(np.float64): "double_val", np.dtype(np.int64): "int64_val"}


def tensor(array, as_list=False):
    """What `tf.make_tensor_proto` makes, or the same element by element."""
    proto = tensor_pb2.TensorProto(dtype=DATATYPES[array.dtype])
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if as_list:
        getattr(proto, LISTS[array.dtype]).extend(array.ravel().tolist())
    else:
        proto.tensor_content = array.tobytes()
    return proto


def array(proto):
    """What `tf.make_ndarray` makes of a tensor."""
    shape = [dim.size for dim in proto.tensor_shape.dim]
    kind = next(kind for kind, datatype in DATATYPES.items() if datatype == proto.dtype)
    if proto.tensor_content:
        return np.frombuffer(proto.tensor_content, kind).reshape(shape)
    return np.array(getattr(proto, LISTS[kind]), kind).reshape(shape)


class Rpc:
    """The API package's stubs over one channel."""

    def __init__(self, channel, key, *more):
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)
        self.more = {"metadata": [("x-api-key", key), *more], "timeout": 30}

    def predict(self, inputs, model="digits", as_list=False, version=None):
        """`Predict`."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        if version is not None:
            request.model_spec.version.value = version
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tensor(value, as_list))
        answer = self.prediction.Predict(request, **self.more)
        return {name: exact(array(proto)) for name, proto in answer.outputs.items()}

    def metadata(self):
        """`GetModelMetadata`: the signature's ports."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = "digits"
        answer = self.prediction.GetModelMetadata(request, **self.more)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        if not answer.metadata["signature_def"].Unpack(signatures):
            raise TypeError(answer)
        signature = signatures.signature_def["serving_default"]
        ports = [*signature.inputs.items(), *signature.outputs.items()]
        return [(name, types_pb2.DataType.Name(port.dtype), [dim.size for dim in port.tensor_shape.dim]) for name, port in ports]

    def status(self):
        """`GetModelStatus`."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "digits"
        answer = self.models.GetModelStatus(request, **self.more)
        return [(each.version, get_model_status_pb2.ModelVersionStatus.State.Name(each.state)) for each in answer.model_version_status]


def told_by_requests(error):
    """What `raise_for_status` shows: its exception contains the answer."""
    if not isinstance(error, requests.HTTPError):
        raise TypeError(error)
    return told_by_problem(error.response)


class Rest:
    """`requests`, as TF Serving's documentation has it."""

    def __init__(self, base, key, verify=True):
        self.base, self.verify = base, verify
        self.headers = {"content-type": "application/json", "x-api-key": key}

    def predict(self, data, model="digits", headers=None):
        """`:predict`."""
        answer = requests.post(f"{self.base}/v1/models/{model}:predict", data=data, headers={**self.headers, **(headers or {})}, verify=self.verify, timeout=30)
        answer.raise_for_status()
        said = answer.json()
        rows = said.get("predictions", said.get("outputs"))
        return {"probabilities": exact(np.array(rows, np.float32))}

    def get(self, path):
        """A GET request."""
        answer = requests.get(f"{self.base}/v1/models/{path}", headers=self.headers, verify=self.verify, timeout=30)
        answer.raise_for_status()
        return answer.json()


def ask(table, places):
    """Runs all calls."""
    direct = Direct(places)
    key, wrong, burst = (places.keys[name] for name in ("scorer", "unknown", "burst"))
    expected = lambda: direct.infer("digits", DIGITS)

    table.head("tensorflow-serving-api over gRPC")
    channel = grpc.insecure_channel(places.plain)
    rpc = Rpc(channel, key)
    part = Part(table, "gRPC", 1, told_by_grpc)
    images = {"image": image()}
    part.same("Predict, tensor_content", expected, lambda: rpc.predict(images))
    part.same("Predict, float_val", expected, lambda: rpc.predict(images, as_list=True))
    part.same("Predict, version 1", expected, lambda: rpc.predict(images, version=1))
    part.same("GetModelStatus", lambda: [(1, "AVAILABLE")], rpc.status)
    ports = [("image", "DT_FLOAT", [-1, 1, 8, 8]), ("probabilities", "DT_FLOAT", [-1, 10])]
    part.same("GetModelMetadata", lambda: ports, rpc.metadata)
    part.refused("another datatype", "datatype", lambda: rpc.predict({"image": image().astype(np.float64)}), '"image"')
    part.refused("another shape", "shape", lambda: rpc.predict({"image": image().reshape(3, 64)}), '"image"')
    part.refused("no number", "not-finite", lambda: rpc.predict({"image": image() * np.float32("nan")}), '"image"')
    part.refused("no number in a list", "not-finite", lambda: rpc.predict({"image": image() * np.float32("nan")}, as_list=True), '"image"')
    part.refused("out of its range", "out-of-range", lambda: rpc.predict({"image": image() + 100}), '"image"')
    part.refused("an input that is not there", "unknown-input", lambda: rpc.predict({**images, "more": COUNT}), '"more"')
    part.refused("an input left out", "missing-input", lambda: rpc.predict({}), '"image"')
    part.refused("another version", "not-granted", lambda: rpc.predict(images, version=2))
    part.refused("a model that is not there", "not-granted", lambda: rpc.predict(images, "nothing"))
    part.refused("an unknown key", "unauthenticated", lambda: Rpc(channel, wrong).predict(images))
    part.refused("one too many", "rate-limited", lambda: Rpc(channel, burst).predict(images))
    reload = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest
    part.refused("management: HandleReloadConfigRequest", "not-an-inference-route", lambda: reload(model_management_pb2.ReloadConfigRequest(), **rpc.more))
    part.refused("Classify", "not-an-inference-route", lambda: rpc.prediction.Classify(classification_pb2.ClassificationRequest(), **rpc.more))
    with open(places.ca, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    with grpc.secure_channel(places.tls, credentials) as secure:
        part.same("Predict with TLS", expected, lambda: Rpc(secure, key).predict(images))

    table.head("a server of TF Serving's protocol behind the gate")
    part = Part(table, "gRPC", 1, told_by_grpc)
    with grpc.insecure_channel(places.tf) as itself:
        there = Rpc(itself, key, DIRECT_FIELD)
        features = lambda first=1.0, count=5: {"features": np.arange(count * 3, dtype=np.float32).reshape(count, 3) % 7 + np.float32([first, 0, 0])}
        for title, inputs in (("a batch of 5", features()), ("one row", features(count=1)), ("64 rows", features(count=64))):
            part.same(title, lambda: there.predict(inputs, "linear"), lambda: rpc.predict(inputs, "linear"))
        part.same("elements in a list", lambda: there.predict(features(), "linear"), lambda: rpc.predict(features(), "linear", as_list=True))
    at = lambda first: {"features": np.float32([[first, 0, 0]])}
    for title, first in (("a server that fails", RAISES), ("one that answers NaN", NOT_A_NUMBER), ("one that answers for another version", ANOTHER_VERSION)):
        part.refused(title, "backend-fault", lambda: rpc.predict(at(first), "linear"))
    part.refused("one whose list is too short", "backend-fault", lambda: rpc.predict({"features": np.float32([[SHORT, 0, 0]] * 2)}, "linear"))
    part.refused("out of its range", "out-of-range", lambda: rpc.predict(at(31), "linear"), '"features"')
    part.refused("another version", "not-granted", lambda: rpc.predict(at(1), "linear", version=4))
    asked = [call for call in requests.get(places.tf_seen, timeout=30).json() if call["by"] == "gate"]
    forms = {json.dumps(call["asked"], sort_keys=True) for call in asked}
    made = {json.dumps({"version": 3, "signature": "serving_default", "filter": ["scores", "best"], "inputs": ["features"]}, sort_keys=True)}
    fields = {name for call in asked for name in call["headers"]}
    table.row("what the server got", sorted(forms), sorted(fields), forms == made and "x-api-key" not in fields)

    table.head("TF Serving's REST by requests")
    rest = Rest(f"http://{places.plain}", key)
    part = Part(table, "REST", 0, told_by_requests)
    rows = json.dumps({"signature_name": "serving_default", "instances": image().tolist()})
    part.same("predict, rows", expected, lambda: rest.predict(rows))
    part.same("predict, rows of named inputs", expected, lambda: rest.predict(json.dumps({"instances": [{"image": row} for row in image().tolist()]})))
    part.same("predict, columns", expected, lambda: rest.predict(json.dumps({"inputs": {"image": image().tolist()}})))
    part.same("predict, version 1", expected, lambda: rest.predict(rows, "digits/versions/1"))
    part.same("status", lambda: [{"version": "1", "state": "AVAILABLE"}], lambda: [{k: each[k] for k in ("version", "state")} for each in rest.get("digits")["model_version_status"]])
    signature = lambda: rest.get("digits/metadata")["metadata"]["signature_def"]["signature_def"]["serving_default"]
    part.same("metadata", lambda: ["image", "probabilities"], lambda: [*signature()["inputs"], *signature()["outputs"]])
    part.refused("NaN, as Python writes it", "malformed", lambda: rest.predict(json.dumps({"instances": (image() * np.float32("nan")).tolist()})))
    part.refused("a text for a number", "datatype", lambda: rest.predict(json.dumps({"instances": [[[["x"] * 8] * 8]]})), '"image"')
    part.refused("another shape", "shape", lambda: rest.predict(json.dumps({"instances": [[1.0] * 64]})), '"image"')
    part.refused("out of its range", "out-of-range", lambda: rest.predict(json.dumps({"instances": (image() + 100).tolist()})), '"image"')
    part.same("predict, as curl -d declares it", expected, lambda: rest.predict(rows, headers={"content-type": "application/x-www-form-urlencoded"}))
    part.refused("classify", "not-an-inference-route", lambda: requests.post(f"{rest.base}/v1/models/digits:classify", data=rows, headers=rest.headers, timeout=30).raise_for_status())
    part.refused("a model that is not there", "not-granted", lambda: rest.predict(rows, "nothing"))
    part.refused("an unknown key", "unauthenticated", lambda: Rest(rest.base, wrong).predict(rows))
    part.refused("one too many", "rate-limited", lambda: Rest(rest.base, burst).predict(rows))
    part.same("predict with TLS", expected, lambda: Rest(f"https://{places.tls}", key, places.ca).predict(rows))
