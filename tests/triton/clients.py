"""The unmodified tritonclient, connected to Triton directly and to the gate, and what its
exceptions show.
"""

import http.client

import grpc
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException


class Side:
    """One of the two ways to the models."""

    def __init__(self, name, http_address, grpc_address, key=None):
        self.name = name
        self.http_address, self.grpc_address = http_address, grpc_address
        self.headers = {"x-api-key": key} if key else {}
        self.http = tritonclient.http.InferenceServerClient(http_address, network_timeout=30)
        self.grpc = tritonclient.grpc.InferenceServerClient(grpc_address)
        self.channel = grpc.insecure_channel(grpc_address)

    def client(self, protocol):
        """The client of a protocol, and its module."""
        if protocol == "http":
            return self.http, tritonclient.http
        return self.grpc, tritonclient.grpc

    def raw(self, method, path, body=b""):
        """One HTTP exchange with exactly this path: status, body."""
        connection = http.client.HTTPConnection(self.http_address, timeout=30)
        try:
            connection.request(method, path, body, self.headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def call(self, path):
        """One gRPC call with an empty message to exactly this path: the name of its status, its
        text.
        """
        try:
            self.channel.unary_unary(path)(b"", metadata=tuple(self.headers.items()), timeout=30)
            return "OK", ""
        except grpc.RpcError as error:
            return error.code().name, error.details()

    def close(self):
        """Ends its connections."""
        self.http.close()
        self.grpc.close()
        self.channel.close()


def attempt(call):
    """The result of a call: its value and None, or None and the client's exception."""
    try:
        return call(), None
    except InferenceServerException as error:
        return None, error


def status(error):
    """The status that an exception of the client shows: HTTP's number or gRPC's name."""
    return str(error.status() or "").removeprefix("StatusCode.")
