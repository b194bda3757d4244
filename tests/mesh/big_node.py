"""Memory on a big node: the pod of `render kubernetes --envoy-cpu N`, with Envoy in a control group that
has the rendered limit, stays below it while all workers check bodies of the largest size. With
`judge: envoy`, because otherwise the host checks them.

    big_node.py [WORKERS…]     prints a row for each number of workers, idle and at load

It needs root and a control group, and says so where it is skipped.
"""

import http.client
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "harness"))

import calls
import cgroups
import gates
import pods
import rendered
import yaml
from processes import wait

MIB = 1 << 20
WORKERS = 64
CONNECTIONS = 192
# Of 8 MiB each, within the memory that a client may use.
BODIES_AT_ONCE = 12
# Of the test, and of the rows that somebody reads.
LOAD_S, ROW_LOAD_S = 2, 12
# Between the shares at which Envoy stops accepting requests and connections.
PRESSURE = 0.965


def body():
    """JSON of almost 8 MiB, the most that is held, whose last value is out of range."""
    rows = 7_600
    head, tail = calls.infer([rows, 1, 8, 8], [17.0]).split(b"[17.0]")
    return head + b"[" + b"2.5123456789012, " * (rows * calls.PIXELS - 1) + b"17.0]" + tail


def ask(connection, content):
    """The status of a request."""
    name, _, value = calls.AUTHORIZED.partition(": ")
    connection.request("POST", calls.MODEL, content, {"content-type": "application/json", name: value})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def judged_in_envoy(folder):
    """A policy by which Envoy checks every body that it holds. By default the host checks large ones."""
    policy = yaml.safe_load(rendered.SERVED["one"].read_text())
    policy.setdefault("listen", {})["judge"] = "envoy"
    file = folder / "gate.yaml"
    file.write_text(yaml.safe_dump(policy))
    return file


class Load:
    """Connections that are open at the same time, so that most workers have some, and send bodies."""

    def __init__(self, port, seconds):
        self.port, self.content, self.statuses = port, body(), {}
        self.turns, self.opened = threading.Semaphore(BODIES_AT_ONCE), threading.Barrier(CONNECTIONS)
        self.seconds = seconds
        threads = [threading.Thread(target=self._run) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            connection.connect()
        finally:
            self.opened.wait(60)
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            with self.turns:
                if time.monotonic() >= end:
                    return
                try:
                    status = ask(connection, self.content)
                except OSError as error:
                    status, end = type(error).__name__, 0
            self.statuses[status] = self.statuses.get(status, 0) + 1


class Node:
    """A pod with so many workers, without a model server: its load ends at the filter."""

    def __init__(self, folder, envoy, workers):
        made = rendered.render("kubernetes", judged_in_envoy(folder), folder / "rendered", "--envoy-cpu", str(workers))
        secrets = {"tensorgate-context": {"context.key": gates.CONTEXT_KEY + "\n"}}
        self.pod = pods.Pod(made, folder / "pod", secrets, {"digits.ml.svc:8001": "127.0.0.1:1"})
        memory = self.pod.container("envoy")["resources"]["limits"]["memory"]
        self.limit = int(memory.removesuffix("Mi")) * MIB
        self.group = cgroups.Group("tensorgate-mesh", self.limit)
        self.launcher = self.group.launcher(folder / "launch", envoy)

    def start(self):
        """Starts Envoy, and waits until it listens. The load never reaches the host."""
        self.pod.install_filters()
        self.port = self.pod.port(8080)
        self.pod.replaced |= {"port_value: 8080": f"port_value: {self.port}", "port_value: 9903": f"port_value: {self.pod.port(9903)}", 'address: "0.0.0.0"': "address: 127.0.0.1"}
        for volume in ("envoy", "dynamic"):
            self.pod.volumes[volume].put(self.pod.files(f"tensorgate-{volume}"))
        process = self.pod.start("envoy", self.launcher)
        self.envoy = process.process
        wait("envoy", lambda: gates.connects(self.port), self.envoy, 60)

    def resident(self):
        """Resident memory of Envoy, MiB: its own and mapped files."""
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{self.envoy.pid}/status").read_text().splitlines())
        return {name: int(lines[name].split()[0]) // 1024 for name in ("VmRSS", "VmHWM")}

    def stop(self):
        """Stops everything. Returns how many processes did not end by themselves."""
        failed = self.pod.stop()
        self.group.remove()
        return failed


def faults_of_load(node, load):
    """What is wrong after the load."""
    faults = []
    if node.envoy.poll() is not None or node.group.kills():
        faults.append(f"Envoy was killed: {node.group.kills()} times by the kernel, for memory")
    if load.statuses.keys() != {400}:
        faults.append(f"statuses {load.statuses}; expected 400 alone")
    if node.group.peak() >= node.limit:
        faults.append(f"a peak of {node.group.peak()} bytes; the limit is {node.limit}")
    return faults


def faults_of_pressure(node):
    """Memory that is outside of Envoy's heap counts: near the container's limit requests are refused."""
    small = calls.small(17.0)
    status = lambda: ask(http.client.HTTPConnection("127.0.0.1", node.port, timeout=10), small)
    if status() != 400:
        return ["a small request is refused while there is memory"]
    node.group.set_limit(int(node.group.usage() / PRESSURE))
    try:
        wait("a refusal for memory", lambda: status() == 503, seconds=10)
    except RuntimeError as error:
        return [str(error)]
    node.group.set_limit(node.limit)
    wait("the end of refusals", lambda: status() == 400, seconds=10)
    return []


def measure(folder, envoy, workers, seconds):
    """(faults, row) of a number of workers."""
    folder.mkdir()
    node = Node(folder, envoy, workers)
    try:
        node.start()
        time.sleep(1)
        idle = node.resident()["VmRSS"]
        load = Load(node.port, seconds)
        faults = faults_of_load(node, load)
        row = (workers, idle, node.resident()["VmHWM"] if node.envoy.poll() is None else 0, node.group.peak() // MIB, node.limit // MIB)
        return faults or faults_of_pressure(node), row
    finally:
        node.stop()


def check(folder, envoy, workers=(WORKERS,), seconds=LOAD_S):
    """Runs it. Returns the number of faults."""
    if os.geteuid() != 0 or not cgroups.may_mount():
        print("big node: skipped: it needs root, and mounts of its own, for a control group")
        return 0
    try:
        cgroups.Group("tensorgate-probe", MIB).remove()
    except OSError as error:
        print(f"big node: skipped: no control group can be made: {error}")
        return 0
    wrong = 0
    for number in workers:
        faults, row = measure(folder / f"big-node-{number}", envoy, number, seconds)
        for fault in faults:
            print(f"big node with {number} workers: {fault}")
        print("big node: {} workers: {} MiB idle, {} MiB at load, {} MiB in the group, limit {} MiB".format(*row))
        wrong += len(faults)
    return wrong


def main(numbers):
    """Prints a row for each number of workers."""
    envoy = os.environ.get("ENVOY") or str(Path.home() / ".cache/tensorgate/envoy/bin/envoy")
    with tempfile.TemporaryDirectory(prefix="tg-", dir="/tmp") as made:
        return 1 if check(Path(made), envoy, [int(number) for number in numbers] or (WORKERS,), ROW_LOAD_S) else 0


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main(sys.argv[1:]))
