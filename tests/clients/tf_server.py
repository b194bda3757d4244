"""A small server of TF Serving's protocol, built from the services and messages of its API package:
one model, `linear`, and its metadata. It replaces TF Serving itself, for which no package exists.
Answers are in typed lists, as TF Serving's are. Prints its two ports.
"""

import json
import sys
from concurrent import futures

import grpc
import numpy as np
from seen import DIRECT_FIELD, Seen
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

WEIGHTS = np.array([[0.5, -1.0], [0.25, 2.0], [-0.75, 0.0]], np.float32)
# First features that make the model fail in different ways.
RAISES, NOT_A_NUMBER, ANOTHER_VERSION, SHORT = 29, 28, 27, 26

seen = Seen()


def checked(spec, context):
    """The spec, if it names the model here."""
    if spec.name not in ("", "linear") or (spec.HasField("version") and spec.version.value != 3):
        context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found: /srv/models/linear")
    return spec


class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Inference and metadata."""

    def Predict(self, request, context):
        fields = dict(context.invocation_metadata())
        by = "directly" if fields.get(DIRECT_FIELD[0]) == DIRECT_FIELD[1] else "gate"
        spec = checked(request.model_spec, context)
        asked = {"version": spec.version.value, "signature": spec.signature_name, "filter": list(request.output_filter), "inputs": sorted(request.inputs)}
        seen.note(method="Predict", by=by, headers=sorted(fields), asked=asked)
        proto = request.inputs["features"]
        features = np.frombuffer(proto.tensor_content, np.float32).reshape([dim.size for dim in proto.tensor_shape.dim])
        first = features[:, 0]
        if (first == RAISES).any():
            context.abort(grpc.StatusCode.INTERNAL, "Traceback: /srv/models/linear.py")
        scores = features @ WEIGHTS
        scores[first == NOT_A_NUMBER] = np.nan
        answer = predict_pb2.PredictResponse()
        answer.model_spec.name = "linear"
        answer.model_spec.version.value = 4 if (first == ANOTHER_VERSION).any() else 3
        answer.model_spec.signature_name = "serving_default"
        outputs = {"scores": (types_pb2.DT_FLOAT, "float_val", scores), "best": (types_pb2.DT_INT64, "int64_val", scores.argmax(axis=1))}
        for name, (datatype, values, array) in outputs.items():
            output = answer.outputs[name]
            output.dtype = datatype
            for size in array.shape:
                output.tensor_shape.dim.add(size=size)
            flat = array.ravel().tolist()
            getattr(output, values).extend(flat[:1] if (first == SHORT).any() else flat)
        return answer

    def GetModelMetadata(self, request, context):
        checked(request.model_spec, context)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        signature = signatures.signature_def["serving_default"]
        signature.method_name = "tensorflow/serving/predict"
        ports = {"features": (signature.inputs, types_pb2.DT_FLOAT, [-1, 3]), "scores": (signature.outputs, types_pb2.DT_FLOAT, [-1, 2]), "best": (signature.outputs, types_pb2.DT_INT64, [-1])}
        for name, (side, datatype, sizes) in ports.items():
            side[name].name, side[name].dtype = f"serving_default_{name}:0", datatype
            for size in sizes:
                side[name].tensor_shape.dim.add(size=size)
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.model_spec.name = "linear"
        answer.model_spec.version.value = 3
        answer.metadata["signature_def"].Pack(signatures)
        return answer


class Models(model_service_pb2_grpc.ModelServiceServicer):
    """The status of its one version."""

    def GetModelStatus(self, request, context):
        if request.model_spec.name != "linear":
            context.abort(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model None")
        answer = get_model_status_pb2.GetModelStatusResponse()
        answer.model_version_status.add(version=3, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE)
        return answer


def main():
    """Serves until it is stopped."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Prediction(), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"port": port, "seen": seen.tell()}), flush=True)
    try:
        server.wait_for_termination()
    except KeyboardInterrupt:
        sys.exit()


if __name__ == "__main__":
    main()
