"""Every management call works directly with Triton, which shows that it is real, and none is
reachable through the gate. The most dangerous comes first: a load whose override is a Python file,
which Triton runs.
"""

import base64
import json
from multiprocessing.shared_memory import SharedMemory

from clients import attempt, status

SERVICE = "inference.GRPCInferenceService"


def model(marker):
    """A model whose code writes a file when it is loaded."""
    code = f"""
import triton_python_backend_utils as pb_utils
open({str(marker)!r}, "w").write("ran")
class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([]) for _ in requests]
"""
    config = {
        "backend": "python",
        "max_batch_size": 0,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [1]}],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [1]}],
        "instance_group": [{"kind": "KIND_CPU"}],
    }
    return {"config": json.dumps(config), "files": {"file:1/model.py": code.encode()}}


def code_in_a_load(table, folder, direct, gate):
    """A `file:` override runs directly, and never through the gate."""
    table.head("a load that brings its own code (the file tells whether it ran)")
    for protocol, refused in (("http", "404"), ("grpc", "UNIMPLEMENTED")):
        for form in ("client", "by hand"):
            if form == "by hand" and protocol == "grpc":
                continue
            ran = {}
            for side in (direct, gate):
                marker = folder / f"ran-{side.name}-{protocol}-{form.replace(' ', '-')}"
                marker.unlink(missing_ok=True)
                override = model(marker)
                if form == "client":
                    load = lambda: side.client(protocol)[0].load_model("brought", headers=dict(side.headers), **override)
                    _, error = attempt(load)
                    said = "loaded" if error is None else f"{status(error)}: {error.message()}"
                else:
                    files = {name: base64.b64encode(text).decode() for name, text in override["files"].items()}
                    body = json.dumps({"parameters": {"config": override["config"], **files}}).encode()
                    code, text = side.raw("POST", "/v2/repository/models/brought/load", body)
                    said = "loaded" if code == 200 else f"{code}: {text.decode(errors='replace')}"
                ran[side.name] = (said, marker.exists())
                attempt(lambda: direct.http.unload_model("brought"))
            one, other = ran[direct.name], ran[gate.name]
            right = one == ("loaded", True) and other[0].startswith(f"{refused}: ") and not other[1]
            show = lambda answer: f"{'RAN' if answer[1] else 'did not run'}; {answer[0]}"
            table.row(f"{protocol}: load with file:1/model.py ({form})", show(one), show(other), right)


def client_calls(region):
    """Every management call of the client, with harmless arguments, in an order that works.
    `region` is our shared memory.
    """
    return [
        ("repository index", lambda c, h: c.get_model_repository_index(headers=h)),
        ("load", lambda c, h: c.load_model("echo", headers=h)),
        ("unload", lambda c, h: c.unload_model("echo", headers=h)),
        ("load again", lambda c, h: c.load_model("echo", headers=h)),
        ("statistics of one model", lambda c, h: c.get_inference_statistics("digits", headers=h)),
        ("statistics of one version", lambda c, h: c.get_inference_statistics("digits", "1", headers=h)),
        ("statistics of all", lambda c, h: c.get_inference_statistics(headers=h)),
        ("trace settings", lambda c, h: c.get_trace_settings(headers=h)),
        ("trace settings of a model", lambda c, h: c.get_trace_settings("digits", headers=h)),
        ("trace more", lambda c, h: c.update_trace_settings(settings={"trace_rate": "5"}, headers=h)),
        ("trace off", lambda c, h: c.update_trace_settings(settings={"trace_level": ["OFF"]}, headers=h)),
        ("log settings", lambda c, h: c.get_log_settings(headers=h)),
        ("log louder", lambda c, h: c.update_log_settings({"log_verbose_level": 1}, headers=h)),
        ("log quieter", lambda c, h: c.update_log_settings({"log_verbose_level": 0}, headers=h)),
        ("shared memory status", lambda c, h: c.get_system_shared_memory_status(headers=h)),
        ("shared memory register", lambda c, h: c.register_system_shared_memory("region", region, 64, headers=h)),
        ("shared memory unregister", lambda c, h: c.unregister_system_shared_memory("region", headers=h)),
        ("CUDA shared memory status", lambda c, h: c.get_cuda_shared_memory_status(headers=h)),
        ("CUDA shared memory unregister", lambda c, h: c.unregister_cuda_shared_memory("region", headers=h)),
        ("CUDA shared memory register", lambda c, h: c.register_cuda_shared_memory("region", base64.b64encode(bytes(64)), 0, 64, headers=h)),
    ]


# Calls that Triton itself rejects without a GPU. It understood the call, and tried.
NEEDS_A_GPU = {"CUDA shared memory register": "failed to register shared memory region"}


def refused_by_name(table, direct, gate):
    """By the client's own methods."""
    memory = SharedMemory(create=True, size=64)
    try:
        refuse_calls(table, direct, gate, client_calls(f"/{memory.name}"))
    finally:
        memory.close()
        memory.unlink()


