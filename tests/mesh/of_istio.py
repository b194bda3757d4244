"""Rendered resources for Istio as static listeners and clusters: the inbound side of a sidecar, or an
ingress gateway.
"""

import istio
from bootstraps import socket_address

TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
HTTP2 = {"HTTP2", "GRPC"}


def resources(rendered, context):
    """(listeners, clusters) of a proxy."""
    listeners, clusters = (_gateway if context == "GATEWAY" else _sidecar)(rendered)
    namespace = _namespace(rendered, context)
    filters = [one for one in rendered.of("EnvoyFilter") if one["metadata"]["namespace"] in (namespace, "istio-system")]
    istio.patched(filters, context, listeners, clusters)
    for listener in listeners:
        del listener["metadataPort"]
    return listeners, _with_local_secrets(clusters, rendered)


def _with_local_secrets(value, rendered):
    """Certificates that a proxy gets from its agent (`default`, `ROOTCA`) become files."""
    if isinstance(value, list):
        return [_with_local_secrets(item, rendered) for item in value]
    if not isinstance(value, dict):
        return value
    made = {name: _with_local_secrets(member, rendered) for name, member in value.items()}
    secrets, validation = made.pop("tlsCertificateSdsSecretConfigs", None), made.pop("combinedValidationContext", None)
    if secrets or validation:
        if [one["name"] for one in secrets] != ["default"] or validation["validationContextSdsSecretConfig"]["name"] != "ROOTCA":
            raise ValueError("an agent has the secrets default and ROOTCA only")
        own = _identity(rendered, "UpstreamTlsContext")["typedConfig"]["commonTlsContext"]
        made["tlsCertificates"] = own["tlsCertificates"]
        made["validationContext"] = {**own["validationContext"], **validation["defaultValidationContext"]}
    return made


def _namespace(rendered, context):
    if context == "GATEWAY":
        return rendered.one("Gateway")["metadata"]["namespace"]
    return rendered.one("Sidecar")["metadata"]["namespace"]


def _extensions(rendered, namespace):
    found = [one for kind in ("WasmPlugin", "TrafficExtension") for one in rendered.of(kind)]
    return [one for one in found if one["metadata"]["namespace"] in (namespace, "istio-system")]


def _identity(rendered, kind, required=True, names=None):
    folder = rendered.addresses.get("identity")
    if folder is None:
        raise ValueError("addresses.identity is missing")
    validation = {"trustedCa": {"filename": f"{folder}/ca.crt"}}
    if names:
        validation["matchTypedSubjectAltNames"] = [{"sanType": "URI", "matcher": {"exact": name}} for name in names]
    common = {
        "tlsCertificates": [{"certificateChain": {"filename": f"{folder}/tls.crt"}, "privateKey": {"filename": f"{folder}/tls.key"}}],
        "validationContext": validation,
        "alpnProtocols": ["h2", "http/1.1"] if kind == "DownstreamTlsContext" else ["istio", "h2"],
    }
    made = {"@type": TLS + kind, "commonTlsContext": common}
    if kind == "DownstreamTlsContext":
        made["requireClientCertificate"] = required
    return {"name": "envoy.transport_sockets.tls", "typedConfig": made}


def _mode(rendered, namespace, port):
    """The mode of mutual TLS at a workload's port: the workload's PeerAuthentication, or PERMISSIVE."""
    mode = "PERMISSIVE"
    for document in sorted(rendered.of("PeerAuthentication"), key=lambda one: "selector" in one["spec"]):
        if document["metadata"]["namespace"] in (namespace, "istio-system"):
            spec = document["spec"]
            mode = spec.get("portLevelMtls", {}).get(str(port), spec.get("mtls", {})).get("mode", mode)
    return mode


def _options(protocol):
    inner = {"http2ProtocolOptions": {}} if protocol in HTTP2 else {"httpProtocolOptions": {}}
    return {OPTIONS: {"@type": "type.googleapis.com/" + OPTIONS, "explicitHttpConfig": inner}}


def selects(policy, labels):
    """Whether a policy of the namespace is for the pods with these labels: without a selector, for all."""
    return policy["spec"].get("selector", {}).get("matchLabels", {}).items() <= labels.items()


