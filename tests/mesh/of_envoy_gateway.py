"""Rendered resources for Envoy Gateway as static listeners and clusters. They become Envoy Gateway's
intermediate representation (internal/gatewayapi: listener.go, route.go, clienttrafficpolicy.go,
envoyextensionpolicy.go, backendtlspolicy.go at d32f28294245e454d20f81d323d626a90e660c1e), and that
becomes Envoy's configuration by envoy_gateway.py. A policy's field that is not followed here is an
error.
"""

import re

import envoy_gateway
import envoy_patch_policy
from bootstraps import socket_address

GROUP = "gateway.networking.k8s.io"
UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
# circuitBreaker's names and Envoy's.
BREAKERS = {"maxConnections": "maxConnections", "maxPendingRequests": "maxPendingRequests", "maxParallelRequests": "maxRequests", "maxParallelRetries": "maxRetries"}
# From the numbers of Envoy Gateway to Envoy's names.
VERSIONS = {"Auto": "TLS_AUTO", "1.0": "TLSv1_0", "1.1": "TLSv1_1", "1.2": "TLSv1_2", "1.3": "TLSv1_3"}


def quantity(value):
    """A Kubernetes quantity as a number of bytes."""
    if value is None or isinstance(value, int):
        return value
    number, unit = re.fullmatch(r"(\d+)([A-Za-z]*)", value).groups()
    return int(number) * UNITS[unit]


def seconds(duration):
    """A duration of the Gateway API as protobuf writes it."""
    if duration is None:
        return None
    parts = re.findall(r"(\d+)(ms|h|m|s)", duration)
    total = sum(int(number) * {"h": 3600_000, "m": 60_000, "s": 1000, "ms": 1}[unit] for number, unit in parts)
    return f"{total // 1000}s" if total % 1000 == 0 else f"{total / 1000}s"


def followed(where, value, known):
    """Raises for members that are not followed."""
    unknown = (value or {}).keys() - set(known)
    if unknown:
        raise ValueError(f"{where}: {', '.join(sorted(unknown))} is not translated here")
    return value or {}


def targets(policy, kind, name, section=None):
    """Whether a policy targets an object."""
    spec = policy["spec"]
    followed(policy["kind"], {member: 1 for member in spec if member == "targetSelectors"}, [])
    refs = spec.get("targetRefs") or [spec["targetRef"]]
    return any(ref["kind"] == kind and ref["name"] == name and ref.get("sectionName") in (None, section) for ref in refs)


def _policy(rendered, kind, gateway, section):
    found = [
        one for one in rendered.of(kind)
        if one["metadata"]["namespace"] == gateway["namespace"] and targets(one, "Gateway", gateway["name"], section)
    ]
    if len(found) > 1:
        raise ValueError(f"{len(found)} {kind}s for {gateway['name']}/{section}; one is expected")
    return found[0]["spec"] if found else {}


def _route_policy(rendered, route, fallback):
    """The BackendTrafficPolicy of a route, which wins over the Gateway's."""
    metadata = route["metadata"]
    for one in rendered.of("BackendTrafficPolicy"):
        if one["metadata"]["namespace"] == metadata["namespace"] and targets(one, route["kind"], metadata["name"]):
            return one["spec"]
    return fallback


