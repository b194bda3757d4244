"""The pages "Serve only verified models" and "Require verified models", followed with real models.

Each model is signed and copied with the arguments of the page's manifest, and what serves it loads
the copy: a real Triton, KServe's storage package, and a stand-in for TensorFlow Serving, which only
reads the files that that server would load. After a change of one byte nothing is served. Then the
gate requires the models of a real Triton.
"""

import os
import shutil
import subprocess
from pathlib import Path

import real_models
import yaml
from kserve_storage import Storage
from processes import TOP, Process, fetch, free_ports, wait
from servers import Gate, environment, flags, is_ready, shared_memory

PROGRAM = TOP / "target/debug/tensorgate-model"
MANIFESTS = TOP / "examples/verified-models"
VARIABLES = "1/variables/variables.data-00000-of-00001"
# The mounts of the containers, each before those that begin as it does.
MOUNTS = ("/mnt/models", "/models", "/signer", "/source")
REQUIRED = """
    artifact:
      path: {path}
      signed_by: [release]
      subject: digits
      allow: [triton-python]
"""


class Cluster:
    """What the containers of the page's pods see, as folders of this machine."""

    def __init__(self, folder):
        self.folder = folder
        for mount in MOUNTS:
            self.here(mount).mkdir(parents=True)
        self.key = folder / "signer.key"
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", self.key)
        self.key.chmod(0o600)
        self.public_key = self.here("/signer/signer.pem")
        openssl("pkey", "-in", self.key, "-pubout", "-out", self.public_key)

    def here(self, path):
        """The folder of this machine for a path of a container."""
        return self.folder / path.strip("/")

    def word(self, word):
        """An argument of a container, with folders of this machine."""
        for mount in MOUNTS:
            for before in ("", "file://", "="):
                start, mounted, rest = word.partition(before + mount)
                if mounted and (not start or before == "="):
                    return f"{start}{before}{self.here(mount)}{rest}"
        return word

    def new_pod(self):
        """Empties the volumes that a pod has for itself. Copies are read-only."""
        for mount in ("/mnt/models", "/models"):
            folders = [path for path in self.here(mount).rglob("*") if path.is_dir()]
            for folder in folders:
                folder.chmod(0o755)
            shutil.rmtree(self.here(mount))
            self.here(mount).mkdir()

    def verify(self, manifest, more=()):
        """Runs the container of a manifest that verifies a model, with further arguments."""
        objects = {each["kind"]: each for each in yaml.safe_load_all((MANIFESTS / manifest).read_text())}
        if "Deployment" in objects:
            words = objects["Deployment"]["spec"]["template"]["spec"]["initContainers"][0]["args"]
        else:
            # KServe adds the URI and the folder.
            model = objects["InferenceService"]["spec"]["predictor"]["model"]
            words = objects["ClusterStorageContainer"]["spec"]["container"]["command"][1:]
            words += [model["storageUri"], "/mnt/models"]
        return ran(*map(self.word, words), *more)


def openssl(*words):
    """Runs OpenSSL's command."""
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


def ran(*words):
    """Runs a verb of `tensorgate model`: its status, and what it said."""
    done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


