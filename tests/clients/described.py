"""A gRPC service from its description at run time, as grpcurl has it: a .proto file or a server's own word (reflection); no generated code."""

import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parents[2] / "wire/proto/open_inference_grpc.proto"
OIP = "inference.GRPCInferenceService"


def pool_of(proto=PROTO):
    """What a .proto file describes, in a pool of its own: clients bring messages of the same names."""
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
        """An empty message that a method takes."""
        return message_factory.GetMessageClass(self.methods[method].input_type)()

    def send(self, method, request, seconds=30):
        """One call, and the answer's message."""
        answered = message_factory.GetMessageClass(self.methods[method].output_type)
        call = self.channel.unary_unary(f"/{self.name}/{method}", type(request).SerializeToString, answered.FromString)
        return call(request, metadata=self.metadata, timeout=seconds)

    def ask(self, method, request):
        """The same of JSON, which is how grpcurl speaks."""
        answer = self.send(method, json_format.ParseDict(request, self.message(method)))
        return json_format.MessageToDict(answer)
