"""What Envoy Gateway makes of its intermediate representation: listeners with their connection managers,
routes, access logs and clusters. It follows these files of envoyproxy/gateway at
d32f28294245e454d20f81d323d626a90e660c1e (main after 1.9.0), as far as rendered manifests need them:
internal/xds/translator/{wasm,dynamicmodule,listener,route,accesslog,cluster,translator,httpfilters}.go. Where we
have the published outputs, translate.py compares.
"""

import json

BUFFER = 32768
STREAMS, STREAM_WINDOW, CONNECTION_WINDOW = 100, 65536, 1048576
FILTER = "envoy.filters.http.wasm"
NATIVE_FILTER = "envoy.filters.http.dynamic_modules"
TYPE = "type.googleapis.com/"
ROUTER = TYPE + "envoy.extensions.filters.http.router.v3.Router"
MANAGER = TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
UNDERSCORES = {"Allow": None, "RejectRequest": "REJECT_REQUEST", "DropHeader": "DROP_HEADER"}
SLASHES = {
    "KeepUnchanged": "KEEP_UNCHANGED",
    "RejectRequest": "REJECT_REQUEST",
    "UnescapeAndForward": "UNESCAPE_AND_FORWARD",
    "UnescapeAndRedirect": "UNESCAPE_AND_REDIRECT",
}
CERTIFICATES = {
    "Sanitize": None,
    "ForwardOnly": "FORWARD_ONLY",
    "AppendForward": "APPEND_FORWARD",
    "SanitizeSet": "SANITIZE_SET",
    "AlwaysForwardOnly": "ALWAYS_FORWARD_ONLY",
}


def dense(mapping):
    """Without members that are None, as protobuf's JSON has no unset fields."""
    return {name: value for name, value in mapping.items() if value is not None}


def wasm_filter(wasm):
    """wasm.go, buildHCMWasmFilter: the filter, disabled in the listener."""
    configuration = wasm.get("config")
    vm = dense({
        "vmId": wasm["name"],
        "runtime": "envoy.wasm.runtime.v8",
        "code": {"remote": {
            "httpUri": {"uri": wasm["httpWasmCode"]["servingURL"], "cluster": "wasm_cluster", "timeout": "10s"},
            "sha256": wasm["httpWasmCode"]["sha256"],
            "retryPolicy": {"numRetries": 10, "retryBackOff": {"baseInterval": "1s", "maxInterval": "30s"}},
        }},
        "environmentVariables": {"hostEnvKeys": wasm["hostKeys"]} if wasm.get("hostKeys") else None,
    })
    config = dense({
        "name": wasm["wasmName"],
        "rootId": wasm.get("rootID"),
        "vmConfig": vm,
        "configuration": {
            "@type": TYPE + "google.protobuf.StringValue",
            # Raw JSON, as the API server keeps it: without spaces.
            "value": "" if configuration is None else json.dumps(configuration, separators=(",", ":"), ensure_ascii=False),
        },
        "failOpen": True if wasm.get("failOpen") else None,
    })
    return {
        "name": f"{FILTER}/{wasm['name']}",
        "disabled": True,
        "typedConfig": {"@type": TYPE + "envoy.extensions.filters.http.wasm.v3.Wasm", "config": config},
    }


def native_filter(module):
    """dynamicmodule.go, buildHCMDynamicModuleFilter: the same for a native module."""
    config = dense({
        "dynamicModuleConfig": dense({"doNotClose": module.get("doNotClose"), "module": {"local": {"filename": module["path"]}}}),
        "filterName": module.get("filterName"),
        "filterConfig": None if module.get("config") is None else {
            "@type": TYPE + "google.protobuf.StringValue",
            "value": json.dumps(module["config"], separators=(",", ":"), ensure_ascii=False),
        },
    })
    return {
        "name": f"{NATIVE_FILTER}/{module['name']}",
        "disabled": True,
        "typedConfig": {"@type": TYPE + "envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter", **config},
    }


