"""Hostile requests through the gate. None may reach the model or change the GPU's memory."""

import subprocess

import numpy as np
from answers import infer
from clients import attempt, status

MODEL = "resnet50"
IMAGE = (1, 3, 224, 224)
# Routes of Triton that are no inference: of HTTP, and of gRPC's service.
PATHS = ["repository/index", f"repository/models/{MODEL}/load", f"repository/models/{MODEL}/unload", "trace/setting"]
PATHS += [f"{kind}sharedmemory/region/a/register" for kind in ("system", "cuda")]
METHODS = ["RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload", "TraceSetting"]
METHODS += [f"{kind}SharedMemoryRegister" for kind in ("System", "Cuda")]
COUNTERS = ["memory.used", "utilization.gpu", "ecc.errors.uncorrected.volatile.total"]


def with_value(value):
    """An image with one other value."""
    image = np.zeros(IMAGE, np.float32)
    image[0, 0, 0, 0] = value
    return image


# Tensors that the policy refuses.
TENSORS = {
    "NaN": with_value(np.nan),
    "infinity": with_value(np.inf),
    "out of range": with_value(11),
    "batch of 64": np.zeros((64, *IMAGE[1:]), np.float32),
    "wrong shape": np.zeros((1, 3, 225, 224), np.float32),
}


def counters():
    """The GPU's counters, or None without a GPU."""
    command = ["nvidia-smi", f"--query-gpu={','.join(COUNTERS)}", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def executions(direct):
    """How often Triton has run the model."""
    (model,) = direct.http.get_inference_statistics(MODEL, "1")["model_stats"]
    return model["execution_count"]


def sent(direct, through, anonymous):
    """Sends all: (what, what the client saw, whether that is right)."""
    for protocol, refused, unknown in (("http", "400", "401"), ("grpc", "INVALID_ARGUMENT", "UNAUTHENTICATED")):
        call = lambda side, image: attempt(lambda: infer(side, protocol, MODEL, [("image", "FP32", image)]))[1]
        for what, image in TENSORS.items():
            error = call(through, image)
            yield f"{what}, {protocol}", status(error) if error else "OK", bool(error) and status(error) == refused
        error = call(anonymous, with_value(0))
        yield f"no key, {protocol}", status(error) if error else "OK", bool(error) and status(error) == unknown
    for path in PATHS:
        code, _ = through.raw("POST", f"/v2/{path}", b"{}")
        yield f"POST /v2/{path}", str(code), code == 404
    for method in METHODS:
        code, _ = through.call(f"/inference.GRPCInferenceService/{method}")
        yield method, code, code == "UNIMPLEMENTED"


def table(direct, through, anonymous):
    """Lines of the report, and how many requests were not refused as they should be."""
    runs, before = executions(direct), counters()
    found = list(sent(direct, through, anonymous))
    runs, after = executions(direct) - runs, counters()
    lines = [f"- {what}: {answer}{'' if right else ' WRONG'}" for what, answer, right in found]
    wrong = sum(not right for _, _, right in found) + (runs != 0)
    lines.append(f"- {len(found)} requests, {len(found) - sum(right for *_, right in found)} not refused; executions of the model: {runs}")
    lines.append(f"- GPU ({', '.join(COUNTERS)}) before: {before or 'none'}; after: {after or 'none'}")
    direct_nan = infer(direct, "grpc", MODEL, [("image", "FP32", TENSORS["NaN"])])["logits"][2]
    is_nan = bool(np.isnan(np.frombuffer(direct_nan, np.float32)).any())
    lines.append(f"- the NaN sent directly: {'comes back as NaN' if is_nan else 'comes back as numbers'}")
    return lines, wrong
