"""A real OpenTelemetry collector, and a server behind it that keeps what it sends: log records and
spans.

The collector is Rotel, from its Python package. It receives OTLP over HTTP, and sends what it has
confirmed before it stops.
"""

import gzip
import http.server
import socket
import sysconfig
import threading
from pathlib import Path

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from processes import Process, free_ports, wait

PROGRAM = Path(sysconfig.get_path("platlib")) / "rotel/rotel-agent"
# The program is linked to Python's shared library. Nothing else of this process's environment,
# such as a proxy, reaches it.
ENVIRONMENT = {"LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR")}


class Keep(http.server.BaseHTTPRequestHandler):
    """Keeps the log records or spans of a request."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        """Receives log records or spans."""
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["content-encoding"] == "gzip":
            body = gzip.decompress(body)
        if self.path.endswith("/v1/traces"):
            for traces in ExportTraceServiceRequest.FromString(body).resource_spans:
                spans = [span for scope in traces.scope_spans for span in scope.spans]
                self.server.spans.extend((traces.resource, span) for span in spans)
        else:
            for logs in ExportLogsServiceRequest.FromString(body).resource_logs:
                records = [record for scope in logs.scope_logs for record in scope.log_records]
                self.server.received.extend((logs.resource, record) for record in records)
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Writes nothing for a request."""


class Collector:
    """The collector, which can be stopped and started again, and the server behind it."""

    def __init__(self, folder):
        self.log, self.process = folder / "collector.log", None
        self.port, self.grpc_port = free_ports(2)
        self.behind = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keep)
        self.behind.received, self.behind.spans = [], []
        threading.Thread(target=self.behind.serve_forever, daemon=True).start()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        self.behind.shutdown()
        self.behind.server_close()

    def start(self):
        """Starts the collector, and waits until it listens."""
        arguments = [PROGRAM, "start", "--exporter", "otlp", "--otlp-exporter-protocol", "http"]
        arguments += ["--otlp-exporter-endpoint", f"http://127.0.0.1:{self.behind.server_port}"]
        arguments += ["--otlp-http-endpoint", f"127.0.0.1:{self.port}"]
        arguments += ["--otlp-grpc-endpoint", f"127.0.0.1:{self.grpc_port}"]
        self.process = Process("collector", arguments, self.log, ENVIRONMENT)
        try:
            wait("the collector", self.listens, self.process.process)
        except RuntimeError as error:
            log = self.process.tail()
            self.stop()
            raise RuntimeError(f"{error}\n{log}") from error

    def listens(self):
        """Whether the collector accepts connections."""
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        """Stops the collector, if it runs."""
        if self.process:
            self.process.stop()
            self.process = None

    def received(self):
        """What has arrived behind the collector: log records, each with its resource."""
        return list(self.behind.received)

    def spans(self):
        """The spans that have arrived behind the collector, each with its resource."""
        return list(self.behind.spans)
