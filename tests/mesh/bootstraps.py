"""One static configuration of Envoy from a rendered folder: `bootstrap(folder, platform, modules,
addresses)`. What a control plane would send piece by piece stands in it at once; code comes from
local files.

`platform` is `istio-sidecar`, `istio-gateway` or `gateway` (Envoy Gateway). `modules` names the file
of each module's URL, or of all as `*`. `addresses` has these members, all but `listen` optional:
`listen`: {port: "IP:PORT"} (where a listener's port is bound), `services`: {"NAMESPACE/NAME:PORT":
"IP:PORT"}, `sockets`: {path: path}, `files`: {"NAMESPACE/NAME": folder with tls.crt, tls.key and
ca.crt of this Secret or ConfigMap}, `identity`: such a folder with the proxy's own certificate in the
mesh, `admin`: "IP:PORT".
"""

import copy
import re
from pathlib import Path

import manifests

# The DNS name of a Service.
SERVICE = re.compile(r"([\w-]+)\.([\w-]+)\.svc(?:\.cluster\.local)?")


class Rendered:
    """The objects of a folder, and where things are on this machine."""

    def __init__(self, folder, modules, addresses):
        self.documents = [document for _, document in manifests.read([Path(folder)])]
        self.modules = modules
        self.addresses = addresses

    def of(self, kind, group=None):
        """All objects of a kind."""
        return [
            document for document in self.documents
            if document.get("kind") == kind and (group is None or document["apiVersion"].startswith(f"{group}/"))
        ]

    def one(self, kind, group=None):
        """The only object of a kind, or None."""
        found = self.of(kind, group)
        if len(found) > 1:
            raise ValueError(f"{len(found)} objects of the kind {kind}; one is expected")
        return found[0] if found else None

    def module(self, url):
        """The local file of a module."""
        return self.modules.get(url) or self.modules["*"]

    def bound(self, port):
        """Where a listener's port is bound on this machine."""
        listen = self.addresses["listen"]
        address = listen.get(str(port)) or listen.get(port)
        if address is None:
            raise ValueError(f"addresses.listen has no port {port}; it has {', '.join(map(str, listen))}")
        return address

    def service(self, namespace, name, port):
        """The address of a service's port."""
        key = f"{namespace}/{name}:{port}"
        if key not in self.addresses.get("services", {}):
            raise ValueError(f"addresses.services has no {key}")
        return socket_address(self.addresses["services"][key])

    def resolved(self, address):
        """A socket's address. A name of a Service that is known here becomes its address."""
        found = SERVICE.fullmatch(address["address"])
        key = f"{found[2]}/{found[1]}:{address['portValue']}" if found else None
        known = self.addresses.get("services", {}).get(key)
        return socket_address(known)["socketAddress"] if known else address

    def port(self, namespace, name, port):
        """A port of a Service that is in the folder, or None."""
        for document in self.of("Service"):
            if document["metadata"]["name"] == name and document["metadata"].get("namespace") == namespace:
                for entry in document["spec"]["ports"]:
                    if entry["port"] == port:
                        return entry
        return None

    def file(self, key, name):
        """A file of a Secret or a ConfigMap."""
        folder = self.addresses.get("files", {}).get(key)
        if folder is None:
            raise ValueError(f"addresses.files has no {key}")
        return {"filename": str(Path(folder) / name)}

    def local(self, socket):
        """The path of a socket on this machine."""
        return self.addresses.get("sockets", {}).get(socket, socket)


def socket_address(address):
    """`IP:PORT` as Envoy writes it."""
    host, _, port = address.rpartition(":")
    return {"socketAddress": {"address": host.strip("[]"), "portValue": int(port)}}


def localised(value, rendered, urls):
    """Replaces the code of filters by local files, and sockets and Services by local addresses. `urls` has
    the URL for each remote code.
    """
    if isinstance(value, list):
        return [localised(item, rendered, urls) for item in value]
    if not isinstance(value, dict):
        return value
    made = {name: localised(member, rendered, urls) for name, member in value.items()}
    code = made.get("code")
    if isinstance(code, dict) and "remote" in code:
        made["code"] = {"local": {"filename": rendered.module(urls.get(code["remote"]["httpUri"]["uri"], code["remote"]["httpUri"]["uri"]))}}
    elif isinstance(code, dict) and "filename" in code.get("local", {}):
        made["code"] = {"local": {"filename": rendered.module(code["local"]["filename"])}}
    native = made.get("dynamicModuleConfig")
    if isinstance(native, dict) and "native" in rendered.modules:
        made["dynamicModuleConfig"] = {**native, "module": {"local": {"filename": rendered.modules["native"]}}}
    pipe = made.get("pipe")
    if isinstance(pipe, dict) and "path" in pipe:
        made["pipe"] = {**pipe, "path": rendered.local(pipe["path"])}
    if "socketAddress" in made:
        made["socketAddress"] = rendered.resolved(made["socketAddress"])
    return made


def bootstrap(folder, platform, modules, addresses):
    """The configuration, as a dictionary that Envoy loads as JSON."""
    import of_envoy_gateway
    import of_istio

    rendered = Rendered(folder, modules, addresses)
    if platform == "gateway":
        listeners, clusters, urls = of_envoy_gateway.resources(rendered)
    elif platform in ("istio-sidecar", "istio-gateway"):
        listeners, clusters = of_istio.resources(rendered, "GATEWAY" if platform == "istio-gateway" else "SIDECAR_INBOUND")
        urls = {}
    else:
        raise ValueError(f"platform {platform!r} is none of istio-sidecar, istio-gateway, gateway")
    made = {
        "node": {"id": "mesh-test", "cluster": "mesh-test"},
        "staticResources": localised(copy.deepcopy({"listeners": listeners, "clusters": clusters}), rendered, urls),
    }
    if "admin" in addresses:
        made["admin"] = {"address": socket_address(addresses["admin"])}
    return made