def _client_traffic(spec):
    """ClientTrafficPolicy as settings of a listener, and of its connections."""
    followed("ClientTrafficPolicy", spec, {"targetRef", "targetRefs", "connection", "http2", "timeout", "headers", "path", "tls", "clientIPDetection"})
    http2 = followed("http2", spec.get("http2"), {"initialStreamWindowSize", "initialConnectionWindowSize", "maxConcurrentStreams", "onInvalidMessage"})
    headers = followed("headers", spec.get("headers"), {"withUnderscoresAction", "requestID", "maxRequestHeaderLimit", "xForwardedClientCert", "enableEnvoyHeaders"})
    path = followed("path", spec.get("path"), {"escapedSlashesAction", "disableMergeSlashes"})
    timeout = followed("timeout", spec.get("timeout"), {"http", "tcp"})
    http = followed("timeout.http", timeout.get("http"), {"requestReceivedTimeout", "requestHeadersReceivedTimeout", "idleTimeout", "streamIdleTimeout"})
    tcp = followed("timeout.tcp", timeout.get("tcp"), {"tlsHandshakeTimeout"})
    tls = followed("tls", spec.get("tls"), {"minVersion", "maxVersion", "clientValidation", "alpnProtocols"})
    certificate = followed("xForwardedClientCert", headers.get("xForwardedClientCert"), {"mode"})
    connection = followed("connection", spec.get("connection"), {"bufferLimit", "connectionLimit"})
    limit = followed("connectionLimit", connection.get("connectionLimit"), {"value", "maxConnectionDuration", "maxRequestsPerConnection", "maxStreamDuration"})
    detected = followed("clientIPDetection", spec.get("clientIPDetection"), {"xForwardedFor"}).get("xForwardedFor")
    headers_kib = quantity(headers.get("maxRequestHeaderLimit"))
    made = {
        "http2": envoy_gateway.dense({
            "initialStreamWindowSize": quantity(http2.get("initialStreamWindowSize")),
            "initialConnectionWindowSize": quantity(http2.get("initialConnectionWindowSize")),
            "maxConcurrentStreams": http2.get("maxConcurrentStreams"),
            "resetStreamOnError": {"TerminateStream": True, "TerminateConnection": False}.get(http2.get("onInvalidMessage")),
        }),
        "headers": envoy_gateway.dense({
            "withUnderscoresAction": headers.get("withUnderscoresAction"),
            "requestID": headers.get("requestID"),
            "enableEnvoyHeaders": headers.get("enableEnvoyHeaders"),
            "xForwardedClientCert": certificate.get("mode"),
            "maxRequestHeadersKB": None if headers_kib is None else -(-headers_kib // 1024),
        }),
        "path": {
            "mergeSlashes": not path.get("disableMergeSlashes", False),
            "escapedSlashesAction": path.get("escapedSlashesAction", "UnescapeAndRedirect"),
        },
        "timeout": {"http": {name: seconds(value) for name, value in http.items()}},
        "handshake": seconds(tcp.get("tlsHandshakeTimeout")),
        "clientIPDetection": detected,
        "versions": tls,
    }
    limits = {name: value if isinstance(value, int) else seconds(value) for name, value in limit.items()}
    return made, envoy_gateway.dense({"bufferLimit": quantity(connection.get("bufferLimit")), "limit": limits})


def _wasms(rendered, policy, urls):
    """envoyextensionpolicy.go, buildWasms: the filters of an EnvoyExtensionPolicy."""
    metadata, made = policy["metadata"], []
    followed("EnvoyExtensionPolicy", policy["spec"], {"targetRef", "targetRefs", "wasm", "dynamicModule"})
    for number, wasm in enumerate(policy["spec"].get("wasm", [])):
        name = f"envoyextensionpolicy/{metadata['namespace']}/{metadata['name']}/wasm/{number}"
        code = wasm["code"]
        source = code["image" if code["type"] == "Image" else "http"]
        # Envoy Gateway serves what it has fetched; its name tells nothing.
        served = f"https://envoy-gateway:18002/{number}.wasm"
        urls[served] = source["url"]
        made.append(envoy_gateway.dense({
            "name": name,
            "wasmName": wasm.get("name", name),
            "rootID": wasm.get("rootID"),
            "config": wasm.get("config"),
            "failOpen": wasm.get("failOpen", False),
            "httpWasmCode": {"servingURL": served, "sha256": source.get("sha256", "")},
            "hostKeys": (wasm.get("env") or {}).get("hostKeys"),
        }))
    return made


def _modules(rendered, policy, proxy):
    """envoyextensionpolicy.go, buildDynamicModules: the native filters of an EnvoyExtensionPolicy. The
    EnvoyProxy lists the modules that may be named.
    """
    metadata, made = policy["metadata"], []
    listed = {one["name"]: one for one in proxy.get("dynamicModules", [])}
    for number, module in enumerate(policy["spec"].get("dynamicModule", [])):
        entry = listed[module["name"]]
        followed("a module", entry, {"name", "source", "doNotClose"})
        if entry["source"]["type"] != "Local":
            raise ValueError("only local modules are translated here")
        made.append(envoy_gateway.dense({
            "name": f"envoyextensionpolicy/{metadata['namespace']}/{metadata['name']}/dynamicmodule/{number}",
            "path": rendered.modules.get("native", entry["source"]["local"]["path"]),
            "doNotClose": entry.get("doNotClose"),
            "filterName": module.get("filterName"),
            "config": module.get("config"),
        }))
    return made


def _extensions(rendered, gateway, section, route, proxy, urls):
    """The filters of a route: of the policy nearest to it, the route's own before the Gateway's."""
    policies = [one for one in rendered.of("EnvoyExtensionPolicy") if one["metadata"]["namespace"] == route["metadata"]["namespace"]]
    for kind, name in ((route["kind"], route["metadata"]["name"]), ("Gateway", gateway["name"])):
        for policy in policies:
            if targets(policy, kind, name, section):
                return {"wasms": _wasms(rendered, policy, urls), "dynamicModules": _modules(rendered, policy, proxy)}
    return None


def _tls(rendered, namespace, service, port_name, proxy):
    """backendtlspolicy.go, applyBackendTLSSetting: TLS to a Service, or None."""
    for policy in rendered.of("BackendTLSPolicy"):
        if policy["metadata"]["namespace"] != namespace or not targets(policy, "Service", service, port_name):
            continue
        validation = policy["spec"]["validation"]
        (reference,) = validation["caCertificateRefs"]
        context = {"trustedCa": rendered.file(f"{namespace}/{reference['name']}", "ca.crt")}
        names = [
            {"sanType": "DNS", "matcher": {"exact": one["hostname"]}} if one["type"] == "Hostname" else {"sanType": "URI", "matcher": {"exact": one["uri"]}}
            for one in validation.get("subjectAltNames", [])
        ]
        # The hostname counts only if no names are given.
        context["matchTypedSubjectAltNames"] = names or [{"sanType": "DNS", "matcher": {"exact": validation["hostname"]}}]
        settings = proxy.get("backendTLS", {})
        common = {
            "validationContext": context,
            "tlsParams": {
                "tlsMinimumProtocolVersion": VERSIONS[settings.get("minVersion", "1.2")],
                "tlsMaximumProtocolVersion": VERSIONS[settings.get("maxVersion", "1.3")],
            },
        }
        if settings.get("alpnProtocols"):
            common["alpnProtocols"] = settings["alpnProtocols"]
        certificate = settings.get("clientCertificateRef")
        if certificate:
            key = f"{certificate.get('namespace', proxy['namespace'])}/{certificate['name']}"
            common["tlsCertificates"] = [{"certificateChain": rendered.file(key, "tls.crt"), "privateKey": rendered.file(key, "tls.key")}]
        return {"sni": validation["hostname"], "commonTlsContext": common}
    return None


def _cluster(rendered, name, namespace, reference, protocol, proxy, settings):
    namespace = reference.get("namespace", namespace)
    service = rendered.port(namespace, reference["name"], reference["port"]) or {}
    wanted = service.get("appProtocol")
    if protocol == "HTTP":
        protocol = {"kubernetes.io/h2c": "HTTP2", "grpc": "GRPC"}.get(wanted, "HTTP")
    tls = _tls(rendered, namespace, reference["name"], service.get("name"), proxy)
    return envoy_gateway.cluster(name, [rendered.service(namespace, reference["name"], reference["port"])], protocol, tls, settings)


def _backend_traffic(spec):
    followed("BackendTrafficPolicy", spec, {"targetRef", "targetRefs", "connection", "http2", "timeout", "circuitBreaker"})
    breaker = followed("circuitBreaker", spec.get("circuitBreaker"), BREAKERS)
    timeout = followed("timeout", spec.get("timeout"), {"http", "tcp"})
    http = followed("timeout.http", timeout.get("http"), {"requestTimeout"})
    tcp = followed("timeout.tcp", timeout.get("tcp"), {"connectTimeout"})
    settings = envoy_gateway.dense({
        "bufferLimit": quantity((spec.get("connection") or {}).get("bufferLimit")),
        "http2": {name: quantity(value) for name, value in (spec.get("http2") or {}).items()},
        "connectTimeout": seconds(tcp.get("connectTimeout")),
        "breaker": {BREAKERS[name]: value for name, value in breaker.items()} or None,
    })
    return settings, seconds(http.get("requestTimeout"))


def _matches(route, rule):
    """Paths of a rule, as the intermediate representation has them."""
    if route["kind"] == "GRPCRoute":
        for match in rule.get("matches", [{}]):
            followed("GRPCRoute match", match, {"method"})
            method = match.get("method", {})
            service, name = method.get("service"), method.get("method")
            if method.get("type", "Exact") != "Exact" or name and not service:
                raise ValueError("only exact services and methods of a GRPCRoute are translated here")
            yield {"exact": f"/{service}/{name}"} if name else {"safeRegex": f"/{service}/[A-Za-z_][A-Za-z_0-9]*"} if service else {"prefix": "/"}
        return
    for match in rule.get("matches", [{}]):
        followed("HTTPRoute match", match, {"path"})
        path = match.get("path", {"type": "PathPrefix", "value": "/"})
        yield {{"Exact": "exact", "PathPrefix": "prefix", "RegularExpression": "safeRegex"}[path.get("type", "PathPrefix")]: path.get("value", "/")}


def _headers(filters):
    """Headers that the filters of a rule set or remove."""
    made = {}
    for one in filters:
        followed("a filter of a rule", one, {"type", "requestHeaderModifier", "responseHeaderModifier"})
        request = followed("requestHeaderModifier", one.get("requestHeaderModifier"), {"set"})
        response = followed("responseHeaderModifier", one.get("responseHeaderModifier"), {"remove"})
        made.setdefault("setHeaders", []).extend(request.get("set", []))
        made.setdefault("removeResponseHeaders", []).extend(response.get("remove", []))
    return made


def _order(route):
    """Envoy Gateway's order: exact paths, then longer ones, then prefixes."""
    path = route["pathMatch"]
    rank = 0 if "exact" in path else 1 if "safeRegex" in path else 2
    return rank, -len(next(iter(path.values())))


def _routes(rendered, gateway, section, listener_host, proxy, backend, urls):
    """(routes, clusters) of a listener."""
    made, clusters = [], []
    for route in [*rendered.of("HTTPRoute"), *rendered.of("GRPCRoute")]:
        metadata, spec = route["metadata"], route["spec"]
        if not any(ref["name"] == gateway["name"] and ref.get("sectionName") in (None, section) for ref in spec["parentRefs"]):
            continue
        settings, request_timeout = _backend_traffic(_route_policy(rendered, route, backend))
        for number, rule in enumerate(spec["rules"]):
            followed(f"a rule of {metadata['name']}", rule, {"name", "matches", "filters", "backendRefs", "timeouts"})
            name = f"{route['kind'].lower()}/{metadata['namespace']}/{metadata['name']}/rule/{number}"
            (reference,) = rule["backendRefs"]
            grpc = route["kind"] == "GRPCRoute"
            clusters.append(_cluster(rendered, name, metadata["namespace"], reference, "GRPC" if grpc else "HTTP", proxy, settings))
            timeout = seconds(rule.get("timeouts", {}).get("request"))
            for count, match in enumerate(_matches(route, rule)):
                for host in spec.get("hostnames") or [listener_host or "*"]:
                    made.append({
                        "name": f"{name}/match/{count}/{host.replace('.', '_')}",
                        "hostname": host,
                        "destination": {"name": name},
                        "isHTTP2": grpc,
                        "pathMatch": match,
                        "timeout": timeout if timeout is not None else request_timeout,
                        **_headers(rule.get("filters", [])),
                        "envoyExtensions": _extensions(rendered, gateway, section, route, proxy, urls),
                    })
    made.sort(key=_order)
    return made, clusters


def _sinks(rendered, proxy):
    """(sinks, clusters) of an EnvoyProxy's access log."""
    sinks, clusters = [], []
    for number, setting in enumerate((proxy.get("telemetry", {}).get("accessLog") or {}).get("settings", [])):
        followed("accessLog.settings", setting, {"type", "matches", "sinks"})
        for count, sink in enumerate(setting["sinks"]):
            if sink["type"] != "ALS":
                continue
            if setting.get("type") != "Route" or sink["als"]["type"] != "HTTP":
                raise ValueError("only access logs of routes to HTTP sinks are translated here")
            name = f"accesslog_als_{number}_{count}"
            (reference,) = sink["als"]["backendRefs"]
            windows = (sink["als"].get("backendSettings") or {}).get("http2") or {}
            settings = {"http2": {key: quantity(value) for key, value in windows.items()}}
            clusters.append(_cluster(rendered, name, proxy["namespace"], reference, "GRPC", proxy, settings))
            sinks.append({"name": sink["als"].get("logName", proxy["fullName"]), "cluster": name, "http": sink["als"].get("http"), "matches": setting.get("matches", [])})
    return sinks, clusters


def _proxy(rendered):
    document = rendered.one("EnvoyProxy")
    if document is None:
        return {"namespace": "", "fullName": ""}
    metadata = document["metadata"]
    return {**document["spec"], "namespace": metadata["namespace"], "fullName": f"{metadata['namespace']}/{metadata['name']}"}


def resources(rendered):
    """(listeners, clusters, the URL behind each address that modules are served at)."""
    gateway, proxy, urls = rendered.one("Gateway", GROUP), _proxy(rendered), {}
    metadata = gateway["metadata"]
    sinks, clusters = _sinks(rendered, proxy)
    if rendered.of("SecurityPolicy"):
        raise ValueError("a SecurityPolicy is not translated here")
    listeners = []
    for entry in gateway["spec"]["listeners"]:
        section = entry["name"]
        settings, connection = _client_traffic(_policy(rendered, "ClientTrafficPolicy", metadata, section))
        backend = _policy(rendered, "BackendTrafficPolicy", metadata, None)
        made_routes, found = _routes(rendered, metadata, section, entry.get("hostname"), proxy, backend, urls)
        clusters += [one for one in found if one["name"] not in {each["name"] for each in clusters}]
        bound = socket_address(rendered.bound(entry["port"]))
        made_for = {
            **settings,
            "name": f"{metadata['namespace']}/{metadata['name']}/{section}",
            "address": bound["socketAddress"]["address"],
            "port": bound["socketAddress"]["portValue"],
            "routes": made_routes,
            "tls": entry.get("tls"),
            "grpc": any(one["isHTTP2"] for one in made_routes),
        }
        listener = envoy_gateway.listener(made_for, connection, envoy_gateway.access_logs(sinks))
        chain = listener.get("defaultFilterChain") or listener["filterChains"][0]
        manager = chain["filters"][-1]["typedConfig"]
        del manager["rds"]
        manager["routeConfig"] = envoy_gateway.routes(made_for)
        if entry.get("tls"):
            _terminate(rendered, metadata["namespace"], entry, settings, listener, chain)
        listeners.append(listener)
    envoy_patch_policy.patched(rendered.of("EnvoyPatchPolicy"), metadata["name"], listeners, clusters)
    return listeners, [_with_local_secrets(one, rendered) for one in clusters], urls


def _with_local_secrets(cluster, rendered):
    """Certificates that a patched cluster gets by ADS become files. Envoy Gateway sends those that its
    own clusters use: `NAMESPACE/NAME` of a Secret, and `NAME/NAMESPACE-ca` of a BackendTLSPolicy.
    """
    common = cluster.get("transportSocket", {}).get("typedConfig", {}).get("commonTlsContext", {})
    if "tlsCertificateSdsSecretConfigs" in common:
        (secret,) = common.pop("tlsCertificateSdsSecretConfigs")
        common["tlsCertificates"] = [{"certificateChain": rendered.file(secret["name"], "tls.crt"), "privateKey": rendered.file(secret["name"], "tls.key")}]
    if "combinedValidationContext" in common:
        validation = common.pop("combinedValidationContext")
        name, _, namespace = validation["validationContextSdsSecretConfig"]["name"].removesuffix("-ca").partition("/")
        (policy,) = [one["spec"] for one in rendered.of("BackendTLSPolicy") if (one["metadata"]["name"], one["metadata"]["namespace"]) == (name, namespace)]
        (reference,) = policy["validation"]["caCertificateRefs"]
        common["validationContext"] = {**validation["defaultValidationContext"], "trustedCa": rendered.file(f"{namespace}/{reference['name']}", "ca.crt")}
    return cluster


def _terminate(rendered, namespace, entry, settings, listener, chain):
    """listener.go, buildXdsDownstreamTLSSocket: TLS of a listener."""
    (reference,) = entry["tls"]["certificateRefs"]
    key, versions = f"{reference.get('namespace', namespace)}/{reference['name']}", settings["versions"]
    common = {
        "tlsCertificates": [{"certificateChain": rendered.file(key, "tls.crt"), "privateKey": rendered.file(key, "tls.key")}],
        "alpnProtocols": versions.get("alpnProtocols", ["h2", "http/1.1"]),
        "tlsParams": {
            "tlsMinimumProtocolVersion": VERSIONS[versions.get("minVersion", "1.2")],
            "tlsMaximumProtocolVersion": VERSIONS[versions.get("maxVersion", "1.3")],
        },
    }
    tls = {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", "commonTlsContext": common}
    validation = followed("clientValidation", versions.get("clientValidation"), {"caCertificateRefs", "optional"})
    if validation:
        (authority,) = validation["caCertificateRefs"]
        common["validationContext"] = {"trustedCa": rendered.file(f"{namespace}/{authority['name']}", "ca.crt")}
        tls["requireClientCertificate"] = not validation.get("optional", False)
    chain["transportSocket"] = {"name": "envoy.transport_sockets.tls", "typedConfig": tls}
    if settings["handshake"]:
        chain["transportSocketConnectTimeout"] = settings["handshake"]
    if entry.get("hostname"):
        chain["filterChainMatch"] = {"serverNames": [entry["hostname"]]}
        name = "envoy.filters.listener.tls_inspector"
        inspector = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
        listener["listenerFilters"] = [{"name": name, "typedConfig": {"@type": inspector}}]
