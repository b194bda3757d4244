"""A server of a small model with its own JSON, as people write them with BentoML, Ray Serve or a
framework. It takes a POST of rows in objects, and answers with objects that have more members than
requested. Its answers depend only on the request. Prints its two ports.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from seen import DIRECT_KEY, Seen

# A made-up linear model: 4 features to 3 species.
WEIGHTS = np.array([[0.4, 0.1, -0.5], [1.2, -0.3, -0.9], [-1.6, 0.2, 1.4], [-0.9, -0.6, 1.5]], np.float32)
SPECIES = ["setosa", "versicolor", "virginica"]
# First features that make the model fail in different ways.
RAISES, NOT_A_NUMBER = 29, 28

seen = Seen()
ThreadingHTTPServer.request_queue_size = 128


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.note(None)
        self.answer(200, {"path": self.path})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        self.note(asked)
        if self.path != "/classify":
            return self.answer(200, {"path": self.path})
        features = np.array([row["features"] for row in asked["rows"]], np.float32)
        if (features[:, 0] == RAISES).any():
            return self.answer(500, {"traceback": "File /srv/iris/service.py, line 12, in classify"})
        scores = features @ WEIGHTS
        scores[features[:, 0] == NOT_A_NUMBER] = np.nan
        notes = [row.get("note", "") for row in asked["rows"]]
        results = [
            {"species": SPECIES[best], "scores": row, "echo": note, "explanation": {"model": "/srv/iris.pkl"}}
            for best, row, note in zip(scores.argmax(axis=1), scores.tolist(), notes, strict=True)
        ]
        self.answer(200, {"results": results, "threshold": asked.get("threshold", 0.5), "took_ms": 1.25})

    def note(self, asked):
        """Records the call and its caller."""
        by = "directly" if self.headers.get("authorization") == f"Bearer {DIRECT_KEY}" else "gate"
        headers = sorted(name.lower() for name in self.headers)
        return seen.note(method=self.command, path=self.path, by=by, headers=headers, asked=asked, end=None)

    def answer(self, status, value):
        """Sends a whole answer."""
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-served-by", "gpu-7.internal")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(json.dumps({"port": server.server_port, "seen": seen.tell()}), flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit()
