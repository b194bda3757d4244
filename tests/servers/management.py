"""Management calls of each server. They work directly, which shows that the server is real, and
they do not exist in the gate in any spelling. Calls that load code come first.
"""

import json
import zipfile

import grpc
from processes import wait
from servers import exchange

SERVICE = "/inference.GRPCInferenceService"
REPOSITORY = "/inference.model_repository.ModelRepositoryService"
TORCHSERVE = "/org.pytorch.serve.grpc.management.ManagementAPIsService"
# A message whose first field is the model's name: `name`, `model_name`, `repository_name` and the
# like.
DOUBLE = b"\x0a\x06double"
SECOND = b"\x12\x06double"

NO_ROUTE, UNAUTHENTICATED = "urn:tensorgate:not-an-inference-route", "urn:tensorgate:unauthenticated"

# Method, path, body, which of the server's ports, and the server's answer there.
HTTP = {
    "triton": [
        ("POST", "/v2/repository/index", "", 0, 200),
        ("POST", "/v2/repository/models/double/unload", "", 0, 200),
        ("POST", "/v2/repository/models/double/load", "", 0, 200),
        ("GET", "/v2/logging", "", 0, 200),
        ("GET", "/metrics", "", 2, 200),
    ],
    "mlserver": [
        ("POST", "/v2/repository/index", "{}", 0, 200),
        ("POST", "/v2/repository/models/double/unload", "", 0, 200),
        ("POST", "/v2/repository/models/double/load", "", 0, 200),
        ("GET", "/v2/docs/dataplane.json", "", 0, 200),
        ("GET", "/metrics", "", 2, 200),
    ],
    "kserve": [
        ("POST", "/v2/repository/models/double/unload", "", 0, 200),
        ("GET", "/v2/models", "", 0, 200),
        ("GET", "/metrics", "", 0, 200),
    ],
    "torchserve": [
        ("POST", "/models?url=second.mar&model_name=second&initial_workers=1&synchronous=true", "", 0, 200),
        ("PUT", "/models/second?max_worker=2", "", 0, 202),
        ("DELETE", "/models/second", "", 0, 200),
        ("GET", "/models", "", 0, 200),
        ("GET", "/models/double", "", 0, 200),
        ("OPTIONS", "/", "", 0, 200),
        ("GET", "/metrics", "", 3, 200),
    ],
    "bentoml": [
        ("GET", "/docs.json", "", 0, 200),
        ("GET", "/schema.json", "", 0, 200),
        ("GET", "/metrics", "", 0, 200),
        ("GET", "/livez", "", 0, 200),
    ],
    "ray": [
        ("GET", "/api/serve/applications/", "", 1, 200),
        ("GET", "/api/jobs/", "", 1, 200),
        ("GET", "/nodes?view=summary", "", 1, 200),
        ("GET", "/-/routes", "", 0, 200),
        ("GET", "/-/healthz", "", 0, 200),
    ],
    "llama": [
        ("GET", "/props", "", 0, 200),
        ("GET", "/slots", "", 0, 200),
        ("GET", "/lora-adapters", "", 0, 200),
        ("POST", "/completion", '{"prompt": "x", "n_predict": 1}', 0, 200),
        ("POST", "/tokenize", '{"content": "x"}', 0, 200),
        ("POST", "/apply-template", '{"messages": []}', 0, 200),
    ],
}
# Method, message, which of the server's ports, and the server's answer there if it is not OK.
GRPC = {
    "triton": [(f"{SERVICE}/RepositoryIndex", b"", 1), (f"{SERVICE}/RepositoryModelLoad", SECOND, 1), (f"{SERVICE}/LogSettings", b"", 1)],
    "mlserver": [(f"{SERVICE}/RepositoryIndex", b"", 1), (f"{SERVICE}/RepositoryModelLoad", SECOND, 1), (f"{REPOSITORY}/RepositoryIndex", b"", 1)],
    # It unloads the model, and then fails at its own answer.
    "kserve": [(f"{SERVICE}/RepositoryModelUnload", DOUBLE, 1, "INTERNAL")],
    "torchserve": [(f"{TORCHSERVE}/ListModels", b"", 4), (f"{TORCHSERVE}/DescribeModel", DOUBLE, 4)],
}


def spellings(path):
    """Spellings of a path that two parsers could read differently."""
    bare, _, query = path.partition("?")
    first, rest = bare[1:2], bare[2:]
    spelled = [
        bare + "/",
        "/" + bare,
        bare.replace("/", "//", 2),
        "/." + bare,
        "/v2/models/.." + "/.." + bare,
        "/v2/models/double/infer/../../../.." + bare,
        "/v2/models/double/infer/%2e%2e/%2e%2e/%2e%2e/%2e%2e" + bare,
        f"/%{ord(first or '/'):02x}{rest}",
        "/" + bare[1:].replace("/", "%2f"),
        "/" + bare[1:].replace("/", "\\"),
        bare.upper(),
        bare + ";x=1",
        bare + "#x",
        bare + "%00",
        bare + "%20",
    ]
    more = [f"{each}?{query}" for each in spelled if query and "#" not in each]
    return [path, *(more or spelled), bare + "?x=1"]


