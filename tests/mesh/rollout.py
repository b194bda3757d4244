"""The end of a pod as in a rollout: eight clients keep their connections to it, half over HTTP/1.1 and half
over gRPC, each with one request of 1 MiB after the other. The containers end as the kubelet ends them, and
proxies of a platform as the platform ends them. No request is lost, every client has been told to leave,
and the audit log has every request.
"""

import http.client
import socket
import ssl
import struct
import subprocess
import threading
import time
import urllib.request

import calls
from processes import wait

CLIENTS = 8
# Requests that each client has been served before the pod ends.
BEFORE = 2
# The proxy that clients connect to, and how the platform asks it to drain: Istio's agent, and Envoy Gateway's
# shutdown manager. Kubernetes runs the command that is rendered.
DRAINED = {
    "kubernetes": ("envoy", None),
    "istio-sidecar": ("sidecar", "/drain_listeners?graceful"),
    "gateway": ("gateway", "/healthcheck/fail"),
}
# What replaces the times of the rendered command. All clients leave long before the second is over.
TIMES = {"--leave-seconds": "1", "--seconds": "20"}
# A client that is busy until the end of the time would be cut off.
LEFT_WITHIN_S = 15
ANSWER_S = 20
# Between two requests of a client, so that all together stay within the policy's quota.
PAUSE_S = 0.1

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
        if gate.target == "istio-sidecar":
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


class Client:
    """One client, until it is told to leave or loses a request."""

    def __init__(self, connection):
        self.connection, self.served, self.fault = connection, 0, None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        leaves = False
        try:
            while not leaves:
                leaves = self.connection.request()
                self.served += 1
                time.sleep(0 if leaves else PAUSE_S)
        except Lost as lost:
            self.fault = str(lost)
        finally:
            self.connection.close()


def command(pod, container):
    """The command before the signal of a container, with shorter times."""
    found = container["lifecycle"]["preStop"]["exec"]["command"]
    return [TIMES.get(before, pod.local(word)) for before, word in zip(["", *found], found)]


def drain(gate, clients):
    """Drains the proxy of a gate. Returns the faults."""
    name, path = DRAINED[gate.target]
    if path:
        request = urllib.request.Request(f"http://{gate.admins[name]}{path}", method="POST")
        urllib.request.urlopen(request, timeout=ANSWER_S).close()
        wait("the end of all connections", lambda: not any(client.thread.is_alive() for client in clients), seconds=LEFT_WITHIN_S)
        return []
    words = command(gate.pod, gate.pod.container(name))
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    return [f"{words} ended with {done.returncode}: {done.stderr}"] if done.returncode else []


def end(gate, clients):
    """Ends the pod: the proxy is drained, then it gets its signal, and after its end the host. Returns the
    faults.
    """
    faults = drain(gate, clients)
    running = {process.name: process.process for process in gate.pod.running}
    for name in (DRAINED[gate.target][0], "host"):
        running[name].terminate()
        running[name].wait(ANSWER_S)
    return faults


def rolled_out(gate):
    """Ends the pod of a gate under load. Returns the faults."""
    lines = lambda: sum(one.get("reason") == "ok" for one in gate.decisions())
    before = lines()
    clients = [Client((Http1, Grpc)[number % 2](gate)) for number in range(CLIENTS)]
    busy = lambda: all(client.served >= BEFORE or client.fault for client in clients)
    faults = []
    try:
        wait("the clients", busy, seconds=30)
        started = time.monotonic()
        faults += end(gate, clients)
        took = time.monotonic() - started
    finally:
        for client in clients:
            client.thread.join(ANSWER_S)
    faults += [f"while the pod ended: {client.fault}" for client in clients if client.fault]
    if took > LEFT_WITHIN_S:
        faults.append(f"the pod took {took:.1f} s to end")
    served = sum(client.served for client in clients)
    logged = lines() - before
    if logged != served:
        faults.append(f"the audit log has {logged} of {served} requests of a pod that ended")
    print(f"{gate.target}: {served} requests of {CLIENTS} kept connections, and the pod ended in {took:.1f} s")
    return faults