def _sidecar(rendered):
    sidecar = rendered.one("Sidecar")
    namespace = sidecar["metadata"]["namespace"]
    labels = sidecar["spec"]["workloadSelector"]["labels"]
    policies = [one for one in rendered.of("AuthorizationPolicy") if one["metadata"]["namespace"] in (namespace, "istio-system") and selects(one, labels)]
    listeners, clusters = [], []
    for entry in sidecar["spec"]["ingress"]:
        port, protocol, target = entry["port"]["number"], entry["port"]["protocol"], entry["defaultEndpoint"]
        name = f"inbound|{port}||"
        if target.startswith("unix://"):
            address = {"pipe": {"path": target.removeprefix("unix://")}}
        else:
            address = socket_address(target)
        clusters.append({
            "name": name,
            "type": "STATIC",
            "connectTimeout": "10s",
            "typedExtensionProtocolOptions": _options(protocol),
            "loadAssignment": {"clusterName": name, "endpoints": [{"lbEndpoints": [{"endpoint": {"address": address}}]}]},
        })
        bound = rendered.bound(port)
        rbac = istio.authorization(policies, lambda wanted: int(rendered.bound(wanted).rpartition(":")[2]))
        route = {
            "name": name,
            "virtualHosts": [{
                "name": f"inbound|http|{port}",
                "domains": ["*"],
                "routes": [{
                    "match": {"prefix": "/"},
                    "route": {"cluster": name, "timeout": "0s", "maxStreamDuration": {"maxStreamDuration": "0s", "grpcTimeoutHeaderMax": "0s"}},
                }],
            }],
        }
        manager = istio.manager("SIDECAR_INBOUND", f"inbound_{port}", istio.filters(_extensions(rendered, namespace), "SIDECAR_INBOUND", port, rbac), route)
        if protocol in HTTP2:
            manager["http2ProtocolOptions"] = {}
        chain = {"filters": [{"name": istio.MANAGER_FILTER, "typedConfig": manager}]}
        mode = _mode(rendered, namespace, port)
        listener = {
            "name": f"0.0.0.0_{port}",
            "metadataPort": port,
            "address": socket_address(bound),
            "trafficDirection": "INBOUND",
            "filterChains": [chain],
        }
        if mode == "STRICT":
            chain["transportSocket"] = _identity(rendered, "DownstreamTlsContext")
        elif mode == "PERMISSIVE" and "identity" in rendered.addresses:
            secure = {"filterChainMatch": {"transportProtocol": "tls"}, "transportSocket": _identity(rendered, "DownstreamTlsContext"), **chain}
            listener["filterChains"] = [secure, {"filterChainMatch": {"transportProtocol": "raw_buffer"}, **chain}]
            listener["listenerFilters"] = [_inspector()]
        listeners.append(listener)
    return listeners, clusters


