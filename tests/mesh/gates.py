"""Served targets: a rendered folder as a host and the Envoys that a control plane would configure for
it, with a policy that can be replaced at the host and at the filter, each at its own time.
"""

import copy
import json
import os
import shutil
import socket

import bootstraps
import examples
import manifests
import peers
import pods
import shared_limits
import yaml
from processes import Process, free_ports, wait

HERE = pods.HERE
HOST = "models.example.com"
SPIFFE = "spiffe://cluster.local/ns/{}/sa/{}"
CONTEXT_KEY = "5a" * 31 + "f0"
# How both platforms let their proxies drain, at a shorter time.
DRAIN = ["--drain-strategy", "immediate", "--drain-time-s", "30"]
WASM = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"


class Certificates:
    """The certificates of all targets, of one authority."""

    def __init__(self, folder):
        folder.mkdir()
        examples.authority(folder)
        made = {
            "host": (SPIFFE.format("ml", "tensorgate"), "tensorgate.ml.svc"),
            "gateway": (SPIFFE.format("istio-ingress", "gateway"), "gateway.example.com"),
            "client": (SPIFFE.format("web", "frontend"), "client.example.com"),
            "server": ("spiffe://elsewhere/server", HOST),
        }
        self.folders = {name: examples.identity(folder / name, folder, *names) for name, names in made.items()}
        if peers.SIDECAR:
            shutil.chown(self.folders["host"] / "tls.key", peers.SIDECAR)

    def add(self, name, host):
        """Makes the certificate of another host of the gate."""
        authority = self.folders["host"].parent
        self.folders[name] = examples.identity(authority / name, authority, SPIFFE.format("ml", name), host)

    def secret(self, name):
        """The files of a Secret of kind TLS, with the authority."""
        return {file: (self.folders[name] / file).read_text() for file in ("tls.crt", "tls.key", "ca.crt")}

    def options(self):
        """curl's options of a client with a certificate."""
        return ["--cert", str(self.folders["client"] / "tls.crt"), "--key", str(self.folders["client"] / "tls.key")]


class Programs:
    """Envoy and the filter, where every user can read them: homes and checkouts may be private."""

    def __init__(self, folder, envoy):
        folder.mkdir()
        self.envoy = shutil.copy(envoy, folder / "envoy")
        self.module = shutil.copy(pods.MODULE, folder / "gate.wasm")
        self.native_module = shutil.copy(pods.NATIVE_MODULE, folder)