def extensions(route):
    """The filters that a route's extensions are, each disabled in the listener."""
    found = route.get("envoyExtensions") or {}
    return [wasm_filter(one) for one in found.get("wasms") or []] + [native_filter(one) for one in found.get("dynamicModules") or []]


def filters(listener):
    """The HTTP filters of a listener: every route's, once, in the order of httpfilters.go, those that a
    GRPCRoute brings along, and the router.
    """
    found = {}
    for route in listener["routes"]:
        for made in extensions(route):
            found.setdefault(made["name"], made)
    shown = (listener.get("headers") or {}).get("enableEnvoyHeaders")
    router = dense({"@type": ROUTER, "suppressEnvoyHeaders": None if shown else True})
    ordered = sorted(found.values(), key=lambda made: (int(made["name"].rpartition("/")[2]), made["name"]))
    if listener.get("grpc"):
        stats = {"@type": TYPE + "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig", "emitFilterState": True, "statsForAllMethods": True}
        ordered += [
            {"name": "envoy.filters.http.grpc_web", "typedConfig": {"@type": TYPE + "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"}},
            {"name": "envoy.filters.http.grpc_stats", "typedConfig": stats},
        ]
    return [*ordered, {"name": "envoy.filters.http.router", "typedConfig": router}]


def manager(listener, connection=None, access_log=None):
    """listener.go, addHCMToXDSListener: the connection manager."""
    headers, timeouts = listener.get("headers") or {}, (listener.get("timeout") or {}).get("http") or {}
    http2, limits = listener.get("http2") or {}, (connection or {}).get("limit") or {}
    secure, request_id = bool(listener.get("tls")), headers.get("requestID")
    detected = listener.get("clientIPDetection")
    options = dense({
        "headersWithUnderscoresAction": UNDERSCORES[headers.get("withUnderscoresAction", "RejectRequest")],
        "idleTimeout": timeouts.get("idleTimeout"),
        "maxConnectionDuration": limits.get("maxConnectionDuration"),
        "maxRequestsPerConnection": limits.get("maxRequestsPerConnection"),
        "maxStreamDuration": limits.get("maxStreamDuration"),
    })
    made = {
        "@type": MANAGER,
        "accessLog": access_log or None,
        "statPrefix": f"{'https' if secure else 'http'}-{listener['port']}",
        "rds": {
            "configSource": {"ads": {}, "initialFetchTimeout": "0s", "resourceApiVersion": "V3"},
            "routeConfigName": listener["name"],
        },
        "serverHeaderTransformation": "PASS_THROUGH",
        "http2ProtocolOptions": dense({
            "maxConcurrentStreams": http2.get("maxConcurrentStreams", STREAMS),
            "initialStreamWindowSize": http2.get("initialStreamWindowSize", STREAM_WINDOW),
            "initialConnectionWindowSize": http2.get("initialConnectionWindowSize", CONNECTION_WINDOW),
            "overrideStreamErrorOnInvalidHttpMessage": http2.get("resetStreamOnError"),
        }),
        "useRemoteAddress": detected is None,
        "normalizePath": True,
        "mergeSlashes": True if listener["path"].get("mergeSlashes") else None,
        "pathWithEscapedSlashesAction": SLASHES[listener["path"]["escapedSlashesAction"]],
        "commonHttpProtocolOptions": options,
        "forwardClientCertDetails": CERTIFICATES[headers.get("xForwardedClientCert") or "Sanitize"],
        "maxRequestHeadersKb": headers.get("maxRequestHeadersKB"),
        "requestTimeout": timeouts.get("requestReceivedTimeout"),
        "requestHeadersTimeout": timeouts.get("requestHeadersReceivedTimeout"),
        "streamIdleTimeout": timeouts.get("streamIdleTimeout"),
        "httpFilters": filters(listener),
    }
    if detected is not None:
        made["originalIpDetectionExtensions"] = [_detection(detected)]
    if limits.get("maxConnectionDuration"):
        made["http1SafeMaxConnectionDuration"] = True
    if request_id == "PreserveOrGenerate":
        made |= {"generateRequestId": True, "preserveExternalRequestId": True}
    elif request_id == "Preserve":
        made |= {"generateRequestId": False, "preserveExternalRequestId": True}
    elif request_id:
        made["generateRequestId"] = request_id == "Generate"
    return dense(made)


