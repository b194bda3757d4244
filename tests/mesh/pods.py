"""A pod on this machine: the volumes of a rendered Deployment as folders, filled as the kubelet fills
them, and its containers as processes with exactly their arguments. Paths of mounts become those of
the folders, and ports become free ones. What no volume mounts does not exist.
"""

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import cgroups
import istio
import manifests
from processes import Process, fetch, free_ports, wait

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or TOP / "target")
MODULE = TARGET / "filters/gate.wasm"
NATIVE_MODULE = TARGET / "debug/libtensorgate_gate.so"
# Folders whose content a container must not find by chance on this machine, beside those of mounts.
OURS = [f"/{folder}/tensorgate" for folder in ("run", "etc", "var/lib", "var/cache", "opt")]
# The length of a compiled policy's header. Its last eight bytes are a checksum (FNV-1a) of the rest.
HEADER_BYTES = 24
SERVER = re.compile(r"[a-z.-]+:\d+")
LISTENING = re.compile(r"^(--[a-z-]+=)(?:0\.0\.0\.0|127\.0\.0\.1):(\d+)$")


class Folder:
    """A ConfigMap or a Secret as a mounted folder. Its files are links into a folder that one rename
    replaces.
    """

    def __init__(self, path, files):
        self.path, self.count = path, 0
        path.mkdir(parents=True)
        self.put(files)

    def put(self, files):
        """Replaces all files at once."""
        self.count += 1
        made = self.path / f"..{self.count}"
        made.mkdir()
        for name, text in files.items():
            (made / name).write_bytes(text if isinstance(text, bytes) else text.encode())
            (made / name).chmod(0o600)
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")
        link = self.path / "..link"
        link.symlink_to(made.name)
        link.rename(self.path / "..data")


def varint(number):
    """A number as a compiled policy has it: seven bits a byte, the lowest first."""
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def counted(text):
    """A text as a compiled policy has it."""
    return varint(len(text)) + text.encode()


def objects(folder):
    """The objects of a rendered folder by kind and name."""
    return {(one["kind"], one["metadata"]["name"]): one for _, one in manifests.read([folder]) if "metadata" in one}