def refused(table, server, gate, anonymous):
    """Every call of this server."""
    name = server.name
    if name not in HTTP:
        return
    table.head(f"management of {name}: with a key and without, in {len(spellings('/x'))} spellings each")
    for method, path, body, port, expected in HTTP[name]:
        # TorchServe parses a body that is declared as JSON, even if it is empty.
        status, _ = exchange(server.port[port], method, path, body, {"content-type": "application/json"} if body else {})
        wrong, seen = [], set()
        for spelled in spellings(path):
            (known, text), (unknown, other) = gate.raw(method, spelled, body.encode()), anonymous.raw(method, spelled, body.encode())
            seen.add((known, unknown))
            # A server's own 404 has another text: the gate's has our reason.
            ours = (known == 400 or NO_ROUTE in text) and (unknown == 400 or UNAUTHENTICATED in other)
            if known not in (400, 404) or unknown not in (400, 401) or not ours:
                wrong.append((spelled, known, unknown))
        shown = " ".join(sorted({f"{known}/{unknown}" for known, unknown in seen}))
        table.row(f"{method} {path}", status, shown, status == expected and not wrong, wrong)
    # Some calls remove the model, as they should.
    server.again()
    for path, message, port, *expected in GRPC.get(name, []):
        direct, wrong, seen = call(server.port[port], path, message)[0], [], set()
        for spelled in (path, "/" + path, path + "/", path.lower(), "/x/.." + path, path.replace("Model", "%4dodel")):
            (known, _), (unknown, _) = call(gate.port, spelled, message, gate.headers), call(anonymous.port, spelled, message)
            seen.add((known, unknown))
            if known not in ("UNIMPLEMENTED", "INVALID_ARGUMENT") or unknown not in ("UNAUTHENTICATED", "INVALID_ARGUMENT"):
                wrong.append((spelled, known, unknown))
        shown = " ".join(sorted({f"{known}/{unknown}" for known, unknown in seen}))
        table.row(path, direct, shown, direct == (*expected, "OK")[0] and not wrong, wrong)
    code_that_is_brought(table, server, gate)
    server.again()


def code_that_is_brought(table, server, gate):
    """Calls that run code that the caller names; a file proves it."""
    bring = {"torchserve": torchserve_url, "ray": ray_job}.get(server.name)
    if bring is None:
        return
    ran = {}
    for side, port, headers in (("directly", server.port[1 if server.name == "ray" else 0], {}), ("gate", gate.port, gate.headers)):
        marker = server.folder / f"ran-{side}"
        status = bring(server, port, headers, marker)
        if side == "directly":
            wait("the code that was brought ran", marker.exists, seconds=60)
        ran[side] = status, marker.exists()
    (one, did), (other, does) = ran["directly"], ran["gate"]
    table.row("a call that brings its own code", f"{one}, {'RAN' if did else 'did not run'}", f"{other}, {'RAN' if does else 'did not run'}", did and not does and other == 404)


def torchserve_url(server, port, headers, marker):
    """`POST /models?url=` of an archive on another server: TorchServe fetches it and runs its
    handler.
    """
    archive = server.folder / f"{marker.name}.mar"
    with zipfile.ZipFile(archive, "w") as file:
        manifest = {"runtime": "python", "model": {"modelName": marker.name, "handler": "brought.py", "modelVersion": "1"}, "archiverVersion": "0.12.0"}
        file.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        file.writestr("brought.py", f"open({str(marker)!r}, 'w').close()\ndef handle(data, context):\n    return ['' for _ in data or []]\n")
    status, _ = exchange(port, "POST", f"/models?url=file://{archive}&initial_workers=1&synchronous=true", headers=headers)
    return status


def ray_job(server, port, headers, marker):
    """A job of the dashboard: it runs any caller's shell command."""
    job = json.dumps({"entrypoint": f"touch {marker}"})
    status, _ = exchange(port, "POST", "/api/jobs/", job, {**headers, "content-type": "application/json"})
    return status


def call(port, path, message, headers=()):
    """One gRPC call to exactly this path: the name of its status, its text."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            channel.unary_unary(path)(message, metadata=tuple(dict(headers).items()), timeout=30)
            return "OK", ""
        except grpc.RpcError as error:
            return error.code().name, error.details()
