"""A client like grpcurl: it describes services by reflection or from a .proto file, and has no
generated code. The server behind the gate offers reflection. The gate does not, because reflection
lists everything that a server can be asked.
"""

import base64

import grpc
from common import COUNT, DIGITS, ECHO, REFUSED, TEXT, Direct, Oip, Part, attempt, raw, told_by_grpc
from described import Service, pool_of
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from seen import DIRECT_FIELD

REFLECTIONS = [f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1alpha", "v1")]


def listed(channel, fields, path=REFLECTIONS[0]):
    """The services that a server lists by reflection."""
    ask = channel.stream_stream(path, reflection_pb2.ServerReflectionRequest.SerializeToString, reflection_pb2.ServerReflectionResponse.FromString)
    answers = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), metadata=fields, timeout=10)
    return sorted(service.name for answer in answers for service in answer.list_services_response.service)


def unary(channel, fields, path):
    """A call with an empty message, to any path."""
    return channel.unary_unary(path)(b"", metadata=fields, timeout=10)


def ask(table, places):
    """Runs all calls."""
    direct = Direct(places)
    itself, gate = grpc.insecure_channel(places.echoes), grpc.insecure_channel(places.plain)
    fields = lambda name: [("x-api-key", places.keys[name])]
    part = Part(table, "reflection", 1, told_by_grpc)

    table.head("gRPC by descriptions: reflection, which is for the server alone")
    before = lambda path: lambda: listed(itself, [DIRECT_FIELD], path)
    part.refused("list, v1alpha", "not-an-inference-route", lambda: listed(gate, fields("scorer")), direct=before(REFLECTIONS[0]))
    part.refused("list, v1", "not-an-inference-route", lambda: listed(gate, fields("scorer"), REFLECTIONS[1]))
    part.refused("list, without a key", "unauthenticated", lambda: listed(gate, []), direct=before(REFLECTIONS[0]))
    part.refused("list, with an unknown key", "unauthenticated", lambda: listed(gate, fields("unknown")))
    part.refused("as one call", "not-an-inference-route", lambda: unary(gate, fields("scorer"), REFLECTIONS[0]))
    for spelling in (REFLECTIONS[0].lower(), "/" + REFLECTIONS[0], REFLECTIONS[0] + "/"):
        status = told_by_grpc(attempt(lambda: listed(gate, fields("scorer"), spelling))[1])
        table.row(f"reflection: {spelling}", "-", status, status[0] in ("UNIMPLEMENTED", "INVALID_ARGUMENT"))

    def discovered():
        """The service as the server itself describes it."""
        return Service(DescriptorPool(ProtoReflectionDescriptorDatabase(itself)), gate, fields("scorer"))

    table.head("gRPC by descriptions: calls")
    theirs = discovered()
    methods = lambda service: sorted(service.methods)
    part.same("what the server says is what the .proto file says", lambda: methods(Service(pool_of(), gate)), lambda: methods(theirs))
    by_file = Oip(gate, fields("scorer"))
    file = Part(table, ".proto file", 1, told_by_grpc)
    file.oip(by_file.infer, direct.infer, direct.infer)
    by_server = Oip(gate, fields("scorer"))
    by_server.service = theirs
    Part(table, "described by reflection", 1, told_by_grpc).oip(by_server.infer, direct.infer, refused=REFUSED[:2])
    json = {
        "modelName": "echo",
        "id": "mine",
        "inputs": [
            {"name": "text", "datatype": "BYTES", "shape": [3], "contents": {"bytesContents": [base64.b64encode(each).decode() for each in TEXT]}},
            {"name": "count", "datatype": "INT64", "shape": [2, 2], "contents": {"int64Contents": [str(each) for each in COUNT.ravel()]}},
        ],
    }

    def typed(service):
        """Typed contents, as in JSON. Whether an answer is in raw form depends on the server."""
        answer = service.ask("ModelInfer", json)
        contents = [base64.b64decode(each) for each in answer.get("rawOutputContents", [])]
        return answer["id"], [output["name"] for output in answer["outputs"]], contents

    expected = lambda: ("mine", ["text", "count"], [raw(array) for *_, array in ECHO])
    file.same("typed contents, as JSON", expected, lambda: typed(by_file.service))
    servers = Service(pool_of(), itself, [DIRECT_FIELD])
    for method, request in (("ModelMetadata", {"name": "echo"}), ("ModelReady", {"name": "echo"}), ("ServerLive", {}), ("ServerReady", {})):
        # The gate does not reveal the platform of a model.
        known = lambda service: {name: value for name, value in service.ask(method, request).items() if name != "platform"}
        file.same(method, lambda: known(servers), lambda: known(by_file.service))
    named = by_file.service.ask("ServerMetadata", {})
    table.row(".proto file: ServerMetadata names the gate alone", servers.ask("ServerMetadata", {})["name"], named, named == {"name": "tensorgate"})
    file.refused("an unknown key", "unauthenticated", lambda: Oip(gate, fields("unknown")).infer("digits", DIGITS))
    file.refused("a client without grants", "not-granted", lambda: Oip(gate, fields("stranger")).infer("digits", DIGITS))
    file.refused("one too many", "rate-limited", lambda: Oip(gate, fields("burst")).infer("digits", DIGITS))
    token = [("authorization", f"Bearer {places.tokens['good']}")]
    file.same("with a token", lambda: direct.infer("digits", DIGITS), lambda: Oip(gate, token).infer("digits", DIGITS))
    expired = [("authorization", f"Bearer {places.tokens['expired']}")]
    file.refused("with an expired token", "unauthenticated", lambda: Oip(gate, expired).infer("digits", DIGITS))
