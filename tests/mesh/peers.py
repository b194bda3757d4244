"""Who is at the other end of the host's sockets. By the kernel's word, they accept the host's own user,
root, and the one of the sidecar. Another one can reach the sockets here, and gets no byte. And the
host lists the gateways whose requests the sidecar passes on.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from processes import fetch

# The user of an injected sidecar. Only root can start a program as another user.
SIDECAR = 1337 if os.geteuid() == 0 else None
STRANGER = 1338
SOCKETS = ["host", "audit", "limits"]
# The gateways that the host lists. A sidecar with the filter is one.
GATEWAYS = {
    "istio-sidecar": f"uid {SIDECAR or os.geteuid()}",
    "istio-gateway": "spiffe://cluster.local/ns/istio-ingress/sa/gateway at 127.0.0.1",
}

# Connects as a user, begins HTTP/2, and prints how many bytes come back: a server begins, too.
CALLER = """
import os, socket, sys
os.setgroups([])
os.setgid(int(sys.argv[1]))
os.setuid(int(sys.argv[1]))
with socket.socket(socket.AF_UNIX) as connection:
    connection.settimeout(10)
    connection.connect(sys.argv[2])
    try:
        connection.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + b"\\0\\0\\0\\4\\0\\0\\0\\0\\0")
        print(len(connection.recv(9)))
    except (BrokenPipeError, ConnectionResetError):
        print(0)
"""


def user_of(process):
    """The user whom a program runs as."""
    return Path(f"/proc/{process.process.pid}").stat().st_uid


def _accepted(user, socket):
    done = subprocess.run([sys.executable, "-I", "-S", "-c", CALLER, str(user), socket], capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise RuntimeError(f"user {user} cannot reach {socket}: {done.stderr}")
    return int(done.stdout) > 0


def listed(gate):
    """Where the host lists other gateways than the one that sent requests."""
    _, text = fetch(f"http://127.0.0.1:{gate.pod.port(9904)}/generations")
    names, expected = [one["gateway"] for one in json.loads(text)["gateways"]], [GATEWAYS[gate.target.removesuffix("-module")]]
    return [f"the host lists the gateways {names}; expected {expected}"] * (names != expected)


def users(gate):
    """Calls the sockets behind a sidecar as its user and as another one. Returns the faults."""
    if SIDECAR is None:
        print(f"{gate.target}: the sidecar runs as user {os.geteuid()}: only root can start it as another")
        return []
    (sidecar,) = [one for one in gate.pod.running if one.name == "sidecar"]
    faults = [f"the sidecar runs as user {user_of(sidecar)}; expected {SIDECAR}"] * (user_of(sidecar) != SIDECAR)
    for name in SOCKETS:
        socket = gate.pod.path(f"/run/tensorgate/{name}.sock")
        for user, expected in ((SIDECAR, True), (STRANGER, False)):
            if _accepted(user, socket) != expected:
                faults.append(f"{name}.sock: user {user} is {'rejected' if expected else 'accepted'}")
    return faults
