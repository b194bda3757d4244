"""One request across all parts: a client whose trace is not trusted, Envoy, the host, a handler,
and a backend over HTTP that keeps what it gets.
"""

import hashlib
import http.server
import json
import shutil
import threading

import decisions
import metrics
from log_records import values
from processes import TOP, wait
from traces import ARRIVES_S, ENVOY, HOST

MODEL, HANDLER = "average", "passthrough"
COMPONENT = TOP / f"target/components/{HANDLER}.wasm"
# The backend and the component's digest in the policy's file.
ENDPOINT, DIGEST = "http://127.0.0.2:9", "sha256: PASSTHROUGH"
# A client's context. It asks for no sampling, and nothing of it reaches the backend.
CLIENT_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CONTEXT = {
    "traceparent": f"00-{CLIENT_TRACE}-00f067aa0ba902b7-00",
    "tracestate": "vendor=client",
    "baggage": "tenant=client",
}
# The trace: how deep each span is, its service and its name.
EXPECTED = [
    (0, ENVOY, "ingress"),
    (1, HOST, f"infer {MODEL}"),
    (2, HOST, f"handler {HANDLER}"),
    (2, HOST, "queue"),
    (2, HOST, "backend"),
]


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers the average of a request's numbers, and keeps its header fields."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        """Answers an inference."""
        numbers = json.loads(self.rfile.read(int(self.headers["content-length"])))["x"]
        self.server.received.append([(name.lower(), value) for name, value in self.headers.items()])
        body = json.dumps({"score": sum(numbers) / len(numbers)}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Writes nothing for a request."""


class ModelServer:
    """The server of the model."""

    def __init__(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.server.received = []
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def received(self):
        """The header fields of each inference, as pairs."""
        return list(self.server.received)


def set_up(folder, server):
    """Copies the handler beside the policy. Returns what to replace in the policy's text."""
    copy = shutil.copy(COMPONENT, folder)
    with open(copy, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {ENDPOINT: server.url, DIGEST: f"sha256: {digest}"}


def is_ready(page):
    """Whether the host's page says that the model is ready."""
    samples = [each for each in metrics.values(page) if each[0] == "tensorgate_host_model_ready"]
    return any(labels["model"] == MODEL and float(value) == 1 for _, labels, value in samples)


def records(log):
    """The audit records of the model's requests."""
    lines = [json.loads(text) for text in log.read_text().split("\n")[:-1]]
    return [line for line in lines if line["type"] == "decision" and line.get("model") == MODEL]


def tree(collector, trace_id):
    """The spans of a trace from the first one down: (depth, service, span). A span whose parent has
    not arrived is left out.
    """
    found = [each for each in collector.spans() if each[1].trace_id.hex() == trace_id]
    below = {}
    for resource, span in sorted(found, key=lambda each: each[1].start_time_unix_nano):
        service = values(resource.attributes)["service.name"]
        below.setdefault(span.parent_span_id, []).append((service, span))

    def walk(parent, depth):
        for service, span in below.get(parent, []):
            yield depth, service, span
            yield from walk(span.span_id, depth + 1)

    return list(walk(b"", 0))


def names(spans):
    """A tree without what differs from request to request."""
    return [(depth, service, span.name) for depth, service, span in spans]


def show(trace_id, spans):
    """Prints a tree."""
    print(f"one request across all parts, trace {trace_id}:")
    for depth, service, span in spans:
        took_ms = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
        name = "   " * depth + span.name
        print(f"   {name:<28}{service:<20}{took_ms:>6.1f} ms", flush=True)


def faults_of_backend(received, backend):
    """What the backend gets of traces: one `traceparent`, of the span of its own call."""
    if len(received) != 1:
        return [f"the backend has had {len(received)} requests; expected one"]
    fields = received[0]
    of_traces = [field for field in fields if "trace" in field[0] or field[0] == "baggage"]
    expected = f"00-{backend.trace_id.hex()}-{backend.span_id.hex()}-01"
    if of_traces != [("traceparent", expected)]:
        return [f"the backend gets {of_traces}; expected only the traceparent {expected}"]
    return []


def faults_of(gate, read_page, server, collector, log):
    """Sends one request. All its spans must be in one trace, whose ID the audit record has and the
    backend gets. The client's trace is only a link.
    """
    wait(f"the model {MODEL}", lambda: is_ready(read_page()), gate.process, ARRIVES_S)
    path = f"/v2/models/{MODEL}/infer"
    headers = decisions.WITH_KEY | CONTEXT
    status = decisions.send(gate.address, "POST", path, headers, decisions.inference(2))
    if status != 200:
        return [f"the model {MODEL} answers {status}"]
    (record,) = wait("the audit record", lambda: records(log), gate.process, ARRIVES_S)
    trace_id = record.get("trace_id")
    try:
        wait("spans", lambda: len(tree(collector, trace_id)) >= len(EXPECTED), seconds=ARRIVES_S)
    except RuntimeError:
        # The comparison says what is missing.
        pass
    spans = tree(collector, trace_id)
    if names(spans) != EXPECTED:
        return [f"the trace {trace_id} of an audit record is {names(spans)}; expected {EXPECTED}"]
    links = [link.trace_id.hex() for link in spans[1][2].links]
    faults = faults_of_backend(server.received(), spans[-1][2])
    if links != [CLIENT_TRACE] or trace_id == CLIENT_TRACE:
        faults.append(f"the client's trace is not only a link: trace {trace_id}, links {links}")
    show(trace_id, spans)
    return faults