class Gate:
    """A target that serves: its pod, its Envoys, and where a client finds it. With `shared`, a Redis of
    its own counts limits.
    """

    def __init__(self, target, rendered, folder, certificates, model, shared):
        folder.mkdir()
        self.target, self.folder, self.certificates = target, folder, certificates
        (port,) = free_ports(1)
        self.redis = shared_limits.Redis(folder / "redis", port) if shared else None
        secrets = {
            "tensorgate-context": {"context.key": CONTEXT_KEY + "\n"},
            "tensorgate-host-tls": certificates.secret("host"),
            "tensorgate-gateway-tls": certificates.secret("gateway"),
        }
        self.pod = pods.Pod(rendered, folder / "pod", secrets, {"digits.ml.svc:8001": model, "redis.ml.svc:6379": f"127.0.0.1:{port}"})
        self.envoys, self.options, self.base = [], [], ""
        # Addresses of the admin interfaces of proxies.
        self.admins = {}

    def start(self, rendered, programs, has_filter=True):
        """Starts everything, and waits until it listens and its pod is ready. Without the module of the
        filter, it never is.
        """
        self.pod.start_host()
        self.programs, self.has_filter = programs, has_filter
        name = self.target.removesuffix("-patched").removesuffix("-module").replace("-", "_")
        start = getattr(self, f"_start_{name}")
        start(rendered)
        if has_filter:
            self.pod.wait_ready()

    def stop(self):
        """Stops everything. Returns how many processes did not end by themselves."""
        return self.pod.stop() + (self.redis is not None and not self.redis.stop())

    def _start_kubernetes(self, rendered):
        """The pod's own Envoy."""
        if self.has_filter:
            self.pod.install_filters()
        else:
            self.pod.install_program()
        port = self.pod.port(8080)
        self.pod.replaced |= {
            "port_value: 8080": f"port_value: {port}",
            "port_value: 9903": f"port_value: {self.pod.port(9903)}",
            'address: "0.0.0.0"': "address: 127.0.0.1",
        }
        self._put(rendered, ["envoy", "dynamic"])
        process = self.pod.start("envoy", self.programs.envoy)
        self._listens(port, process)
        self.base = f"http://127.0.0.1:{port}"

    def _start_istio_sidecar(self, rendered):
        """The sidecar of the pod, which a client reaches by the mesh's mTLS."""
        (port,) = free_ports(1)
        addresses = {"listen": {8080: f"127.0.0.1:{port}"}, "identity": self._identity("host"), "sockets": self._sockets()}
        self._proxy("sidecar", rendered, "istio-sidecar", addresses, port)
        self.base, self.options = f"https://127.0.0.1:{port}", self.certificates.options()

    def _start_istio_gateway(self, rendered):
        """The pod's sidecar, and the ingress gateway before it."""
        ports = dict(zip((8443, 8444, 8445, 443), free_ports(4), strict=True))
        listen = {port: f"127.0.0.1:{bound}" for port, bound in ports.items()}
        addresses = {"listen": listen, "identity": self._identity("host"), "sockets": self._sockets()}
        self._proxy("sidecar", rendered, "istio-sidecar", addresses, ports[8443])
        gateway = {
            "listen": listen,
            "identity": self._identity("gateway"),
            "services": {f"ml/tensorgate:{port}": listen[port] for port in (8443, 8444, 8445)},
            "files": {"istio-ingress/models-tls": self._identity("server")},
        }
        self._proxy("gateway", rendered, "istio-gateway", gateway, ports[443])
        self._public(ports[443])

    def _start_gateway(self, rendered):
        """Envoy Gateway's proxy."""
        (port,) = free_ports(1)
        addresses = {
            "listen": {443: f"127.0.0.1:{port}"},
            "services": {f"ml/tensorgate:{each}": f"127.0.0.1:{self.pod.port(each)}" for each in (8443, 8444, 8445)},
            "files": {
                "ml/models-tls": self._identity("server"),
                "ml/tensorgate-gateway-tls": self._identity("gateway"),
                "ml/tensorgate-host-ca": self._identity("host"),
            },
        }
        self._proxy("gateway", rendered, "gateway", addresses, port)
        self._public(port)

    def _identity(self, name):
        return str(self.certificates.folders[name])

    def _sockets(self):
        return {f"/run/tensorgate/{name}.sock": self.pod.path(f"/run/tensorgate/{name}.sock") for name in ("host", "audit", "limits")}

    def _public(self, port):
        self.base, self.options = f"https://{HOST}:{port}", ["--resolve", f"{HOST}:{port}:127.0.0.1"]

    def _translated(self, rendered, platform, addresses):
        """The objects that exist together, as Envoy's configuration."""
        folder = self.folder / "translated"
        shutil.rmtree(folder, ignore_errors=True)
        group = "networking.istio.io" if platform == "istio-gateway" else "gateway.networking.k8s.io"
        shutil.copytree(rendered, folder)
        around = [one for one in manifests.read([HERE / "data/around.yaml"]) if one[1]["apiVersion"].startswith(group)]
        (folder / "around.yaml").write_text(yaml.safe_dump_all([one for _, one in around]))
        modules = {"*": str(self.programs.module), "native": str(self.programs.native_module)}
        return bootstraps.bootstrap(folder, platform, modules, addresses)

    def _proxy(self, name, rendered, platform, addresses, port):
        """Starts an Envoy whose listeners or filters are in files that it watches. A sidecar has a user of
        its own.
        """
        watched = self.folder / name
        watched.mkdir()
        self.admins[name] = f"127.0.0.1:{free_ports(1)[0]}"
        addresses["admin"] = self.admins[name]
        self.envoys.append((watched, platform, addresses))
        made = self._translated(rendered, platform, addresses)
        put_files(made, watched, platform)
        made["dynamicResources"] = {"ldsConfig": {"resourceApiVersion": "V3", "pathConfigSource": _source(watched, "lds.json")}}
        del made["staticResources"]["listeners"]
        (watched / "bootstrap.json").write_text(json.dumps(made))
        environment = {"PATH": os.environ["PATH"], "TENSORGATE_CONTEXT_KEY": CONTEXT_KEY}
        arguments = [self.programs.envoy, "-c", watched / "bootstrap.json", "-l", "warning", "--use-dynamic-base-id", "--concurrency", "2", *DRAIN]
        process = Process(name, arguments, self.folder / f"{name}.log", environment, user=peers.SIDECAR if name == "sidecar" else None)
        self.pod.running.append(process)
        self._listens(port, process)

    def _listens(self, port, process):
        try:
            wait(process.name, lambda: connects(port), process.process, 30)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{process.tail()}") from None

    def deliver_to_host(self, rendered):
        """Replaces the policy at the host, as the kubelet does when the ConfigMap has changed."""
        self._put(rendered, ["policy"])

    def deliver_to_filter(self, rendered):
        """Replaces the policy of the filter, as the control plane does."""
        if self.target.startswith("kubernetes"):
            self._put(rendered, ["dynamic"])
        for watched, platform, addresses in self.envoys:
            put_files(self._translated(rendered, platform, addresses), watched, platform)

    def _put(self, rendered, volumes):
        found = pods.objects(rendered)
        for volume in volumes:
            self.pod.volumes[volume].put(self.pod.files(f"tensorgate-{volume}", found))

    def log(self):
        """The lines of the host's audit log."""
        return self.pod.audit_log()

    def decisions(self):
        """Those about requests."""
        return [line for line in self.log() if line["type"] == "decision"]

    def logs(self):
        """The ends of all logs of processes."""
        return "\n".join(process.tail() for process in self.pod.running)


