"""What a server behind the gate has seen, told on a port of its own that the gate does not know: how many calls, whose, and of what form."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What callers who come to a server itself say: the key of HTTP's, a field of gRPC's.
DIRECT_KEY = "directly"
DIRECT_FIELD = ("x-side", "directly")


class Seen:
    """Counts what came. Whoever calls a server directly says so; everything else came through the gate, or past it."""

    def __init__(self):
        self.lock = threading.Lock()
        self.calls = []

    def note(self, **what):
        """One call; what is put into the answer later is told too."""
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
