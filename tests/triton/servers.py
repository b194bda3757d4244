"""The Triton and the gates of these tests."""

import os
import shutil
import sys
import sysconfig

import processes
from processes import TOP, Process, fetch, free_ports, wait

# Ports are chosen before they are bound: another process may take one in between.
ATTEMPTS = 3


def environment(made, folder):
    """The environment of a Triton."""
    libraries = [made / "libraries", sysconfig.get_config_var("LIBDIR") or "", f"{sys.base_prefix}/lib"]
    return {
        # The backend embeds Python, which searches for its packages beside the first python3 here.
        "PATH": f"{made / 'bin'}:{os.environ.get('PATH', '')}",
        "HOME": str(folder),
        "LD_LIBRARY_PATH": os.pathsep.join(str(library) for library in libraries if library),
    }


def flags(made, http_port, grpc_port, metrics_port):
    """The flags that every Triton of these tests needs: the backends, and ports of its own."""
    values = {
        "backend-directory": made / "backends",
        "http-port": http_port,
        "grpc-port": grpc_port,
        "metrics-address": "127.0.0.1",
        "metrics-port": metrics_port,
        "allow-gpu-metrics": "false",
        "backend-config": f"python,shm-region-prefix-name={shared_memory(grpc_port)}",
        "exit-timeout-secs": 5,
    }
    return [f"--{name}={value}" for name, value in values.items()]


def shared_memory(grpc_port):
    """What the names of a Triton's shared memory begin with."""
    return f"tensorgate-triton-{os.getpid()}-{grpc_port}"


def is_ready(http_port):
    """Whether a Triton and its models are ready."""
    return (fetch(f"http://127.0.0.1:{http_port}/v2/health/ready") or (0,))[0] == 200


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
        shared = shared_memory(self.grpc_port)
        arguments = [made / "bin/tritonserver", *flags(made, self.http_port, self.grpc_port, self.metrics_port)]
        arguments += [f"--model-repository={models}", "--model-control-mode=explicit"]
        arguments += ["--http-address=127.0.0.1", "--grpc-address=127.0.0.1"]
        arguments += ["--load-model=digits", "--load-model=echo", "--load-model=repeat"]
        super().__init__("triton", arguments, folder / "triton.log", environment(made, folder), leaves=f"/dev/shm/{shared}")
        wait("Triton is ready", lambda: is_ready(self.http_port), self.process)


class Gate(processes.Gate):
    """The gate in front of a Triton."""

    def __init__(self, triton, folder, name="gate", change=lambda policy: policy, serving=True):
        policy = (TOP / "tests/triton/gate.yaml").read_text()
        policy = policy.replace("http://127.0.0.1:8001", f"http://127.0.0.1:{triton.grpc_port}")
        file = folder / f"{name}.yaml"
        file.write_text(change(policy))
        super().__init__(file, folder, name, serving)