def _detection(detected):
    hops, cidrs = detected.get("numTrustedHops"), detected.get("trustedCIDRs")
    if cidrs:
        split = [cidr.split("/") for cidr in cidrs]
        config = {"xffTrustedCidrs": {"cidrs": [{"addressPrefix": prefix, "prefixLen": int(length)} for prefix, length in split]}}
    elif hops is not None:
        config = {"xffNumTrustedHops": max(hops - 1, 0)}
    else:
        raise ValueError(f"clientIPDetection {detected} is not translated here")
    name = "envoy.extensions.http.original_ip_detection.xff"
    config["skipXffAppend"] = detected.get("disableXForwardedForAppend", False)
    return {"name": name, "typedConfig": {"@type": TYPE + "envoy.extensions.http.original_ip_detection.xff.v3.XffConfig", **config}}


def listener(made_for, connection=None, access_log=None):
    """listener.go, buildXdsTCPListener, with one filter chain for plain HTTP."""
    chain = {
        "name": made_for["name"],
        "filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typedConfig": manager(made_for, connection, access_log),
        }],
    }
    made = {
        "name": made_for["name"],
        "address": {"socketAddress": {"address": made_for["address"], "portValue": made_for["port"]}},
        "perConnectionBufferLimitBytes": (connection or {}).get("bufferLimit", BUFFER),
        "maxConnectionsToAcceptPerSocketEvent": 1,
    }
    if (connection or {}).get("limit", {}).get("value"):
        chain["filters"].insert(0, {
            "name": "envoy.filters.network.connection_limit",
            "typedConfig": {
                "@type": TYPE + "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
                "statPrefix": chain["filters"][0]["typedConfig"]["statPrefix"],
                "maxConnections": connection["limit"]["value"],
            },
        })
    if made_for.get("tls"):
        made["filterChains"] = [chain]
    else:
        made["defaultFilterChain"] = chain
    return made


def _match(matched):
    if matched.get("exact") is not None:
        return {"path": matched["exact"]}
    if matched.get("safeRegex") is not None:
        return {"safeRegex": {"regex": matched["safeRegex"]}}
    prefix = matched.get("prefix")
    if prefix in (None, "", "/"):
        return {"prefix": "/"}
    return {"pathSeparatedPrefix": prefix.rstrip("/")}


def _idle(timeout):
    """route.go, idleTimeout: an hour, or the request's timeout if that is longer or disabled."""
    length = float(timeout.removesuffix("s"))
    return timeout if length == 0 or length > 3600 else "3600s"


