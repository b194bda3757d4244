"""The examples as a folder for each platform, with what they need on this machine: certificates, and the
smallest module that Envoy loads.
"""

import shutil
import subprocess

import manifests
import yaml
from broken import HERE

def _section(number, content):
    return bytes([number, len(content)]) + content


def _export(name, kind, number):
    return bytes([len(name)]) + name.encode() + bytes([kind, number])


# A module with nothing but a page of memory, an allocator that always returns its middle, and the
# version of its interface.
EMPTY = b"\0asm\1\0\0\0" + b"".join([
    _section(1, b"\2" + b"\x60\0\0" + b"\x60\1\x7f\1\x7f"),  # () -> () and (i32) -> i32
    _section(3, b"\2\0\1"),
    _section(5, b"\1\0\1"),
    _section(7, b"\3" + _export("memory", 2, 0) + _export("proxy_abi_version_0_2_1", 0, 0) + _export("malloc", 0, 1)),
    _section(10, b"\2" + b"\2\0\x0b" + b"\6\0\x41\x80\x80\2\x0b"),  # i32.const 32768
])
CURVE = "-pkeyopt", "ec_paramgen_curve:P-256"
PORTS = {"443": 20443, "8443": 28443, "8444": 28444, "8445": 28445}


def module(folder):
    """The module's file."""
    path = folder / "empty.wasm"
    path.write_bytes(EMPTY)
    return path


def managers(configuration):
    """All connection managers of a configuration."""
    found = []
    for listener in configuration["staticResources"]["listeners"]:
        for chain in listener.get("filterChains") or [listener["defaultFilterChain"]]:
            found.append(chain["filters"][-1]["typedConfig"])
    return found


def _openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def identity(folder, authority, name, host="models.example"):
    """A folder with a certificate for a name of the mesh and a host, and the authority that signed it."""
    folder.mkdir()
    key, request, extensions = folder / "tls.key", folder / "request", folder / "extensions"
    extensions.write_text(f"subjectAltName=DNS:{host},URI:{name}\n")
    _openssl("req", "-newkey", "ec", *CURVE, "-nodes", "-subj", "/CN=mesh", "-keyout", key, "-out", request)
    signed = "-CA", authority / "ca.crt", "-CAkey", authority / "ca.key", "-CAcreateserial", "-days", "30"
    _openssl("x509", "-req", "-in", request, *signed, "-extfile", extensions, "-out", folder / "tls.crt")
    shutil.copy(authority / "ca.crt", folder / "ca.crt")
    return folder


def authority(folder):
    """Makes the mesh's authority in a folder."""
    subject = "-subj", "/CN=authority", "-days", "30"
    _openssl("req", "-x509", "-newkey", "ec", *CURVE, "-nodes", *subject, "-keyout", folder / "ca.key", "-out", folder / "ca.crt")


def platforms(folder):
    """(platform, folder of its objects, addresses) for each platform."""
    authority(folder)
    own = identity(folder / "own", folder, "spiffe://cluster.local/ns/tensorgate/sa/tensorgate")
    mesh, gateway = ([*manifests.documents((HERE / "data/examples" / name).read_text())] for name in ("istio.yaml", "gateway.yaml"))
    objects = {
        "istio-sidecar": [one for one in mesh if one["metadata"]["namespace"] == "tensorgate"],
        "istio-gateway": [one for one in mesh if one["metadata"]["namespace"] == "istio-ingress" or one["kind"] == "Service"],
        # SecurityPolicy is valid, but not translated.
        "gateway": [one for one in gateway if one["kind"] != "SecurityPolicy"],
    }
    files = ("istio-ingress/models-tls", "tensorgate/models-tls", "tensorgate/tensorgate-ca", "tensorgate/tensorgate-gateway-tls")
    addresses = {
        "listen": {port: f"127.0.0.1:{bound}" for port, bound in PORTS.items()},
        "services": {f"tensorgate/tensorgate:{port}": f"127.0.0.1:{PORTS[port] + 1000}" for port in ("8443", "8444")},
        "files": {name: str(own) for name in files},
        "identity": str(own),
        "admin": "127.0.0.1:0",
    }
    for platform, documents in objects.items():
        place = folder / platform
        place.mkdir()
        (place / "all.yaml").write_text(yaml.safe_dump_all(documents))
        yield platform, place, addresses


def filter_of_nothing():
    """An EnvoyFilter whose patch has nothing to apply to."""
    patch = {"applyTo": "CLUSTER", "match": {"context": "GATEWAY", "cluster": {"name": "none"}}, "patch": {"operation": "MERGE", "value": {"name": "x"}}}
    return {"metadata": {"name": "nothing"}, "spec": {"configPatches": [patch]}}
