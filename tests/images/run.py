#!/usr/bin/env python3
"""`make test-images`: the images of a release, in a real registry and back.

run.py FOLDER takes the one unpacked release in FOLDER. Its command writes the images twice, which
must give the same bytes. `skopeo` pushes each to a registry on loopback and pulls it by its digest.
What was pulled must be what was written: the filter as Istio and Envoy Gateway read it, and programs
that start. The first failure ends the run with an error. Logs stay in target/images.
"""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.append(str(Path(__file__).resolve().parents[1] / "harness"))

from processes import Process, begin, fetch, free_ports, wait

IMAGES = ["filter", "host", "command", "model"]
# Programs in the images of containers.
PROGRAMS = {
    "host": ["tensorgate-host"],
    "command": ["tensorgate", "tensorgate-handler", "tensorgate-model"],
    "model": ["tensorgate-model"],
}
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
# Attempts to start the registry: another process may take its port in between.
ATTEMPTS = 5


def require(condition, what):
    """A check."""
    if not condition:
        raise SystemExit(f"test-images: {what}")


def program(name, variable):
    """A program that tools/registry.sh finds."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensorgate/registry" / name
    found = os.environ.get(variable) or (str(cache) if cache.is_file() else shutil.which(name))
    require(found, f"no {name}: run `make setup`, install one, or name one in {variable}")
    return found


def run(*command):
    """What a command prints."""
    environment = {**os.environ, "NO_PROXY": "*"}
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    require(done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}")
    return done.stdout


def files(folder):
    """Contents of all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Registry(Process):
    """A registry without TLS and users, on loopback."""

    def __init__(self, folder):
        (port,) = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        config = folder / "registry.yml"
        storage = json.dumps(str(folder / "storage"))
        config.write_text(
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {storage}}}}}\n"
            f'http: {{addr: "{self.address}", secret: test}}\n'
        )
        super().__init__("registry", [program("docker-registry", "DOCKER_REGISTRY"), "serve", config], folder / "registry.log")
        wait("the registry", lambda: fetch(f"http://{self.address}/v2/"), self.process)


def registry(folder):
    """A registry that answers."""
    for attempt in range(ATTEMPTS):
        try:
            return Registry(folder)
        except RuntimeError:
            if attempt + 1 == ATTEMPTS:
                raise


class Layout:
    """The image of a layout, with each blob compared with its descriptor."""

    def __init__(self, folder):
        self.folder = folder
        index = json.loads((folder / "index.json").read_bytes())
        self.entry = index["manifests"][0]
        self.manifest = json.loads(self.blob(self.entry))
        self.config = json.loads(self.blob(self.manifest["config"]))
        (self.layer,) = self.manifest["layers"]
        require(self.layer["mediaType"] == LAYER, f"the layer of {folder}")

    def blob(self, descriptor):
        algorithm, digest = descriptor["digest"].split(":")
        content = (self.folder / "blobs" / algorithm / digest).read_bytes()
        require(hashlib.sha256(content).hexdigest() == digest, f"the digest of {digest} in {self.folder}")
        require(len(content) == descriptor["size"], f"the size of {digest} in {self.folder}")
        return content

    def archive(self):
        return tarfile.open(fileobj=io.BytesIO(gzip.decompress(self.blob(self.layer))))


def check_filter(pulled, release):
    """The module is found as Istio and Envoy Gateway look for it."""
    with pulled.archive() as archive:
        (entry,) = [each for each in archive if Path(each.name).name == "plugin.wasm"]
        module = archive.extractfile(entry).read()
    require(module == (release / "filters/gate.wasm").read_bytes(), "the filter in its image")


def check_container(name, pulled, release, folder):
    """Files of the release, a user who is not root, and programs that start."""
    user = pulled.config["config"]["User"]
    require(user == "65532:65532", f"the user of {name}: {user}")
    with pulled.archive() as archive:
        entries = archive.getmembers()
        require(all(entry.isfile() or entry.isdir() for entry in entries), f"{name} has an entry that is no file")
        archive.extractall(folder, filter="data")
    for each in PROGRAMS[name]:
        found = folder / "usr/local/bin" / each
        require(found.read_bytes() == (release / each).read_bytes(), f"{each} in the image")
        run(found, "--version")
    if name == "host":
        for each in ["filters/gate.wasm", "filters/libtensorgate_gate.so"]:
            require((folder / each).read_bytes() == (release / each).read_bytes(), f"{each} in the image")
    entrypoint = PROGRAMS[name][0]
    require(pulled.config["config"]["Entrypoint"] == [f"/usr/local/bin/{entrypoint}"], f"how {name} starts")


def main():
    (release,) = [path for path in Path(sys.argv[1]).resolve().glob("tensorgate-*-linux") if path.is_dir()]
    skopeo = [program("skopeo", "SKOPEO"), "--insecure-policy", "copy", "--quiet", "--preserve-digests"]
    folder = begin("images")
    for output in ("first", "second"):
        run(release / "tensorgate", "image", "build", "--release", release, "-o", folder / output)
    require(files(folder / "first") == files(folder / "second"), "two builds differ")
    digests = json.loads((folder / "first/images.json").read_bytes())
    require(list(digests) == IMAGES, f"images.json has {list(digests)}")
    remote = registry(folder)
    try:
        for name, digest in digests.items():
            written = Layout(folder / "first" / name)
            require(written.entry["digest"] == digest, f"the digest of {name} in images.json")
            tag = written.entry["annotations"]["org.opencontainers.image.ref.name"]
            repository = f"docker://{remote.address}/tensorgate/{name}"
            source = f"oci:{folder / 'first' / name}:{tag}"
            run(*skopeo, "--dest-tls-verify=false", source, f"{repository}:{tag}")
            target = folder / "pulled" / name
            target.parent.mkdir(exist_ok=True)
            run(*skopeo, "--src-tls-verify=false", f"{repository}@{digest}", f"oci:{target}:{tag}")
            pulled = Layout(target)
            require(pulled.entry["digest"] == digest, f"{name} was pulled as {pulled.entry['digest']}")
            require(pulled.blob(pulled.layer) == written.blob(written.layer), f"the layer of {name}")
            if name == "filter":
                check_filter(pulled, release)
            else:
                check_container(name, pulled, release, folder / "unpacked" / name)
    finally:
        remote.stop()
    print(f"test-images: {', '.join(digests)} of {release.name} came back from a registry as they were")


if __name__ == "__main__":
    main()
