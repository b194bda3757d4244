"""Kept connections to a gate, over HTTP/1.1 and gRPC, each with one request of 1 MiB after the other. They
see what a client sees of a proxy that drains: `Connection: close`, and GOAWAY.
"""

import http.client
import socket
import ssl
import struct

import calls

ANSWER_S = 20

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
FRAME_BYTES = 16_384
# Default of both windows, and the setting for those of streams.
WINDOW_BYTES, INITIAL_WINDOW = 65_535, 4


class Lost(Exception):
    """A request that was sent, or might have been, and has no answer."""


def connect(gate, protocol):
    """(connection, authority): with TLS and this protocol of ALPN where the gate has TLS."""
    scheme, _, authority = gate.base.partition("://")
    connection = socket.create_connection(("127.0.0.1", int(authority.rpartition(":")[2])), timeout=ANSWER_S)
    if scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols([protocol])
        if gate.target.startswith("istio-sidecar"):
            folder = gate.certificates.folders["client"]
            context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        connection = context.wrap_socket(connection, server_hostname=authority.partition(":")[0])
    return connection, authority


class Http1:
    """A kept connection over HTTP/1.1."""

    def __init__(self, gate):
        connection, authority = connect(gate, "http/1.1")
        self.connection = http.client.HTTPConnection(authority, timeout=ANSWER_S)
        self.connection.sock = connection
        self.body, headers = calls.large_binary()
        self.headers = dict(field.split(": ", 1) for field in [*headers, calls.AUTHORIZED])

    def request(self):
        """Sends a request. Returns whether the client has to leave."""
        try:
            self.connection.request("POST", calls.MODEL, self.body, self.headers)
            answer = self.connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Lost(f"HTTP/1.1: {error!r}") from None
        if answer.status != 200:
            raise Lost(f"HTTP/1.1: {answer.status} {text[:200]}")
        return answer.will_close

    def close(self):
        self.connection.close()


def field(number, value):
    """A field of protobuf that holds bytes."""
    return bytes([number << 3 | 2]) + varint(len(value)) + value


def varint(value):
    """A number of protobuf."""
    made = b""
    while value > 127:
        made, value = made + bytes([value & 127 | 128]), value >> 7
    return made + bytes([value])


def message():
    """A ModelInferRequest of 1 MiB with its prefix of gRPC."""
    shape = b"".join(varint(size) for size in (calls.ROWS, 1, 8, 8))
    tensor = field(1, b"image") + field(2, b"FP32") + field(3, shape)
    data = struct.pack("<f", 2.5) * (calls.ROWS * calls.PIXELS)
    made = field(1, b"scores") + field(5, tensor) + field(7, data)
    return b"\0" + struct.pack(">I", len(made)) + made


def literal(name, value):
    """A header that HPACK takes as it is."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


class Grpc:
    """A kept connection over HTTP/2, with one call at a time."""

    def __init__(self, gate):
        self.socket, authority = connect(gate, "h2")
        self.read = self.socket.makefile("rb")
        self.stream, self.leaves, self.message = -1, False, message()
        self.window, self.initial = WINDOW_BYTES, WINDOW_BYTES
        fields = {
            ":method": "POST", ":scheme": gate.base.partition(":")[0], ":path": calls.GRPC,
            ":authority": authority, "content-type": "application/grpc", "te": "trailers", "x-api-key": calls.KEY,
        }
        self.head = b"".join(literal(name, value) for name, value in fields.items())
        self.socket.sendall(PREFACE)
        self._send(SETTINGS, 0, 0, b"")

    def _send(self, kind, flags, stream, payload):
        self.socket.sendall(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload)

    def request(self):
        """Makes a call. Returns whether the client has to leave."""
        try:
            return self._request()
        except OSError as error:
            raise Lost(f"gRPC: {error!r}") from None

    def _request(self):
        self.stream += 2
        self.left, self.got, self.ended = self.initial, 0, False
        self._send(HEADERS, END_HEADERS, self.stream, self.head)
        rest = self.message
        while rest and not self.ended:
            size = min(len(rest), FRAME_BYTES, self.window, self.left)
            if size <= 0:
                self._take()
                continue
            part, rest = rest[:size], rest[size:]
            self.window, self.left = self.window - size, self.left - size
            self._send(DATA, 0 if rest else END_STREAM, self.stream, part)
        while not self.ended:
            self._take()
        # An answer of probabilities, and not a status alone.
        if self.got < calls.ROWS * 40:
            raise Lost(f"gRPC: an answer of {self.got} bytes")
        return self.leaves

    def _take(self):
        """Takes one frame."""
        head = self.read.read(9)
        if len(head) < 9:
            raise Lost("gRPC: the connection ended")
        size, kind, flags = int.from_bytes(head[:3]), head[3], head[4]
        stream = int.from_bytes(head[5:])
        payload = self.read.read(size)
        if kind == SETTINGS and not flags & ACK:
            for at in range(0, size, 6):
                name, value = struct.unpack(">HI", payload[at : at + 6])
                if name == INITIAL_WINDOW:
                    self.left, self.initial = self.left + value - self.initial, value
            self._send(SETTINGS, ACK, 0, b"")
        elif kind == PING and not flags & ACK:
            self._send(PING, ACK, 0, payload)
        elif kind == WINDOW_UPDATE:
            grown = int.from_bytes(payload)
            self.window, self.left = (self.window + grown, self.left) if stream == 0 else (self.window, self.left + grown)
        elif kind == GOAWAY:
            self.leaves = True
            if int.from_bytes(payload[:4]) < self.stream:
                raise Lost("gRPC: GOAWAY before the call")
        elif kind == RST_STREAM:
            raise Lost(f"gRPC: the call was reset: {int.from_bytes(payload)}")
        elif kind == DATA and size:
            self.got += size
            for each in (0, stream):
                self._send(WINDOW_UPDATE, 0, each, struct.pack(">I", size))
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self.ended = True

    def close(self):
        self.read.close()
        self.socket.close()
