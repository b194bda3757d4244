"""A client over gRPC, with Triton's messages."""

import struct

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from tritonclient.grpc import service_pb2, service_pb2_grpc

from load import TIMEOUT_S, key

# A client that comes again soon: by default gRPC waits for up to two minutes.
AGAIN = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]


class Rpc:
    """A client that calls ModelInfer on a channel that it keeps."""

    def __init__(self, address, model, name):
        self.request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[struct.pack("<64f", *[1] * 64)])
        tensor = self.request.inputs.add(name="image", datatype="FP32")
        tensor.shape.extend([1, 1, 8, 8])
        self.metadata = [("x-api-key", key(name))]
        # Each client has a connection of its own.
        self.channel = grpc.insecure_channel(address, [*AGAIN, ("grpc.use_local_subchannel_pool", 1)])
        self.call = service_pb2_grpc.GRPCInferenceServiceStub(self.channel).ModelInfer

    def ask(self):
        """What comes of one call, and its id."""
        try:
            _, call = self.call.with_call(self.request, metadata=self.metadata, timeout=TIMEOUT_S)
            return "200", dict(call.initial_metadata()).get("x-request-id")
        except grpc.RpcError as error:
            return denial(error), None


def denial(error):
    """The status of a failed call, with its reason. A status without one is the library's own."""
    details = {}
    status = rpc_status.from_call(error)
    for each in status.details if status else []:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo):
            if each.Is(kind.DESCRIPTOR):
                details[kind] = kind()
                each.Unpack(details[kind])
    code = error.code().name
    if error_details_pb2.ErrorInfo not in details:
        text = error.details()
        if code == "UNAVAILABLE" and ("Socket closed" in text or "Connection reset" in text or "Broken pipe" in text):
            return "closed"
        return "refused" if code == "UNAVAILABLE" and "Connection refused" in text else f"{code}: {text}"
    if code == "UNAVAILABLE" and error_details_pb2.RetryInfo not in details:
        return "UNAVAILABLE without RetryInfo"
    return f"{code} {details[error_details_pb2.ErrorInfo].reason}"