def connects(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _source(folder, name):
    return {"path": str(folder / name), "watchedDirectory": {"path": str(folder)}}


def put_files(made, folder, platform):
    """Writes the listeners, and for Istio each filter in a file of its own, as its agent delivers them:
    another policy then changes the filter alone. With Envoy Gateway it changes the listener.
    """
    listeners = copy.deepcopy(made["staticResources"]["listeners"])
    for number, filter_ in enumerate(_wasm_filters(listeners) if platform != "gateway" else []):
        name = f"filter-{number}.json"
        _write(folder, name, {"resources": [{"@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig", **filter_}]})
        source = {"resourceApiVersion": "V3", "pathConfigSource": _source(folder, name)}
        del filter_["typedConfig"]
        filter_["configDiscovery"] = {"configSource": source, "typeUrls": [WASM]}
    kind = "type.googleapis.com/envoy.config.listener.v3.Listener"
    _write(folder, "lds.json", {"resources": [{"@type": kind, **one} for one in listeners]})


def _wasm_filters(listeners):
    found = []
    for listener in listeners:
        for chain in listener.get("filterChains") or [listener["defaultFilterChain"]]:
            filters = chain["filters"][-1]["typedConfig"]["httpFilters"]
            found += [one for one in filters if one.get("typedConfig", {}).get("@type") == WASM]
    return found


def _write(folder, name, value):
    """Replaces a file by a rename; a file with the same content stays."""
    text = json.dumps(value)
    if (folder / name).exists() and (folder / name).read_text() == text:
        return
    (folder / f".{name}").write_text(text)
    (folder / f".{name}").rename(folder / name)
