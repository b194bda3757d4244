"""Requests to a sidecar that a real Envoy plays: what PeerAuthentication and AuthorizationPolicy say
about a caller is what happens. Nothing is behind the sidecar, so who may come in gets a 503.
"""

import json
import os
import socket
import ssl
import subprocess
import time

import bootstraps
import examples

REFUSED = "no connection"


def _free():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def status(port, identity=None, plain=False):
    """The status of a request as a caller with this certificate, or REFUSED."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if identity:
        context.load_cert_chain(identity / "tls.crt", identity / "tls.key")
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            if not plain:
                connection = context.wrap_socket(connection, server_hostname="models.example")
            with connection:
                connection.sendall(b"GET / HTTP/1.1\r\nhost: models.example\r\nconnection: close\r\n\r\n")
                head = connection.recv(4096)
    except OSError:
        return REFUSED
    return head.split()[1].decode() if head.startswith(b"HTTP/1.1 ") else REFUSED


def _listens(port, process):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"Envoy does not listen on port {port}")


def callers(envoy, folder, rendered, addresses):
    """Starts the sidecar and calls it. Returns how many callers get something else than expected."""
    good = examples.identity(folder / "good", folder, "spiffe://cluster.local/ns/istio-ingress/sa/gateway")
    other = examples.identity(folder / "other", folder, "spiffe://cluster.local/ns/other/sa/gateway")
    ports = {"8443": _free(), "8444": _free(), "8445": _free()}
    changed = {**addresses, "listen": {port: f"127.0.0.1:{bound}" for port, bound in ports.items()}}
    made = bootstraps.bootstrap(rendered, "istio-sidecar", {"*": str(examples.module(folder))}, changed)
    path = folder / "live.json"
    path.write_text(json.dumps(made))
    environment = {**os.environ, "TENSORGATE_CONTEXT_KEY": "00" * 31 + "f0"}
    process = subprocess.Popen([envoy, "-c", path, "-l", "critical", "--use-dynamic-base-id"], env=environment)
    try:
        for port in ports.values():
            _listens(port, process)
        got = {
            "the gateway, port 8443": (status(ports["8443"], good), "503"),
            "the gateway, port 8444": (status(ports["8444"], good), "503"),
            "another workload, port 8443": (status(ports["8443"], other), "403"),
            "another workload, port 8444": (status(ports["8444"], other), "403"),
            "no certificate": (status(ports["8443"]), REFUSED),
            "plain HTTP": (status(ports["8443"], plain=True), REFUSED),
        }
    finally:
        process.terminate()
        process.wait(30)
    wrong = {name: pair for name, pair in got.items() if pair[0] != pair[1]}
    for name, (actual, expected) in wrong.items():
        print(f"sidecar: {name} gets {actual}; expected {expected}")
    print(f"sidecar: {len(got)} callers, {len(wrong)} wrong")
    return len(wrong)