def route(made_for, stream_idle=None):
    """route.go, buildXdsRoute: a route with the filters that it enables."""
    action = {"cluster": made_for["destination"]["name"]}
    if not made_for.get("isHTTP2"):
        action["upgradeConfigs"] = [{"upgradeType": "websocket"}]
    if made_for.get("timeout") is not None:
        action["timeout"] = made_for["timeout"]
        if stream_idle is None:
            action["idleTimeout"] = _idle(made_for["timeout"])
    enabled = {
        made["name"]: {"@type": TYPE + "envoy.config.route.v3.FilterConfig", "config": {}}
        for made in extensions(made_for)
    }
    return dense({
        "name": made_for["name"],
        "match": _match(made_for.get("pathMatch") or {}),
        "route": action,
        "requestHeadersToAdd": [
            {"header": {"key": one["name"], "value": one["value"]}, "appendAction": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for one in made_for.get("setHeaders", [])
        ] or None,
        "responseHeadersToRemove": made_for.get("removeResponseHeaders") or None,
        "typedPerFilterConfig": enabled or None,
    })


def routes(made_for):
    """translator.go: a route configuration with a virtual host for each hostname."""
    stream_idle = ((made_for.get("timeout") or {}).get("http") or {}).get("streamIdleTimeout")
    hosts = {}
    for one in made_for["routes"]:
        hosts.setdefault(one["hostname"], []).append(route(one, stream_idle))
    return {
        "name": made_for["name"],
        "ignorePortInHostMatching": True,
        "virtualHosts": [
            {"name": f"{made_for['name']}/{'*' if host == '*' else host.replace('.', '_')}", "domains": [host], "routes": found}
            for host, found in hosts.items()
        ],
    }


def access_logs(sinks):
    """accesslog.go, buildXdsAccessLog, for gRPC sinks at routes. No field of ours has a name for objects
    of the filter state, because Envoy Gateway sets none.
    """
    logs = []
    for sink in sinks:
        http = sink.get("http") or {}
        logs.append(dense({
            "name": "envoy.access_loggers.http_grpc",
            "filter": _all(sink.get("matches", [])),
            "typedConfig": dense({
                "@type": TYPE + "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
                "commonConfig": {
                    "logName": sink["name"],
                    "grpcService": {"envoyGrpc": {"clusterName": sink["cluster"]}},
                    "transportApiVersion": "V3",
                },
                "additionalRequestHeadersToLog": http.get("requestHeaders"),
                "additionalResponseHeadersToLog": http.get("responseHeaders"),
                "additionalResponseTrailersToLog": http.get("responseTrailers"),
            }),
        }))
    return logs


def _all(expressions):
    """accesslog.go, buildAccessLogFilter: a filter of CEL expressions that must all be true, or None."""
    kind = "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter"
    made = [
        {"extensionFilter": {"name": "envoy.access_loggers.extension_filters.cel", "typedConfig": {"@type": TYPE + kind, "expression": one}}}
        for one in expressions
    ]
    return made[0] if len(made) == 1 else {"andFilter": {"filters": made}} if made else None


def cluster(name, endpoints, protocol, tls=None, settings=None):
    """cluster.go, buildXdsCluster and buildTypedExtensionProtocolOptions, with fixed endpoints."""
    settings = settings or {}
    http2 = settings.get("http2") or {}
    made = {
        "name": name,
        "type": "STATIC",
        "connectTimeout": settings.get("connectTimeout", "10s"),
        "perConnectionBufferLimitBytes": settings.get("bufferLimit", BUFFER),
        "circuitBreakers": {"thresholds": [settings.get("breaker", {"maxRetries": 1024})]},
        "loadAssignment": {"clusterName": name, "endpoints": [{"lbEndpoints": [{"endpoint": {"address": address}} for address in endpoints]}]},
    }
    windows = {
        "initialStreamWindowSize": http2.get("initialStreamWindowSize", STREAM_WINDOW),
        "initialConnectionWindowSize": http2.get("initialConnectionWindowSize", CONNECTION_WINDOW),
    }
    if "maxConcurrentStreams" in http2:
        windows["maxConcurrentStreams"] = http2["maxConcurrentStreams"]
    options = None
    if protocol in ("HTTP2", "GRPC"):
        options = {"explicitHttpConfig": {"http2ProtocolOptions": windows}}
    elif tls:
        options = {"autoConfig": {"http2ProtocolOptions": windows}}
    if options:
        made["typedExtensionProtocolOptions"] = {OPTIONS: {"@type": TYPE + OPTIONS, **options}}
    if tls:
        made["transportSocket"] = {
            "name": "envoy.transport_sockets.tls",
            "typedConfig": {"@type": TYPE + "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", **tls},
        }
    return made
