"""A limit that gateways share, through a gateway and its host over TCP: the host counts it in a real Redis.
The limit is used up, then Redis is emptied, stopped and started again, and each has its effect.
"""

import os
import shutil
import socket
from pathlib import Path

import calls
from processes import Process, wait

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensorgate"
# Requests that the limit of data/shared.yaml lets through.
QUOTA = 3


def program():
    """The Redis that tools/redis.sh finds, or None."""
    found = os.environ.get("REDIS_SERVER") or shutil.which(CACHE / "redis/redis-server") or shutil.which("redis-server")
    return found or None


class Redis:
    """A Redis that keeps nothing when it stops."""

    def __init__(self, folder, port):
        self.folder, self.port, self.process = folder, port, None
        folder.mkdir()
        self.start()

    def start(self):
        """Starts it, and waits until it answers."""
        arguments = [program(), "--bind", "127.0.0.1", "--port", self.port, "--save", "", "--appendonly", "no", "--dir", self.folder]
        self.process = Process("redis", arguments, self.folder / "redis.log")
        wait("Redis", lambda: self.ask("PING").startswith("+PONG"), self.process.process, 30)

    def ask(self, command):
        """The first bytes of the answer to a command; none if it does not listen."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(f"{command}\r\n".encode())
                return connection.recv(64).decode()
        except OSError:
            return ""

    def stop(self):
        """Stops it. Whether it ended by itself."""
        return self.process.stop()


def check(gate, client):
    """Requests under the shared limit. Returns the faults."""
    faults = []

    def expect(when, wanted, key=calls.BURST):
        status, _, body = client.call(calls.MODEL, calls.small(), [calls.JSON, f"x-api-key: {key}"])
        if (status, calls.problem(body)) != wanted:
            faults.append(f"{when}: {status} {body[:300]}; expected {wanted}")

    ok, limited, overloaded = (200, ""), (429, "rate-limited"), (503, "overloaded")
    for number in range(QUOTA):
        expect(f"request {number + 1} of {QUOTA} under the shared limit", ok)
    expect("beyond the shared limit", limited)
    gate.redis.ask("FLUSHALL")
    expect("Redis is empty, and so has the whole limit", ok)
    gate.redis.stop()
    expect("Redis is gone", overloaded)
    expect("Redis is gone, and a limit of this gateway alone", ok, calls.KEY)
    gate.redis.start()
    probe = lambda: client.call(calls.MODEL, calls.small(), [calls.JSON, f"x-api-key: {calls.BURST}"])[0] == 200
    try:
        wait("the shared limit, after Redis is back", probe, seconds=20)
    except RuntimeError as error:
        faults.append(str(error))
    return faults
