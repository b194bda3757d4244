"""The real servers of these tests, each with the model of models/double.py, on loopback. A server
keeps its ports over a restart. All of its processes are found by a mark in their environment,
because servers fork and some of their children leave the process group.
"""

import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import stand_in
from processes import START_S, Process, fetch, free_ports, wait

HERE = Path(__file__).resolve().parent
MODELS = HERE / "models"
MARK = "TENSORGATE_SERVER"
# A start on a busy machine: Java, or a cluster of a dozen processes.
SLOW_START_S = 2 * START_S


def exchange(port, method, path, body=b"", headers=(), seconds=30):
    """One HTTP exchange on loopback with exactly this path: status, body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Server:
    """One server. Subclasses define how it starts, and how it is called directly."""

    # The folder of its packages, its place in the policy, whether it describes its model, and how
    # many ports it has.
    name, place, describes, ports = "", 0, True, 2
    # The calls that unload its model at its first port, and load it again: method and path.
    unload = load = None

    def __init__(self, made, folder):
        self.made, self.folder = made / self.name, folder / self.name
        self.folder.mkdir(parents=True)
        self.port = free_ports(self.ports)
        self.mark = f"{self.name}-{os.getpid()}"
        self.started = None

    def backend_port(self):
        """The port that the gate uses."""
        return self.port[1]

    def start(self, output="y"):
        """Starts it, and returns how long it took until it was ready. `output` is the name that it
        reports for its output.
        """
        self.launch(output)
        return self.wait_until_ready()

    def launch(self, output="y"):
        """Starts it. Call this from the main thread: processes end with the thread that started
        them.
        """
        self.begun = time.monotonic()
        shutil.rmtree(self.folder / "work", ignore_errors=True)
        (self.folder / "work").mkdir()
        arguments, more = self.command(output)
        environment = {
            "PATH": f"{self.made / 'bin'}:{os.environ.get('PATH', '')}",
            # Files that servers leave in a home folder are removed with the tests.
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(MODELS),
            "PYTHONDONTWRITEBYTECODE": "1",
            MARK: self.mark,
            **{name: str(value) for name, value in more.items()},
        }
        self.started = Process(self.name, arguments, self.folder / "log", environment)

    def wait_until_ready(self):
        """Waits until it serves; returns how long that took from its start."""
        try:
            wait(f"{self.name} is ready", self.is_ready, self.started.process, SLOW_START_S)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self.tail()}") from error
        return time.monotonic() - self.begun

    def is_ready(self):
        """Whether it is ready, called directly."""
        status, _ = fetch(f"http://127.0.0.1:{self.port[0]}{self.ready_path}") or (0, "")
        return status == 200

    def ask(self, rows, seconds=30):
        """Status and text of an inference, directly."""
        path, asked = self.question(rows)
        status, body = exchange(self.port[0], "POST", path, json.dumps(asked), {"content-type": "application/json"}, seconds)
        return status, body.decode(errors="replace")

    def doubled(self, rows):
        """The rows of its answer, directly."""
        status, text = self.ask(rows)
        if status != 200:
            raise RuntimeError(f"{self.name} answers {status} directly: {text[:500]}")
        return self.rows(json.loads(text))

    def processes(self):
        """All of its processes."""
        mark, found = f"{MARK}={self.mark}".encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def signal(self, number):
        """Signals all of its processes, including those that start meanwhile."""
        seen = set()
        while new := set(self.processes()) - seen:
            seen |= new
            for process in new:
                try:
                    os.kill(process, number)
                except ProcessLookupError:
                    continue

    def kill(self):
        """Kills all of it at once, like a machine that is lost."""
        self.signal(signal.SIGKILL)
        if self.started is not None:
            self.started.stop()
            self.started = None

    def end(self):
        """Kills it for good."""
        self.kill()

    def again(self):
        """Restarts it in its original state."""
        self.kill()
        self.start()

    def tail(self):
        """The end of its log."""
        return self.started.tail() if self.started else ""


class OpenInference(Server):
    """Servers that also speak the Open Inference Protocol over HTTP, which direct calls use."""

    ready_path = "/v2/health/ready"
    unload, load = ("POST", "/v2/repository/models/double/unload"), ("POST", "/v2/repository/models/double/load")

    def question(self, rows):
        flat = [each for row in rows for each in row]
        return "/v2/models/double/infer", {"id": "directly", "inputs": [{"name": "x", "datatype": "FP32", "shape": [len(rows), 2], "data": flat}]}

    def rows(self, answer):
        (y,) = answer["outputs"]
        flat = y["data"]
        return [flat[at : at + 2] for at in range(0, len(flat), 2)]


class Triton(OpenInference):
    """Triton with its Python backend, in explicit mode."""

    name, place, ports = "triton", 8001, 3

    def command(self, output):
        models = self.folder / "work/models"
        shutil.copytree(MODELS / "triton", models)
        # Its stub searches only beside the model.
        for module in ("double.py", "triggers.py"):
            shutil.copy(MODELS / module, models / "double/1")
        config = models / "double/config.pbtxt"
        config.write_text(config.read_text().replace('"y"', f'"{output}"'))
        base = subprocess.run([self.made / "bin/python", "-c", "import sys, sysconfig; print(sysconfig.get_config_var('LIBDIR'), sys.base_prefix + '/lib', sep=':')"], capture_output=True, text=True, check=True)
        # Its stub embeds Python, which searches for its packages beside the first python3 of PATH.
        environment = {"LD_LIBRARY_PATH": f"{self.made / 'libraries'}:{base.stdout.strip()}"}
        flags = {
            "model-repository": models,
            "backend-directory": self.made / "backends",
            "model-control-mode": "explicit",
            "load-model": "double",
            "http-address": "127.0.0.1",
            "http-port": self.port[0],
            "grpc-address": "127.0.0.1",
            "grpc-port": self.port[1],
            "metrics-address": "127.0.0.1",
            "metrics-port": self.port[2],
            "allow-gpu-metrics": "false",
            # Shared memory outlives a killed server: the next one uses another name, and the end of
            # the tests removes all.
            "backend-config": f"python,shm-region-prefix-name={self.shared()}-{time.monotonic_ns()}",
        }
        return [self.made / "bin/tritonserver", *(f"--{name}={value}" for name, value in flags.items())], environment

    def shared(self):
        """The name of its shared memory."""
        return f"tensorgate-{self.mark}"

    def kill(self):
        super().kill()
        for file in Path("/dev/shm").glob(f"{self.shared()}*"):
            file.unlink(missing_ok=True)


class MLServer(OpenInference):
    """MLServer with our runtime."""

    name, place, ports = "mlserver", 8002, 3

    def command(self, output):
        models = self.folder / "work/models"
        shutil.copytree(MODELS / "mlserver", models)
        settings = models / "model-settings.json"
        settings.write_text(settings.read_text().replace('"y"', f'"{output}"'))
        names = ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT")
        environment = {f"MLSERVER_{name}": port for name, port in zip(names, self.port, strict=True)}
        environment |= {"MLSERVER_HOST": "127.0.0.1", "MLSERVER_PARALLEL_WORKERS": 0, "MLSERVER_DEBUG": "false", "PYTHONPATH": f"{MODELS}:{models}"}
        environment["MLSERVER_METRICS_DIR"] = self.folder / "work"
        return [self.made / "bin/mlserver", "start", models], environment


class KServe(OpenInference):
    """KServe's model server."""

    name, place = "kserve", 8003
    # It cannot load a model that was given to it in code.
    load = None

    def command(self, output):
        arguments = [self.made / "bin/python", MODELS / "kserve_model.py", "--http_port", self.port[0], "--grpc_port", self.port[1]]
        return [*arguments, "--enable_docs_url", "False"], {"DOUBLE_OUTPUT": output}


