#!/usr/bin/env python3
"""A release of the gate before a real Triton with a model on a GPU: answers, hostile requests, speed.

    bench/gpu/run.py ARCHIVE [--torch FOLDER] [--seconds N] [--connections N] [--out FILE]

ARCHIVE is what `make dist` makes. On a machine with a GPU, `--torch` names a folder with PyTorch
for CUDA for the same Python, as `pip install --target FOLDER torch` makes it. Without a GPU the model
runs on the CPU with Debian's PyTorch, under less load, and the report says so. It needs Envoy, as
`make setup` installs it, and the Triton of `make test-triton`. Exits 0 only if every answer is equal
and every hostile request is refused.
"""

import argparse
import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensorgate"
sys.path[:0] = [str(TOP / "tests/triton"), str(TOP / "tests/harness")]

BATCHES = [1, 8, 32]
# Batches under load, and connections. A CPU needs a second for each picture.
LOADS_ON_GPU, LOADS_ON_CPU = ([1, 8], 8), ([1], 2)
PROTOCOLS = ["grpc", "http"]


def installed(script):
    """The folder that a script of tools/ installs."""
    done = subprocess.run([TOP / "tools" / script], stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.splitlines()[-1])


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--torch", type=Path, help="a folder with PyTorch")
    parser.add_argument("--seconds", type=float, default=6, help="of each load")
    parser.add_argument("--connections", type=int, help="by default 8, or 2 without a GPU")
    parser.add_argument("--out", type=Path, help="the report; standard output by default")
    return parser.parse_args()


def gpu():
    """The GPU's name, or None."""
    try:
        command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def unpacked(archive, folder):
    """The folder of a release."""
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    (release,) = folder.iterdir()
    return release


def machine(name):
    """What the figures were made on."""
    with open("/proc/cpuinfo") as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), platform.machine())
    return f"{name or 'No GPU: the model runs on the CPU'}; {os.cpu_count()} processors ({model}), Linux {platform.release()}"


def started(stack, options, folder, name):
    """Triton with the model, and the gate before it."""
    import processes
    import servers

    made = installed("triton.sh")
    if not (options.torch or name is None):
        sys.exit("bench/gpu: name a folder with PyTorch for CUDA: --torch FOLDER (pip install --target FOLDER torch)")
    torch = None if options.torch else installed("torch.sh")
    environment = servers.environment(made, folder)
    environment["TORCH"] = str(options.torch.resolve() if options.torch else torch / "python")
    if torch:
        environment["LD_LIBRARY_PATH"] += f":{torch / 'lib'}"
    shutil.copytree(HERE / "models", folder / "models")
    http, grpc, metrics = processes.free_ports(3)
    command = [made / "bin/tritonserver", *servers.flags(made, http, grpc, metrics), f"--model-repository={folder / 'models'}"]
    command += ["--http-address=127.0.0.1", "--grpc-address=127.0.0.1"]
    leaves = f"/dev/shm/{servers.shared_memory(grpc)}"
    triton = processes.Process("triton", command, folder / "triton.log", environment, leaves=leaves)
    stack.callback(triton.stop)
    try:
        processes.wait("Triton", lambda: servers.is_ready(http), triton.process, 180)
    except RuntimeError as error:
        sys.exit(f"bench/gpu: {error}\n{triton.log.read_text()}")
    (folder / "release").mkdir()
    release = unpacked(options.archive, folder / "release")
    os.environ.setdefault("ENVOY", str(CACHE / "envoy/bin/envoy"))
    policy = folder / "gate.yaml"
    policy.write_text((HERE / "gate.yaml").read_text().replace("127.0.0.1:8001", f"127.0.0.1:{grpc}"))
    gate = processes.Gate(policy, folder, program=release / "tensorgate")
    stack.callback(gate.stop)
    processes.wait("the gate", gate.all_ready, gate.process)
    on = next((line.split("resnet50: ")[1].strip('"') for line in triton.log.read_text().splitlines() if "resnet50: PyTorch" in line), "")
    return triton, gate, (f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"), on


def same_answers(direct, through):
    """Lines of the report, and the number of answers that differ."""
    import numpy as np
    from answers import infer

    lines, wrong, random = ["| batch | protocol | answers |", "|---|---|---|"], 0, np.random.default_rng(5)
    for batch in BATCHES:
        image = random.standard_normal((batch, 3, 224, 224), np.float32).clip(-9, 9)
        for protocol in PROTOCOLS:
            one, other = (infer(side, protocol, "resnet50", [("image", "FP32", image)]) for side in (direct, through))
            wrong += one != other
            lines.append(f"| {batch} | {protocol} | {'equal in every bit' if one == other else 'WRONG: they differ'} |")
    return lines, wrong


def loads(options, batches, roots, ways):
    """Lines of the report, and the number of errors."""
    import numpy as np
    from load import Load

    lines = ["| batch | protocol | way | requests/s | p50 ms | p99 ms | Envoy µs | host µs | tritonserver µs |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    errors = []
    for batch in batches:
        inputs = [("image", "FP32", np.zeros((batch, 3, 224, 224), np.float32))]
        for protocol in PROTOCOLS:
            for way, at in ways.items():
                load = Load(at, protocol, "resnet50", inputs, options.connections, options.seconds, roots)
                errors += load.errors
                cells = [f"{load.per_second():.1f}", f"{load.quantile(0.5):.1f}", f"{load.quantile(0.99):.1f}"]
                for name in ("envoy", "tensorgate-host", "tritonserver"):
                    is_beside = way == "direct" and name != "tritonserver"
                    cells.append("–" if is_beside else f"{load.microseconds(name):,.0f}")
                lines.append(f"| {batch} | {protocol} | {way} | {' | '.join(cells)} |")
    return [*lines, *(f"- ERROR {error}" for error in errors)], len(errors)


def main():
    """Runs everything. Returns the exit status."""
    options, name = arguments(), gpu()
    batches, connections = LOADS_ON_GPU if name else LOADS_ON_CPU
    options.connections = options.connections or connections
    key = (TOP / "examples/policies/digits/keys/scorer.key").read_text().strip()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tg-gpu-")))
        triton, gate, at, on = started(stack, options, folder, name)
        import hostile
        from clients import Side

        ways = {"direct": (*at, None), "gate": (gate.address, gate.address, key), "anonymous": (gate.address, gate.address, None)}
        sides = [stack.enter_context(contextlib.closing(Side(way, *to))) for way, to in ways.items()]
        report, wrong = ["# A model behind the gate", "", f"{machine(name)}. {on}; {options.archive.name}."], 0
        roots = {triton.process.pid, gate.process.pid}
        ways.pop("anonymous")
        for title, (lines, faults) in [
            ("Answers", same_answers(*sides[:2])),
            ("Hostile requests", hostile.table(*sides)),
            (f"Speed, {options.connections} connections, {options.seconds:g} s each; CPU time a request", loads(options, batches, roots, ways)),
        ]:
            report += ["", f"## {title}", "", *lines]
            wrong += faults
    text = "\n".join(report) + "\n"
    options.out.write_text(text) if options.out else print(text, end="")
    return 1 if wrong else 0


if __name__ == "__main__":
    python = installed("triton.sh") / "bin/python"
    if Path(sys.executable) != python:
        os.execv(python, [str(python), __file__, *sys.argv[1:]])
    sys.exit(main())
