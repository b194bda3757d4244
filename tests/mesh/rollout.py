"""The end of a pod as in a rollout: eight clients keep their connections to it, half over HTTP/1.1 and half
over gRPC, each with one request of 1 MiB after the other. The containers end as the kubelet ends them, and
proxies of a platform as the platform ends them. No request is lost, every client has been told to leave,
and the audit log has every request.
"""

import subprocess
import threading
import time
import urllib.request

from connections import ANSWER_S, Grpc, Http1, Lost
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
# Between two requests of a client, so that all together stay within the policy's quota.
PAUSE_S = 0.1


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
