"""Upgrades: gateways and hosts of two releases, which do not understand each other. The second host is
beside the first, and the gateways change to it one by one, under load.

The other release is a copy of the programs in which the beginning of each signed context names another
format and release. No build has a switch for that.
"""

import json
import os
import re
import shutil
import time
from types import SimpleNamespace

import bootstraps
import calls
import gates
import manifests
import pods
import rendered
import served
import yaml
from processes import Process, fetch, free_ports, wait

# What each context begins with: its format, and the release.
PREFIX = re.compile(rb"v11;\d+\.\d+\.\d+;")
OTHER = "of release 9"
LATER = "tensorgate-next"
PAUSE_S = 0.05


def other_release(program, folder):
    """A copy of a program that belongs to a later release with another format."""
    content = program.read_bytes()
    found = set(PREFIX.findall(content))
    if len(found) != 1:
        raise RuntimeError(f"{program} has {sorted(found)}; expected one beginning of contexts")
    (own,) = found
    made = folder / f"other-{program.name}"
    # Of the same length.
    made.write_bytes(content.replace(own, b"v12;9" + own[5:]))
    made.chmod(0o755)
    return made


class Side:
    """The host and the filter of one release, with the objects that were rendered for them."""

    def __init__(self, name, objects, folder, certificates, model, filter_):
        folder.mkdir()
        self.name, self.folder, self.filter, self.certificates = name, folder, filter_, certificates
        secrets = {f"{name}-context": {"context.key": gates.CONTEXT_KEY + "\n"}, f"{name}-host-tls": certificates.secret(name)}
        self.pod = pods.Pod(objects, folder / "pod", secrets, {"digits.ml.svc:8001": model}, name)
        self.objects = folder / "objects"
        shutil.copytree(objects, self.objects)
        around = [one for _, one in manifests.read([pods.HERE / "data/around.yaml"]) if one["apiVersion"].startswith("gateway.networking.k8s.io")]
        (self.objects / "around.yaml").write_text(yaml.safe_dump_all(around))

    def configuration(self, port, filter_=None):
        """What Envoy Gateway makes of the objects, for a listener at a port of this machine."""
        addresses = {
            "listen": {443: f"127.0.0.1:{port}"},
            "services": {f"ml/{self.name}:{each}": f"127.0.0.1:{self.pod.port(each)}" for each in (8443, 8444, 8445)},
            "files": {
                "ml/models-tls": str(self.certificates.folders["server"]),
                f"ml/{self.name}-gateway-tls": str(self.certificates.folders["gateway"]),
                f"ml/{self.name}-host-ca": str(self.certificates.folders["host"]),
            },
        }
        return bootstraps.bootstrap(self.objects, "gateway", {"*": str(filter_ or self.filter)}, addresses)

    def readyz(self):
        """(status, text) of the host's readiness."""
        return fetch(f"http://127.0.0.1:{self.pod.port(9902)}/readyz") or (0, "")


class Gateways:
    """Two gateways: listeners of one Envoy, each with a configuration of its own."""

    def __init__(self, folder, envoy, sides):
        folder.mkdir()
        self.folder, self.envoy, self.ports = folder, envoy, free_ports(2)
        self.made = [sides[0].configuration(port) for port in self.ports]
        bootstrap = json.loads(json.dumps(self.made[0]))
        clusters = {one["name"]: one for side in reversed(sides) for one in side.configuration(self.ports[0])["staticResources"]["clusters"]}
        source = {"path": str(folder / "lds.json"), "watchedDirectory": {"path": str(folder)}}
        bootstrap["staticResources"] = {"clusters": list(clusters.values())}
        bootstrap["dynamicResources"] = {"ldsConfig": {"resourceApiVersion": "V3", "pathConfigSource": source}}
        (folder / "bootstrap.json").write_text(json.dumps(bootstrap))
        self.process = None

    def configure(self, number, made):
        """Gives one of the gateways another configuration."""
        self.made[number] = made
        self.put()

    def put(self):
        """Delivers all listeners, as the control plane does."""
        listeners = []
        for number, made in enumerate(self.made):
            (listener,) = json.loads(json.dumps(made["staticResources"]["listeners"]))
            listeners.append({**listener, "name": f"gateway-{number}"})
        gates.put_files({"staticResources": {"listeners": listeners}}, self.folder, "gateway")

    def start(self):
        """Starts them, and waits until both listen."""
        self.put()
        environment = {"PATH": os.environ["PATH"], "TENSORGATE_CONTEXT_KEY": gates.CONTEXT_KEY}
        arguments = [self.envoy, "-c", self.folder / "bootstrap.json", "-l", "warning", "--use-dynamic-base-id", "--concurrency", "1"]
        self.process = Process("gateways", arguments, self.folder / "envoy.log", environment)
        for port in self.ports:
            wait("the gateways", lambda port=port: gates.connects(port), self.process.process, 30)

    def client(self, number):
        """Where clients find one of them."""
        port = self.ports[number]
        return SimpleNamespace(base=f"https://{gates.HOST}:{port}", options=["--resolve", f"{gates.HOST}:{port}:127.0.0.1"])

    def answer(self, number):
        """(status, body) of a valid request."""
        where = self.client(number)
        status, _, body = calls.Client(where.base, where.options).call(calls.MODEL, calls.small(), [calls.JSON, calls.AUTHORIZED])
        return status, body

    def log(self):
        """The proxy's log, which has the filter's lines."""
        return (self.folder / "envoy.log").read_text(errors="replace")