class Pod:
    """The pod of a rendered folder. `secrets` has the files of each Secret, `replaced` texts to exchange
    in ConfigMaps: names that nothing resolves here. `name` is the gate's.
    """

    def __init__(self, rendered, folder, secrets, replaced, name="tensorgate"):
        self.folder, self.secrets, self.replaced = folder, secrets, replaced
        self.objects = objects(rendered)
        self.spec = self.objects["Deployment", name]["spec"]["template"]["spec"]
        self.ports, self.volumes, self.paths = {}, {}, {}
        self.running = []
        for container in self.containers():
            for mount in container["volumeMounts"]:
                known = self.paths.setdefault(mount["mountPath"], folder / "v" / mount["name"])
                if known.name != mount["name"]:
                    raise ValueError(f"{mount['mountPath']} is two volumes in one pod: not mapped here")
        folders = "|".join(re.escape(path) for path in sorted({*self.paths, *OURS}, key=len, reverse=True))
        self.known = re.compile(rf"(?<![\w./-])(?:{folders})(?:/[\w.-]+)*(?![\w.-])")
        for volume in self.spec["volumes"]:
            self._fill(volume)

    def _fill(self, volume):
        path = self.folder / "v" / volume["name"]
        if "emptyDir" in volume:
            path.mkdir(parents=True)
            return
        if "configMap" in volume:
            files = self.files(volume["configMap"]["name"])
        else:
            secret = volume["secret"]
            found = self.secrets[secret["secretName"]]
            wanted = secret.get("items") or [{"key": name, "path": name} for name in found]
            files = {item["path"]: found[item["key"]] for item in wanted}
        self.volumes[volume["name"]] = Folder(path, files)

    def files(self, config_map, of=None):
        """The files of a ConfigMap, with paths, names and ports of this machine."""
        found = (of or self.objects)["ConfigMap", config_map]
        made = {name: self.local(text) for name, text in found.get("data", {}).items()}
        for name, text in found.get("binaryData", {}).items():
            made[name] = self.local_policy(base64.b64decode(text, validate=True))
        if "envoy.yaml" in made and not cgroups.counted():
            made["envoy.yaml"] = cgroups.without_monitor(made["envoy.yaml"])
        return made

    def local(self, text):
        """A text with paths and names of this machine."""
        for name, replacement in self.replaced.items():
            text = text.replace(name, replacement)
        return self.known.sub(lambda found: self.path(found.group()), text)

    def local_policy(self, compiled):
        """A compiled policy with servers of this machine. A text has its length in front of it."""
        fields = compiled[HEADER_BYTES:]
        for name, replacement in self.replaced.items():
            if not SERVER.fullmatch(name):
                continue
            (host, port), (new_host, new_port) = name.rsplit(":", 1), replacement.rsplit(":", 1)
            for scheme in ("http://", "https://"):
                fields = fields.replace(counted(scheme + name), counted(scheme + replacement))
            fields = fields.replace(counted(host) + varint(int(port)), counted(new_host) + varint(int(new_port)))
        checksum = 0xCBF29CE484222325
        for byte in fields:
            checksum = (checksum ^ byte) * 0x100000001B3 % 2**64
        return compiled[: HEADER_BYTES - 8] + checksum.to_bytes(8, "big") + fields

    def path(self, path):
        """Where a path of a container is here."""
        for mounted in sorted(self.paths, key=len, reverse=True):
            if path == mounted or path.startswith(f"{mounted}/"):
                return str(self.paths[mounted]) + path[len(mounted):]
        return str(self.folder / "missing") + path

    def port(self, port):
        """The port of this machine for one of the pod."""
        return self.ports.setdefault(int(port), free_ports(1)[0])

    def container(self, name):
        """A container of the pod."""
        return next(one for one in self.containers() if one["name"] == name)

    def containers(self):
        """All containers of the pod."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    def environment(self, container):
        """The environment that a container has."""
        made = {"PATH": os.environ["PATH"]}
        for entry in container.get("env", []):
            reference = entry["valueFrom"]["secretKeyRef"]
            made[entry["name"]] = self.secrets[reference["name"]][reference["key"]].strip()
        return made

    def start(self, name, program):
        """Starts a container with its arguments."""
        container = self.container(name)
        arguments = []
        for argument in container["args"]:
            listening = LISTENING.match(argument)
            if listening:
                argument = f"{listening[1]}127.0.0.1:{self.port(listening[2])}"
            arguments.append(self.local(argument))
        process = Process(name, [program, *arguments], self.folder / f"{name}.log", self.environment(container))
        self.running.append(process)
        return process

    def start_host(self, program=TARGET / "debug/tensorgate-host"):
        """Starts the host, and waits until its startup probe succeeds. Its readiness may need the filter."""
        host = self.start("host", program)
        try:
            wait("the host", lambda: self.succeeds("host", "startupProbe"), host.process, 30)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{host.tail()}") from None

    def wait_ready(self):
        """Waits until every container that runs and has a readiness probe is ready."""
        probed = {one["name"] for one in self.containers() if "readinessProbe" in one}
        for process in self.running:
            if process.name not in probed:
                continue
            # The kubelet probes all containers meanwhile, and the host may wait for the probe of Envoy.
            ready = lambda: {name: self.succeeds(name, "readinessProbe") for name in probed}[process.name]
            wait(f"{process.name} to be ready", ready, process.process, 30)

    def succeeds(self, name, kind):
        """Whether a probe of a container succeeds, as the kubelet runs it."""
        probe = self.container(name)[kind]
        if "exec" in probe:
            command = [self.local(word) for word in probe["exec"]["command"]]
            try:
                return subprocess.run(command, capture_output=True, check=False, timeout=probe["timeoutSeconds"]).returncode == 0
            except subprocess.TimeoutExpired:
                return False
        ports = {one["name"]: one["containerPort"] for one in self.container(name)["ports"]}
        url = f"http://127.0.0.1:{self.port(ports[probe['httpGet']['port']])}{probe['httpGet']['path']}"
        return (fetch(url) or (0,))[0] == 200

    def install_filters(self):
        """What the init container does: the image's filters and the host's program into the volume."""
        container = self.container("filters")
        if container["args"][0] != "install-filters":
            raise ValueError(f"{container['args']} of an init container is not followed here")
        for module in (MODULE, NATIVE_MODULE):
            shutil.copy(module, self.path(container["args"][1]))
        self.install_program()

    def install_program(self):
        """The host's program in the same volume, for the probe of Envoy's container."""
        link = Path(self.path(self.container("filters")["args"][1])) / "tensorgate-host"
        link.symlink_to(TARGET / "debug/tensorgate-host")

    def audit_log(self):
        """The lines of the host's audit log."""
        lines = []
        for file in sorted(self.folder.glob("v/audit/audit/*.jsonl")):
            lines += [json.loads(line) for line in file.read_text(errors="replace").splitlines() if line.endswith("}")]
        return lines

    def stop(self):
        """Stops all processes, the last first. Returns how many did not end by themselves."""
        failed = [process for process in reversed(self.running) if not process.stop()]
        for process in failed:
            print(f"{process.name} did not end with 0\n{process.tail()}")
        return len(failed)


def generation(folder):
    """The version of the host's policy in a rendered folder."""
    encoded = objects(folder)["ConfigMap", "tensorgate-policy"]["binaryData"]["bundle.bin"]
    return version(base64.b64decode(encoded, validate=True))


def version(compiled):
    """The version of a compiled policy: its first field, with the length before it."""
    fields = compiled[HEADER_BYTES:]
    return fields[1 : 1 + fields[0]].decode()


def native_filters(document):
    """The filters that an EnvoyFilter adds to a listener."""
    patches = document["spec"]["configPatches"]
    return [one["patch"]["value"] for one in patches if one["applyTo"] == "HTTP_FILTER"]


def compiled_of(document):
    """The compiled policy in an object's filter configuration."""
    if document["kind"] == "EnvoyFilter":
        (filter_,) = native_filters(document)
        configured = json.loads(filter_["typed_config"]["filter_config"]["value"])
    elif document["kind"] == "EnvoyExtensionPolicy":
        (filters,) = (document["spec"][kind] for kind in ("wasm", "dynamicModule") if kind in document["spec"])
        configured = filters[0]["config"]
    else:
        configured = istio.extension(document)["wasm"]["pluginConfig"]
    if configured.keys() != {"bundle"}:
        raise ValueError(f"the filter's configuration has {sorted(configured)}; expected bundle alone")
    return base64.b64decode(configured["bundle"], validate=True)
