"""A small gRPC server of the Open Inference Protocol with reflection and two models, `echo` and
`notes`, which return their inputs. Prints its two ports. Direct callers identify themselves in their
metadata.
"""

import json
import sys
from concurrent import futures

import grpc
from described import OIP, pool_of
from google.protobuf import message_factory
from grpc_reflection.v1alpha import reflection
from seen import DIRECT_FIELD, Seen

PORTS = {
    "echo": {"text": ("BYTES", [-1]), "count": ("INT64", [-1, 2])},
    "notes": {"text": ("BYTES", [-1, 1])},
}

seen = Seen()


def echo(kind, request):
    """Returns the inputs as outputs, in the form in which they came."""
    answer = kind(model_name=request.model_name, model_version="1", id=request.id)
    for tensor in request.inputs:
        output = answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if not request.raw_input_contents:
            output.contents.MergeFromString(tensor.contents.SerializeToString())
    answer.raw_output_contents.extend(request.raw_input_contents)
    wanted = {output.name for output in request.outputs}
    for index in reversed(range(len(answer.outputs))):
        if wanted and answer.outputs[index].name not in wanted:
            del answer.outputs[index]
            if answer.raw_output_contents:
                del answer.raw_output_contents[index]
    return answer


def metadata(kind, request):
    """A model's metadata."""
    answer = kind(name=request.name, versions=["1"], platform="none")
    for name, (datatype, shape) in PORTS[request.name].items():
        answer.inputs.add(name=name, datatype=datatype, shape=shape)
        answer.outputs.add(name=name, datatype=datatype, shape=shape)
    return answer


ANSWERS = {
    "ServerLive": lambda kind, _: kind(live=True),
    "ServerReady": lambda kind, _: kind(ready=True),
    "ModelReady": lambda kind, request: kind(ready=request.name in PORTS),
    "ServerMetadata": lambda kind, _: kind(name="echoes", version="1"),
    "ModelMetadata": metadata,
    "ModelInfer": echo,
}


def handler(method):
    """The handler of a method."""
    asked, answered = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))

    def answer(request, context):
        by = "directly" if DIRECT_FIELD in [(key, value) for key, value in context.invocation_metadata()] else "gate"
        names = sorted(key for key, _ in context.invocation_metadata())
        seen.note(method=method.name, by=by, headers=names, model=getattr(request, "model_name", getattr(request, "name", "")))
        return ANSWERS[method.name](answered, request)

    return grpc.unary_unary_rpc_method_handler(answer, asked.FromString, answered.SerializeToString)


def main():
    """Serves until it is stopped."""
    pool = pool_of()
    service = pool.FindServiceByName(OIP)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(OIP, {method.name: handler(method) for method in service.methods})])
    reflection.enable_server_reflection([OIP, reflection.SERVICE_NAME], server, pool=pool)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"port": port, "seen": seen.tell()}), flush=True)
    try:
        server.wait_for_termination()
    except KeyboardInterrupt:
        sys.exit()


if __name__ == "__main__":
    main()
