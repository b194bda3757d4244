"""Serves what was rendered: a real host with the arguments of the rendered Deployment, a real Envoy as
the control plane would configure it, and requests whose answers and lines in the audit log are known.
Then the policy is replaced, first at the host and then first at the filter, under load. At last the
pods of some targets end, under load, too.
"""

import json
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import calls
import gates
import peers
import pods
import readiness
import rendered
import rollout
import shared_limits
from processes import TOP, Process, fetch, wait

# The policy of each target, by its name in rendered.SERVED.
TARGETS = {
    "kubernetes": "one",
    "istio-sidecar": "one",
    "istio-gateway": "shared",
    "gateway": "one",
    "gateway-patched": "shared",
    # The filter as native code.
    "kubernetes-module": "one",
    "istio-sidecar-module": "one",
    "istio-gateway-module": "shared",
    "gateway-module": "shared",
}
RANGE = "range: [0, 16]"
# What each later policy rejects and its predecessor serves.
CHANGES = [("range: [0, 8]", 12.0), ("range: [0, 4]", 6.0)]
# The fields of a line, by who decided. Envoy Gateway's access log has no names.
EVERY = {"time", "source", "method", "path", "status", "request_id"}
NAMED = {"client", "credential", "model", "version", "operation", "rule", "generation"}
# Statuses that have one reason each: an access log without the filter's state still tells it.
TELLING = {401, 403, 404}


class Load:
    """Requests in the background that must all be served."""

    def __init__(self, gate):
        self.client, self.failed, self.ending = calls.Client(gate.base, gate.options), [], False
        self.binary, self.headers = calls.large_binary()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.ending:
            for body, headers in ((calls.small(), [calls.JSON]), (self.binary, self.headers)):
                http2 = self.client.requests % 4 > 1
                status, _, answer = self.client.call(calls.MODEL, body, [*headers, calls.AUTHORIZED], http2)
                if status != 200:
                    self.failed.append((status, answer[:300]))

    def more(self, count):
        """Waits until so many more requests have been answered."""
        enough = self.client.requests + count
        wait("the load", lambda: self.client.requests > enough, seconds=30)

    def end(self):
        """Ends the load."""
        self.ending = True
        self.thread.join()


def model_server(folder):
    """The stand-in of the Service: (process, address)."""
    arguments = [pods.TARGET / "debug/tensorgate-embedded", "--models", TOP / "examples/models", "--listen", "127.0.0.1:0"]
    process = Process("digits", arguments, folder / "digits.log", stdout=subprocess.PIPE)
    line = process.process.stdout.readline().decode()
    if " ready at " not in line:
        raise RuntimeError(f"the model server did not start\n{process.tail()}")
    return process, line.split(" ready at ")[1].strip()


def expected_reason(target, by, status, reason):
    """The reason in a line of the audit log of a target."""
    return reason if target != "gateway" or by == "host" or status in TELLING else "unknown"


def faults_of_line(target, case, line):
    """What is wrong with a request's line in the audit log."""
    _, call, status, _, (by, reason) = case
    wanted = {"by": by, "reason": expected_reason(target, by, status, reason), "status": status, "method": "POST", "path": call["path"], "source": "127.0.0.1"}
    found = [f"{name} is {line.get(name)!r}; expected {value!r}" for name, value in wanted.items() if line.get(name) != value]
    names = set(EVERY)
    if by == "host":
        names |= NAMED
    elif target != "gateway" and status == 400:
        names |= {"client", "credential", "model", "rule", "detail"}
    return found + [f"{name} is missing" for name in sorted(names - line.keys())]


def ask(gate, client, cases):
    """Sends requests. Returns the faults."""
    faults, ids = [], {}
    for case in cases:
        name, call, status, problem, _ = case
        got, headers, body = client.call(**call)
        if (got, calls.problem(body)) != (status, problem or ""):
            faults.append(f"{name}: {got} {body[:300]}; expected {status} {problem or ''}")
            continue
        if status == 200 and not answered(body, call):
            faults.append(f"{name}: not the model's answer: {body[:300]}")
        if "x-request-id" in headers:
            ids[headers["x-request-id"]] = case
        else:
            faults.append(f"{name}: the answer has no x-request-id")
        faults += [f"{name}: the answer has {field}" for field in ("server", "x-powered-by", "via") if field in headers and headers[field] != "tensorgate"]
    lines = lambda: [one for one in gate.decisions() if one.get("request_id") in ids]
    found = lambda: {one["request_id"] for one in lines()}
    try:
        wait("the audit log", lambda: found() == ids.keys(), seconds=10)
    except RuntimeError:
        missing = [ids[one][0] for one in ids.keys() - found()]
        faults.append(f"not in the audit log: {', '.join(sorted(missing))}")
    if len(lines()) != len(found()):
        faults.append(f"the audit log has {len(lines())} lines for {len(found())} requests")
    for line in lines():
        case = ids[line["request_id"]]
        faults += [f"{case[0]}: the audit log: {fault}" for fault in faults_of_line(gate.target, case, line)]
    return faults