def change(file):
    """Changes the last byte of a file, as damage on a disk would."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def follow(table, made, folder):
    """Follows both pages."""
    table.head("verified models: signed, copied as the manifests say, and loaded")
    cluster = Cluster(folder / "verified")

    def section(manifest, model, write, copy, load, damaged, more=()):
        source = cluster.here("/source") / model
        shutil.rmtree(source, ignore_errors=True)
        write(source)
        status, said = ran("sign", source, "--private-key", cluster.key)
        table.row(f"{manifest}: sign {model}", "", f"{status}: {said}", status == 0, said)
        status, said = cluster.verify(manifest, more)
        loaded = load(cluster.here(copy)) if status == 0 else None
        table.row(f"{manifest}: load {model}", loaded, f"{status}: {said}", loaded, said)
        change(source / damaged)
        cluster.new_pod()
        status, said = cluster.verify(manifest, more)
        is_refused = status == 1 and not cluster.here(copy).exists()
        table.row(f"{manifest}: {damaged} changed", "", f"{status}: {said}", is_refused, said)

    section("tf-serving.yaml", "resnet", real_models.saved_model, "/models/resnet", tf_serving_stand_in, VARIABLES)
    section("vllm.yaml", "llama", real_models.language_model, "/models/llama", files, "tokenizer.model")
    section("kserve.yaml", "llama", real_models.language_model, "/mnt/models/model", kserve, "chat_template.jinja")
    section(
        "triton.yaml", "repository", real_models.triton_repository, "/models/repository",
        lambda copy: triton(made, folder, copy), "digits/1/model.onnx.data", ["--allow=triton-python"],
    )
    required(table, made, folder, cluster)


def files(copy):
    """How many files a copy has, which nothing here loads."""
    return f"{sum(path.is_file() for path in copy.rglob('*'))} files"


def tf_serving_stand_in(base):
    """Reads what TensorFlow Serving would load: the graph and the variables of the greatest version."""
    version = max((path for path in base.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    wanted = ["saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"]
    return f"stand-in: {sum(len((version / name).read_bytes()) for name in wanted)} bytes"


def kserve(copy):
    """What KServe's servers find with its storage package."""
    found = Storage.download(f"file://{copy}")
    return files(Path(found))


class Served(Process):
    """A Triton that serves all models of a repository."""

    def __init__(self, made, folder, repository):
        self.http_port, self.grpc_port, metrics_port = free_ports(3)
        arguments = [made / "bin/tritonserver", *flags(made, self.http_port, self.grpc_port, metrics_port)]
        arguments += [f"--model-repository={repository}", "--http-address=127.0.0.1", "--grpc-address=127.0.0.1"]
        leaves, log = f"/dev/shm/{shared_memory(self.grpc_port)}", folder / "verified/triton.log"
        if os.geteuid() == 0:
            # Root writes into read-only folders, too.
            arguments = ["setpriv", "--bounding-set=-dac_override", *arguments]
        super().__init__("triton", arguments, log, environment(made, folder), leaves=leaves)
        wait("Triton is ready with a verified model", lambda: is_ready(self.http_port), self.process)


def triton(made, folder, repository):
    """Has a real Triton load a copy."""
    server = Served(made, folder, repository)
    try:
        status, _ = fetch(f"http://127.0.0.1:{server.http_port}/v2/models/digits/ready")
        return "Triton is ready" if status == 200 else None
    finally:
        server.stop()


def required(table, made, folder, cluster):
    """The gate requires the files of a Triton on this machine."""
    repository = folder / "repository"
    real_models.triton_repository(repository)
    status, said = ran("sign", repository / "digits", "--private-key", cluster.key)
    table.row("required: sign digits", "", f"{status}: {said}", status == 0, said)
    # Else the Python backend writes compiled sources, which no signature covers, beside the model's.
    for path in (repository, *repository.rglob("*")):
        path.chmod(path.stat().st_mode & ~0o222)

    def require(policy):
        models, rest = policy.split("  echo:\n", 1)
        artifact = REQUIRED.strip("\n").format(path=repository / "digits")
        grants = rest[rest.index("\ngrants:"):].replace("[digits, echo]", "[digits]")
        grants = grants[:grants.index("  - name: repeating")] + grants[grants.index("  - name: scoring"):]
        keys = f"keys:\n  release: {{public_key_file: {cluster.public_key}}}\n"
        return f"{models}{artifact}\n{grants}\n{keys}"

    server = Served(made, folder, repository)
    gate = None
    try:
        gate = Gate(server, folder, "required", require)
        wait("the required model is ready", gate.all_ready, gate.process)
        table.row("required: a model of the Python backend is ready", "", "ready", True)
        data = repository / "digits/1/model.onnx.data"
        data.chmod(0o644)
        change(data)
        changed = '"1/model.onnx.data" has other content than was signed'
        wait("a changed model is not ready", lambda: changed in (fetch(gate.readyz) or "  ")[1])
        table.row("required: model.onnx.data changed", "", "not ready", True)
    finally:
        if gate:
            gate.stop()
        server.stop()
