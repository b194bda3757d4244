"""Direct calls of TF Serving's stand-in: messages of its API package, reported as HTTP's status and
JSON.
"""

import json

import grpc
import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

LONG_BYTES = 64 << 20


def ask(port, rows, seconds):
    """Status and text of an inference."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "double"
    x = request.inputs["x"]
    x.dtype, x.tensor_content = types_pb2.DT_FLOAT, np.array(rows, np.float32).tobytes()
    for size in (len(rows), 2):
        x.tensor_shape.dim.add(size=size)
    with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_receive_message_length", LONG_BYTES)]) as channel:
        try:
            answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=seconds)
        except grpc.RpcError as error:
            return 500, f"{error.code().name}: {error.details()}"
    outputs = {}
    for name, output in answer.outputs.items():
        values = list(output.float_val) or [str(value) for value in output.int64_val]
        outputs[name] = np.array(values).reshape([dim.size for dim in output.tensor_shape.dim]).tolist()
    return 200, json.dumps(outputs)