def answered(body, call):
    """Whether a body is the model's answer: ten probabilities for each image."""
    rows = calls.ROWS if len(call["body"]) > 100_000 else 1
    (output,) = json.loads(body)["outputs"]
    sums = [sum(output["data"][at : at + 10]) for at in range(0, len(output["data"]), 10)]
    return output["shape"] == [rows, 10] and len(sums) == rows and all(abs(one - 1) < 0.01 for one in sums)


def replaced(gate, client, folder):
    """Replaces the policy twice under load. Returns the faults."""
    faults, load = [], Load(gate)
    port = gate.pod.port(9904)
    probe = lambda value: client.call(calls.MODEL, calls.small(value), [calls.JSON, calls.AUTHORIZED])[0]

    def at_host(policy):
        gate.deliver_to_host(policy)
        generation = pods.generation(policy)
        wait("the policy at the host", lambda: generation in (fetch(f"http://127.0.0.1:{port}/generations") or (0, ""))[1], seconds=20)

    def at_filter(policy, value):
        gate.deliver_to_filter(policy)
        wait("the policy at the filter", lambda: probe(value) == 400, seconds=20)

    try:
        load.more(2)
        for number, (text, value) in enumerate(CHANGES):
            source = folder / f"{gate.target}-{number}.yaml"
            source.write_text(rendered.SERVED[TARGETS[gate.target]].read_text().replace(RANGE, text))
            policy = rendered.render(gate.target, source, folder / f"{gate.target}-{number}")
            before = probe(value)
            if before != 200:
                faults.append(f"{value} gets {before} before the policy rejects it; expected 200")
            if number == 0:
                at_host(policy)
                load.more(2)
                at_filter(policy, value)
            else:
                at_filter(policy, value)
                load.more(2)
                at_host(policy)
            load.more(4)
    finally:
        load.end()
    faults += [f"while the policy was replaced: {status} {answer}" for status, answer in load.failed[:5]]
    client.requests += load.client.requests
    return faults


def collected(gate):
    """What is wrong with the audit log as `kubectl logs` prints it, between the host's own lines."""
    with (gate.pod.folder / "host.log").open("rb") as printed:
        command = [rendered.PROGRAM, "audit", "verify", "-", "--json"]
        done = subprocess.run(command, stdin=printed, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        return [f"audit verify of the printed lines: {done.stdout[-1500:]}{done.stderr}"]
    found, written = json.loads(done.stdout)["lines"], len(gate.log())
    return [] if found == written else [f"{found} lines of the audit log are printed, {written} are written"]


def serve(target, objects, folder, certificates, model, programs):
    """Serves a target. Returns how much is wrong."""
    started = time.monotonic()
    is_shared = TARGETS[target] == "shared"
    gate = gates.Gate(target, objects, folder, certificates, model, is_shared and shared_limits.program())
    requests, faults = 0, []
    try:
        gate.start(objects, programs)
        client = calls.Client(gate.base, gate.options)
        faults += ask(gate, client, calls.cases() + (calls.header_cases() if is_shared else []))
        if target.startswith("istio"):
            faults += peers.listed(gate) + peers.users(gate)
        if gate.redis:
            faults += shared_limits.check(gate, client)
        # Where requests are not served, a new policy changes nothing that can be seen.
        if not faults:
            faults += replaced(gate, client, folder)
        if not faults and target == "kubernetes":
            # The pod serves again afterwards.
            faults += readiness.other_key(gate, client)
        if target in rollout.DRAINED and not faults:
            faults += rollout.rolled_out(gate)
        requests = client.requests
    except RuntimeError as error:
        faults.append(str(error))
    finally:
        unfinished = gate.stop()
    if not faults and not unfinished:
        faults += collected(gate)
    for fault in faults:
        print(f"{target}: {fault}")
    if faults:
        print(gate.logs())
    print(f"{target}: {requests} requests, {len(faults)} wrong, {time.monotonic() - started:.1f} s")
    return len(faults) + unfinished


def check(folder, envoy):
    """Serves each target of the folder of rendered policies. Returns how much is wrong."""
    # The sidecar's user reads its files in it. Those of others are private.
    folder.chmod(0o711)
    if not shared_limits.program():
        print("served: no Redis, so no shared limit is used up; run tools/redis.sh")
    process, model = model_server(folder)
    try:
        certificates, programs = gates.Certificates(folder / "c"), gates.Programs(folder / "p", envoy)
        one = lambda target: serve(target, folder / TARGETS[target] / target, folder / target, certificates, model, programs)
        unready = readiness.without_filter(folder / "one/kubernetes", folder / "unready", certificates, model, programs)
        # Much of a target's time is the compilation of its filter, on one core.
        with ThreadPoolExecutor(2) as pool:
            return unready + sum(pool.map(one, TARGETS))
    finally:
        process.stop()
