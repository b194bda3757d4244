"""A gRPC client that reads the service's description at run time, as grpcurl does: from a .proto
file or by reflection. It has no generated code.
"""

import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[2] / "wire/proto/open_inference_grpc.proto"
OIP = "inference.GRPCInferenceService"


def pool_of(proto=PROTO):
    """The contents of a .proto file in a pool of its own: clients bring messages of the same names.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "described")
        if protoc.main(["protoc", f"--proto_path={proto.parent}", f"--descriptor_set_out={out}", "--include_imports", proto.name]):
            raise RuntimeError(f"protoc could not read {proto}")
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


class Service:
    """A service's methods over a channel."""

    def __init__(self, pool, channel, metadata=(), name=OIP):
        self.name, self.channel, self.metadata = name, channel, tuple(metadata)
        self.methods = pool.FindServiceByName(name).methods_by_name

    def message(self, method):
        """An empty message of a method's input type."""
        return message_factory.GetMessageClass(self.methods[method].input_type)()

    def send(self, method, request, seconds=30):
        """One call; returns the answer's message."""
        answered = message_factory.GetMessageClass(self.methods[method].output_type)
        call = self.channel.unary_unary(f"/{self.name}/{method}", type(request).SerializeToString, answered.FromString)
        return call(request, metadata=self.metadata, timeout=seconds)

    def ask(self, method, request):
        """The same with JSON, which grpcurl uses."""
        answer = self.send(method, json_format.ParseDict(request, self.message(method)))
        return json_format.MessageToDict(answer)