class TorchServe(Server):
    """TorchServe with our handler. Its management port is open to all callers, which was its
    default for long.
    """

    name, place, describes, ports = "torchserve", 8004, False, 5
    ready_path = "/models/double"
    # A model without workers.
    unload, load = (("PUT", f"/models/double?min_worker={count}&max_worker={count}&synchronous=true") for count in (0, 1))

    def command(self, output):
        store = self.folder / "work/store"
        store.mkdir()
        archiver = [self.made / "bin/torch-model-archiver", "--model-name", "double", "--version", "1.0", "--handler", MODELS / "torchserve/handler.py"]
        subprocess.run([*archiver, "--export-path", store], env={**os.environ, "PYTHONPATH": str(MODELS)}, check=True, capture_output=True)
        shutil.copy(store / "double.mar", store / "second.mar")
        # Management first: it reports whether the model's worker is running.
        settings = {
            "management_address": f"http://127.0.0.1:{self.port[0]}",
            "grpc_inference_port": self.port[1],
            "inference_address": f"http://127.0.0.1:{self.port[2]}",
            "metrics_address": f"http://127.0.0.1:{self.port[3]}",
            "grpc_management_port": self.port[4],
            "grpc_inference_address": "127.0.0.1",
            "grpc_management_address": "127.0.0.1",
            "default_workers_per_model": 1,
        }
        file = self.folder / "work/config.properties"
        file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        logs, temporary = self.folder / "work/logs", self.folder / "work/tmp"
        temporary.mkdir()
        arguments = [self.made / "bin/torchserve", "--start", "--foreground", "--ncs", "--disable-token-auth", "--enable-model-api"]
        environment = {"LOG_LOCATION": logs, "METRICS_LOCATION": logs, "TEMP": temporary}
        return [*arguments, "--model-store", store, "--models", "double=double.mar", "--ts-config", file], environment

    def is_ready(self):
        status, text = fetch(f"http://127.0.0.1:{self.port[0]}/models/double") or (0, "")
        return status == 200 and any(worker["status"] == "READY" for worker in json.loads(text)[0]["workers"])

    def ask(self, rows, seconds=30):
        path, asked = self.question(rows)
        status, body = exchange(self.port[2], "POST", path, json.dumps(asked), {"content-type": "application/json"}, seconds)
        return status, body.decode(errors="replace")

    def question(self, rows):
        return "/predictions/double", {"x": rows}

    def rows(self, answer):
        return answer["y"]