def _inspector():
    name = "envoy.filters.listener.tls_inspector"
    return {"name": name, "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}


def _accounts(rendered, service):
    """The mesh's names of the workloads behind a Service, which istiod tells its clients."""
    wanted = service["spec"]["selector"]
    found = set()
    for kind in ("Deployment", "StatefulSet"):
        for document in rendered.of(kind):
            template = document["spec"]["template"]
            if wanted.items() <= template["metadata"].get("labels", {}).items():
                account = template["spec"].get("serviceAccountName", "default")
                found.add(f"spiffe://cluster.local/ns/{document['metadata']['namespace']}/sa/{account}")
    return sorted(found)


def _protocol(entry):
    """pkg/config/kube/conversion.go: appProtocol decides, then the prefix of the port's name."""
    name = entry.get("appProtocol") or entry.get("name", "")
    if name == "kubernetes.io/h2c":
        return "HTTP2"
    return {"http2": "HTTP2", "grpc": "GRPC", "http": "HTTP"}.get(name.split("-")[0].lower(), "AUTO")


def _outbound(rendered):
    clusters = []
    for service in rendered.of("Service"):
        metadata = service["metadata"]
        host = f"{metadata['name']}.{metadata['namespace']}.svc.cluster.local"
        for entry in service["spec"]["ports"]:
            if f"{metadata['namespace']}/{metadata['name']}:{entry['port']}" not in rendered.addresses.get("services", {}):
                continue
            name, protocol = f"outbound|{entry['port']}||{host}", _protocol(entry)
            plain = False
            for rule in rendered.of("DestinationRule"):
                policy = rule["spec"].get("trafficPolicy", {})
                if rule["spec"]["host"] == host:
                    if policy.get("connectionPool", {}).get("http", {}).get("h2UpgradePolicy") == "UPGRADE" and protocol not in HTTP2:
                        protocol = "HTTP2"
                    plain = policy.get("tls", {}).get("mode") == "DISABLE"
            cluster = {
                "name": name,
                "type": "STATIC",
                "connectTimeout": "10s",
                "typedExtensionProtocolOptions": _options(protocol),
                "loadAssignment": {"clusterName": name, "endpoints": [{"lbEndpoints": [{"endpoint": {"address": rendered.service(metadata["namespace"], metadata["name"], entry["port"])}}]}]},
            }
            if not plain and "identity" in rendered.addresses:
                cluster["transportSocket"] = _identity(rendered, "UpstreamTlsContext", names=_accounts(rendered, service))
            clusters.append(cluster)
    return clusters


def _gateway(rendered):
    gateway = rendered.one("Gateway")
    metadata = gateway["metadata"]
    listeners = []
    for server in gateway["spec"]["servers"]:
        port = server["port"]["number"]
        route = {"name": f"http.{port}", "virtualHosts": _virtual_hosts(rendered, metadata)}
        manager = istio.manager("GATEWAY", f"outbound_0.0.0.0_{port}", istio.filters(_extensions(rendered, metadata["namespace"]), "GATEWAY", port, []), route)
        chain = {"filters": [{"name": istio.MANAGER_FILTER, "typedConfig": manager}]}
        listener = {"name": f"0.0.0.0_{port}", "metadataPort": port, "address": socket_address(rendered.bound(port)), "filterChains": [chain]}
        tls = server.get("tls")
        if tls:
            key = f"{metadata['namespace']}/{tls['credentialName']}"
            common = {
                "tlsCertificates": [{"certificateChain": rendered.file(key, "tls.crt"), "privateKey": rendered.file(key, "tls.key")}],
                "alpnProtocols": ["h2", "http/1.1"],
            }
            if tls["mode"] == "MUTUAL":
                common["validationContext"] = {"trustedCa": rendered.file(key, "ca.crt")}
            chain["transportSocket"] = {
                "name": "envoy.transport_sockets.tls",
                "typedConfig": {"@type": TLS + "DownstreamTlsContext", "requireClientCertificate": tls["mode"] == "MUTUAL", "commonTlsContext": common},
            }
            names = [host.rpartition("/")[2] for host in server["hosts"]]
            if "*" not in names:
                chain["filterChainMatch"] = {"serverNames": names}
                listener["listenerFilters"] = [_inspector()]
        listeners.append(listener)
    return listeners, _outbound(rendered)


def _headers(headers):
    """Headers that an entry of a VirtualService sets and removes."""
    request, response = headers.get("request", {}), headers.get("response", {})
    if request.keys() - {"set"} or response.keys() - {"remove"}:
        raise ValueError(f"{headers} in a VirtualService is not translated here")
    added = [{"header": {"key": key, "value": value}, "appendAction": "OVERWRITE_IF_EXISTS_OR_ADD"} for key, value in request.get("set", {}).items()]
    made = {"requestHeadersToAdd": added, "responseHeadersToRemove": response.get("remove")}
    return {name: value for name, value in made.items() if value}


def _virtual_hosts(rendered, gateway):
    hosts = []
    for document in rendered.of("VirtualService"):
        metadata, spec = document["metadata"], document["spec"]
        names = [name if "/" in name else f"{metadata['namespace']}/{name}" for name in spec.get("gateways", [])]
        if f"{gateway['namespace']}/{gateway['name']}" not in names:
            continue
        routes = []
        for entry in spec["http"]:
            for match in entry.get("match", [{"uri": {"prefix": "/"}}]):
                if match.keys() - {"uri", "name"}:
                    raise ValueError(f"a match by {sorted(match)} in a VirtualService is not translated here")
                uri = match.get("uri", {"prefix": "/"})
                (destination,) = [one["destination"] for one in entry["route"]]
                host = destination["host"] if "." in destination["host"] else f"{destination['host']}.{metadata['namespace']}.svc.cluster.local"
                action = {"cluster": f"outbound|{destination['port']['number']}||{host}", "timeout": entry.get("timeout", "0s")}
                attempts = entry.get("retries", {}).get("attempts", 2)
                if attempts:
                    action["retryPolicy"] = {"retryOn": "connect-failure,refused-stream,unavailable,cancelled", "numRetries": attempts}
                matched = {"path": uri["exact"]} if "exact" in uri else {"safeRegex": {"regex": uri["regex"]}} if "regex" in uri else {"prefix": uri["prefix"]}
                routes.append({"match": matched, "route": action, **_headers(entry.get("headers", {}))})
        hosts.append({"name": spec["hosts"][0], "domains": [name for host in spec["hosts"] for name in ([host] if host == "*" else [host, f"{host}:*"])], "routes": routes})
    return hosts
