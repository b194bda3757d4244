"""The calls that a server behind the gate has received: how many, from which way, and in what form.
They are served on a port of their own that the gate does not know.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# How callers that use a server directly identify themselves: the key over HTTP, a field over gRPC.
DIRECT_KEY = "directly"
DIRECT_FIELD = ("x-side", "directly")


class Seen:
    """Counts calls. A caller that uses a server directly says so; every other call came through the
    gate, or around it.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.calls = []

    def note(self, **what):
        """Records one call; values that are added to the entry later are reported too."""
        with self.lock:
            self.calls.append(what)
        return what

    def tell(self):
        """Answers `GET /` with all of it, on a port of its own; returns the port."""
        seen = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                with seen.lock:
                    body = json.dumps(seen.calls).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server.server_port
