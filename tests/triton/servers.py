"""The Triton and the gates of these tests."""

import os
import shutil
import sys
import sysconfig

import processes
from processes import TOP, Process, fetch, free_ports, wait

# Ports are chosen before they are bound: another process may take one in between.
ATTEMPTS = 3


class Triton(Process):
    """A Triton in explicit mode, its own default: every caller may load, unload and run code."""

    def __init__(self, made, folder):
        models = folder / "models"
        shutil.rmtree(models, ignore_errors=True)
        shutil.copytree(TOP / "tests/triton/models", models)
        shutil.copy(TOP / "examples/models/digits/1/model.onnx", models / "digits/1")
        failure = None
        for _ in range(ATTEMPTS):
            try:
                return self.attempt(made, folder, models)
            except RuntimeError as error:
                failure = error
                self.stop()
        raise RuntimeError(f"{failure}\n{self.tail()}")

    def attempt(self, made, folder, models):
        """One attempt to start."""
        self.http_port, self.grpc_port, self.metrics_port = free_ports(3)
        shared = f"tensorgate-triton-{os.getpid()}-{self.grpc_port}"
        libraries = [made / "libraries", sysconfig.get_config_var("LIBDIR") or "", f"{sys.base_prefix}/lib"]
        environment = {
            # The backend embeds Python, which searches for its packages beside the first python3
            # here.
            "PATH": f"{made / 'bin'}:{os.environ.get('PATH', '')}",
            "HOME": str(folder),
            "LD_LIBRARY_PATH": os.pathsep.join(str(library) for library in libraries if library),
        }
        flags = {
            "model-repository": models,
            "backend-directory": made / "backends",
            "model-control-mode": "explicit",
            "http-address": "127.0.0.1",
            "http-port": self.http_port,
            "grpc-address": "127.0.0.1",
            "grpc-port": self.grpc_port,
            "metrics-address": "127.0.0.1",
            "metrics-port": self.metrics_port,
            "allow-gpu-metrics": "false",
            "backend-config": f"python,shm-region-prefix-name={shared}",
            "exit-timeout-secs": 5,
        }
        arguments = [made / "bin/tritonserver", *(f"--{name}={value}" for name, value in flags.items())]
        arguments += ["--load-model=digits", "--load-model=echo", "--load-model=repeat"]
        super().__init__("triton", arguments, folder / "triton.log", environment, leaves=f"/dev/shm/{shared}")
        ready = f"http://127.0.0.1:{self.http_port}/v2/health/ready"
        wait("Triton is ready", lambda: (fetch(ready) or (0,))[0] == 200, self.process)


class Gate(processes.Gate):
    """The gate in front of a Triton."""

    def __init__(self, triton, folder, name="gate", change=lambda policy: policy, serving=True):
        policy = (TOP / "tests/triton/gate.yaml").read_text()
        policy = policy.replace("http://127.0.0.1:8001", f"http://127.0.0.1:{triton.grpc_port}")
        file = folder / f"{name}.yaml"
        file.write_text(change(policy))
        super().__init__(file, folder, name, serving)