def refuse_calls(table, direct, gate, calls):
    """Makes each call on both sides, in both protocols."""
    for protocol, refused in (("http", "404"), ("grpc", "UNIMPLEMENTED")):
        table.head(f"management by the client's own methods, {protocol}")
        for title, call in calls:
            _, fault = attempt(lambda: call(direct.client(protocol)[0], dict(direct.headers)))
            _, error = attempt(lambda: call(gate.client(protocol)[0], dict(gate.headers)))
            works = fault is None or NEEDS_A_GPU.get(title, "works") in fault.message()
            shown = "served" if error is None else f"{status(error)}: {error.message()}"
            # `/v2/models/stats` is also the metadata path of a model named `stats`, for which no
            # client has a grant.
            expected = "403" if (protocol, title) == ("http", "statistics of all") else refused
            right = works and error is not None and status(error) == expected and bool(error.message())
            table.row(title, "works" if fault is None else f"{status(fault)}: {fault.message()}", shown, right)


# Spellings of management routes: (method, path), and whether Triton itself accepts it.
PATHS = [
    ("POST", "/v2/repository/index", True),
    ("POST", "/v2/repository/index/", False),
    ("POST", "//v2/repository/index", False),
    ("POST", "/v2//repository/index", False),
    ("POST", "/v2/./repository/index", False),
    ("POST", "/v2/models/../repository/index", False),
    ("POST", "/v2/models/digits/infer/../../../repository/index", False),
    ("POST", "/v2/%72epository/index", False),
    ("POST", "/v2/repository%2findex", False),
    ("POST", "/V2/repository/index", False),
    ("POST", "/v2/repository/index?x=1", False),
    ("POST", "/v2/repository/index#x", False),
    ("POST", "/v2/repository/index;x=1", False),
    ("POST", "/v2/repository/tensorgate/index", False),
    ("POST", "/v2/models/digits/load", False),
    ("POST", "/v2/repository/models/digits/unload", True),
    ("POST", "/v2/repository/models/digits/load", True),
    ("POST", "/v2/repository/models/digits/versions/1/load", False),
    ("GET", "/v2/models/digits/config/1", False),
    ("GET", "/v2/models/digits/stats", True),
    ("GET", "/v2/models/digits/versions/1/stats", True),
    ("GET", "/v2/models/digits/trace/setting", True),
    ("GET", "/v2/trace/setting", True),
    ("GET", "/v2/logging", True),
    ("GET", "/v2/systemsharedmemory/status", True),
    ("GET", "/v2/cudasharedmemory/status", True),
    ("POST", "/v2/models/digits/generate", False),
    ("POST", "/v2/models/digits/generate_stream", False),
    ("GET", "/metrics", False),
    ("POST", "/invocations", False),
]

GRPC_CALLS = [
    ("RepositoryIndex", True),
    ("ModelStatistics", True),
    ("TraceSetting", True),
    ("LogSettings", True),
    ("SystemSharedMemoryStatus", True),
    ("SystemSharedMemoryUnregister", True),
    ("CudaSharedMemoryStatus", True),
    ("CudaSharedMemoryUnregister", True),
]


def refused_by_spelling(table, direct, gate, anonymous):
    """Hand-written requests, in spellings that two parsers could read differently. Unknown callers
    only get 401.
    """
    table.head("management by hand, HTTP, with a key and without")
    for method, path, works in PATHS:
        code, _ = direct.raw(method, path)
        (with_key, body), (without, _) = gate.raw(method, path), anonymous.raw(method, path)
        right = (not works or code == 200) and with_key in (400, 404) and without in (400, 401)
        text = body.decode(errors="replace")
        table.row(f"{method} {path}", code, f"{with_key} / {without}: {text}", right)
    table.head("management by hand, gRPC, with a key and without")
    spellings = [(f"/{SERVICE}/{name}", works) for name, works in GRPC_CALLS]
    for name in ("RepositoryIndex", "ModelConfig"):
        spellings += [
            (f"//{SERVICE}/{name}", False),
            (f"/{SERVICE}/{name.lower()}", False),
            (f"/{SERVICE}/{name}/", False),
            (f"/{SERVICE.lower()}/{name}", False),
            (f"/x/../{SERVICE}/{name}", False),
            (f"/{SERVICE}/%52epositoryIndex", False),
        ]
    spellings += [(f"/{SERVICE}/ModelStreamInfer/", False), ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", False)]
    for path, works in spellings:
        name, _ = direct.call(path)
        (with_key, text), (without, _) = gate.call(path), anonymous.call(path)
        right = (not works or name == "OK") and with_key in ("UNIMPLEMENTED", "INVALID_ARGUMENT") and without in ("UNAUTHENTICATED", "INVALID_ARGUMENT")
        table.row(path, name, f"{with_key} / {without}: {text}", right)


def nothing_changed(table, direct, before):
    """After all of it Triton has the same models, and both serve."""
    table.head("afterwards")
    index, _ = attempt(direct.http.get_model_repository_index)
    ready = [direct.http.is_model_ready(name) for name in ("digits", "echo")]
    table.row("Triton's repository, and whether its models are ready", len(before), f"{len(index)} models, ready: {ready}", sorted_index(index) == sorted_index(before) and all(ready))


def sorted_index(index):
    """A repository's models, each with its state."""
    return sorted((entry["name"], entry.get("version"), entry.get("state")) for entry in index)