class Load(served.Load):
    """Requests one after the other, with a pause: what is lost is lost by the change, not by haste."""

    def _run(self):
        while not self.ending:
            large = self.client.requests % 8 == 0
            body, headers = (self.binary, self.headers) if large else (calls.small(), [calls.JSON])
            status, _, answer = self.client.call(calls.MODEL, body, [*headers, calls.AUTHORIZED], self.client.requests % 4 > 1)
            if status != 200:
                self.failed.append((status, answer[:300]))
            time.sleep(PAUSE_S)


def mixed(gateways, old, new):
    """A filter before a host of a later release. Returns what is not said."""
    gateways.configure(0, new.configuration(gateways.ports[0], old.filter))
    try:
        wait("the answer of a host of another release", lambda: gateways.answer(0)[0] == 503, seconds=20)
    except RuntimeError as error:
        return [f"{error}: {gateways.answer(0)}"]
    status, body = gateways.answer(0)
    faults = [] if (status, calls.problem(body)) == (503, "overloaded") else [f"mixed releases: {status} {body[:300]}"]
    ready, _ = new.readyz()
    places = {"/readyz": lambda: new.readyz()[1], "the host's log": new.pod.running[0].tail, "the proxy's log": gateways.log}
    for where, text in places.items():
        for part in ("the gateway's filter is of release", f"the host is {OTHER}", "the gateway is the older one"):
            try:
                wait(f"{where} to say {part!r}", lambda text=text, part=part: part in text(), seconds=5)
            except RuntimeError as error:
                faults.append(f"{error}: {text()[-600:]}")
    if ready != 200:
        faults.append(f"/readyz is {ready} although other gateways are served")
    if gateways.log().count("the host rejects requests") > 1:
        faults.append("the proxy's log names the mismatch more than once a minute")
    return faults


def upgraded(gateways, old, new):
    """The order of the page. Returns the faults."""
    gateways.configure(0, old.configuration(gateways.ports[0]))
    wait("the gateway of the first release", lambda: gateways.answer(0)[0] == 200, seconds=20)
    loads = [Load(gateways.client(number)) for number in (0, 1)]
    # Requests that a host has answered.
    faults, audited = [], lambda side: sum(line.get("by") == "host" for line in side.pod.audit_log())
    try:
        for load in loads:
            load.more(2)
        for number in (0, 1):
            before = audited(new)
            gateways.configure(number, new.configuration(gateways.ports[number]))
            wait(f"requests of gateway {number} at the new host", lambda before=before: audited(new) > before + 2, seconds=20)
            for load in loads:
                load.more(4)
        # No gateway sends anything to the first host any more.
        time.sleep(0.5)
        before = audited(old)
        for load in loads:
            load.more(4)
        if audited(old) != before:
            faults.append("the first host still gets requests")
        old.pod.stop()
        old.pod.running.clear()
        for load in loads:
            load.more(4)
    finally:
        for load in loads:
            load.end()
    lost = [one for load in loads for one in load.failed]
    requests = sum(load.client.requests for load in loads)
    print(f"upgrade: {requests} requests, {len(lost)} lost")
    return faults + [f"while gateways changed: {status} {answer}" for status, answer in lost[:5]]


def check(folder, envoy):
    """Upgrades two gateways and their host. Returns how much is wrong."""
    started = time.monotonic()
    folder.mkdir()
    process, model = served.model_server(folder)
    sides, gateways, faults = [], None, []
    try:
        certificates = gates.Certificates(folder / "c")
        for name in ("tensorgate", LATER):
            certificates.add(name, f"{name}.ml.svc")
        policy = rendered.SERVED["one"]
        host = pods.TARGET / "debug/tensorgate-host"
        programs = [(host, pods.MODULE), (other_release(host, folder), other_release(pods.MODULE, folder))]
        for (program, module), name in zip(programs, ("tensorgate", LATER), strict=True):
            objects = rendered.render("gateway", policy, folder / f"r-{name}", "--name", name)
            side = Side(name, objects, folder / name, certificates, model, module)
            sides.append(side)
            side.pod.start_host(program)
        gateways = Gateways(folder / "g", envoy, sides)
        gateways.start()
        faults = mixed(gateways, *sides) + upgraded(gateways, *sides)
    except RuntimeError as error:
        faults.append(str(error))
    finally:
        unfinished = sum(side.pod.stop() for side in sides)
        if gateways and gateways.process:
            unfinished += not gateways.process.stop()
        process.stop()
    for fault in faults:
        print(f"upgrade: {fault}")
    print(f"upgrade: {len(faults)} wrong, {time.monotonic() - started:.1f} s")
    return len(faults) + unfinished
