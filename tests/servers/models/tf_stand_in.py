"""`double` behind the services and messages of TF Serving's own API package. It replaces TF Serving
itself, for which no package exists. Arguments: its port, the name of its output.
"""

import sys
import time
from concurrent import futures

import grpc
import numpy as np
from double import double, name, wait_s
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

DATATYPES = {"float32": (types_pb2.DT_FLOAT, "float_val"), "int64": (types_pb2.DT_INT64, "int64_val")}


class Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Inference and metadata."""

    def __init__(self, output):
        self.output = output

    def Predict(self, request, context):
        proto = request.inputs["x"]
        x = np.frombuffer(proto.tensor_content, np.float32).reshape([dim.size for dim in proto.tensor_shape.dim])
        time.sleep(wait_s(x))
        try:
            y = double(x)
        except RuntimeError as error:
            context.abort(grpc.StatusCode.INTERNAL, str(error))
        answer = predict_pb2.PredictResponse()
        answer.model_spec.name, answer.model_spec.version.value = "double", 1
        datatype, values = DATATYPES[y.dtype.name]
        output = answer.outputs[name(x)]
        output.dtype = datatype
        for size in y.shape:
            output.tensor_shape.dim.add(size=size)
        getattr(output, values).extend(y.ravel().tolist())
        return answer

    def GetModelMetadata(self, request, context):
        signatures = get_model_metadata_pb2.SignatureDefMap()
        signature = signatures.signature_def["serving_default"]
        signature.method_name = "tensorflow/serving/predict"
        for side, name in ((signature.inputs, "x"), (signature.outputs, self.output)):
            side[name].name, side[name].dtype = f"serving_default_{name}:0", types_pb2.DT_FLOAT
            for size in (-1, 2):
                side[name].tensor_shape.dim.add(size=size)
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.model_spec.name, answer.model_spec.version.value = "double", 1
        answer.metadata["signature_def"].Pack(signatures)
        return answer


class Models(model_service_pb2_grpc.ModelServiceServicer):
    """The status of its one version."""

    def GetModelStatus(self, request, context):
        if request.model_spec.name != "double":
            context.abort(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model None")
        answer = get_model_status_pb2.GetModelStatusResponse()
        answer.model_version_status.add(version=1, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE)
        return answer


def main(port, output):
    """Serves until it is stopped."""
    server = grpc.server(futures.ThreadPoolExecutor(8))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Prediction(output), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