class BentoML(Server):
    """A BentoML service."""

    name, place, describes, ports = "bentoml", 8005, False, 1
    ready_path = "/readyz"

    def backend_port(self):
        return self.port[0]

    def command(self, output):
        environment = {"BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": self.folder / "work"}
        return [self.made / "bin/bentoml", "serve", "bento_service:Double", "--host", "127.0.0.1", "--port", self.port[0]], environment

    def question(self, rows):
        return "/double-bento", {"x": rows}

    def rows(self, answer):
        return answer["y"]


class Ray(Server):
    """A deployment of Ray Serve in a cluster of one machine, with its dashboard."""

    name, place, describes, ports = "ray", 8006, False, 2
    ready_path = "/-/healthz"

    def __init__(self, made, folder):
        super().__init__(made, folder)
        # The paths of its sockets are long, and the kernel's limit is 107 bytes.
        self.short = tempfile.mkdtemp(prefix="tg-")

    def backend_port(self):
        return self.port[0]

    def command(self, output):
        # The setting of older clusters, and of those whose owner opts out: every caller of the
        # dashboard can run commands.
        environment = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": 0}
        return [self.made / "bin/python", MODELS / "ray_service.py", *self.port, self.short], environment

    def is_ready(self):
        if not super().is_ready():
            return False
        try:
            return self.ask([[1, 1]], 5)[0] == 200
        except OSError:
            return False

    def question(self, rows):
        return "/double-ray", {"x": rows}

    def rows(self, answer):
        return answer["y"]

    def kill(self):
        super().kill()
        shutil.rmtree(self.short, ignore_errors=True)
        Path(self.short).mkdir(mode=0o700)

    def end(self):
        super().end()
        shutil.rmtree(self.short, ignore_errors=True)


class Llama(Server):
    """llama.cpp's server with a language model of random weights."""

    name, place, describes, ports = "llama", 8007, False, 1
    ready_path = "/health"

    def backend_port(self):
        return self.port[0]

    def command(self, output):
        file = self.folder / "tiny.gguf"
        if not file.exists():
            subprocess.run([self.made / "bin/python", MODELS / "tiny_gguf.py", file], check=True)
        # For it, drift is a model with another name.
        name = "tiny" if output == "y" else output
        return [self.made / "bin/python", MODELS / "llama_server.py", file, name, self.port[0]], {}

    def ask_chat(self, asked):
        """Status and text of a chat, directly."""
        status, body = exchange(self.port[0], "POST", "/v1/chat/completions", json.dumps(asked), {"content-type": "application/json"})
        return status, body.decode(errors="replace")


class TfStandIn(Server):
    """A replacement for TF Serving, for which no package exists: its messages and services from its
    API package, behind our own server.
    """

    name, place, ports = "tf-stand-in", 8008, 1

    def backend_port(self):
        return self.port[0]

    def command(self, output):
        return [self.made / "bin/python", MODELS / "tf_stand_in.py", self.port[0], output], {}

    def is_ready(self):
        return self.ask([[1, 1]], 1)[0] == 200

    def ask(self, rows, seconds=30):
        """Over gRPC, its only protocol."""
        return stand_in.ask(self.port[0], rows, seconds)

    def rows(self, answer):
        return answer["y"]


KINDS = [Triton, MLServer, KServe, TorchServe, BentoML, Ray, Llama, TfStandIn]
