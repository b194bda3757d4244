"""What istiod makes of its resources, as far as rendered manifests need them. It follows these files of
istio/istio at 86c9f01fd735fb01d8192f5bcaf0d424afb7f14c (1.31): pilot/pkg/model/extensions.go,
pilot/pkg/model/push_context.go (which extensions a proxy gets), pilot/pkg/networking/core/
{listener_builder,listener_inbound,gateway,cluster}.go, pilot/pkg/networking/core/extension/
extensionfilter.go, pilot/pkg/networking/core/envoyfilter/{listener,cluster}_patch.go,
pkg/proto/merge/merge.go and pkg/wasm/convert.go (what the agent takes out). Filters of Istio's own
proxy (metadata exchange, alpn, stats) are left out, because Envoy does not have them.
"""

import copy
import json
import re

TYPE = "type.googleapis.com/"
MANAGER_FILTER = "envoy.filters.network.http_connection_manager"
MANAGER = TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
# A TrafficExtension that istiod makes of a WasmPlugin has this after its name.
OF_A_PLUGIN = "~istio-translated-wasmplugin"
PREFIX = "extensions.istio.io/trafficextension/"
# Whether a listener counts as server or client (workloadModeForListenerClass).
MODES = {"GATEWAY": "CLIENT", "SIDECAR_INBOUND": "SERVER"}
POLICIES = {"FAIL_CLOSE": "FAIL_CLOSED", "FAIL_OPEN": "FAIL_OPEN", "FAIL_RELOAD": "FAIL_RELOAD"}
# Messages with a false or 0 of their own: merging sets these fields. Merging a plain false does nothing.
WRAPPERS = {
    "useRemoteAddress", "generateRequestId", "normalizePath", "perConnectionBufferLimitBytes", "maxRequestHeadersKb",
    "initialStreamWindowSize", "initialConnectionWindowSize", "maxConcurrentStreams", "maxHeadersCount", "numRetries",
    "bufferSizeBytes", "requireClientCertificate",
}
# Fields whose members' names are data.
MAPS = {"typedPerFilterConfig", "typedExtensionProtocolOptions", "filterMetadata", "keyValues", "customTags"}


def extension(document):
    """A WasmPlugin as the TrafficExtension that istiod makes of it, or a TrafficExtension itself."""
    spec = document["spec"]
    if document["kind"] == "TrafficExtension":
        return spec
    outside = {name: spec[name] for name in ("selector", "targetRefs", "phase", "priority", "match") if name in spec}
    if "targetRef" in spec:
        outside["targetRefs"] = [spec["targetRef"]]
    wasm = {name: value for name, value in spec.items() if name not in outside and name != "targetRef"}
    return {**outside, "wasm": wasm}


def matches(spec, context, port):
    """Whether an extension gets into a listener (matchTrafficSelectorCommon)."""
    selectors = spec.get("match") or [{}]
    return any(
        one.get("mode", "UNDEFINED") in ("UNDEFINED", "CLIENT_AND_SERVER", MODES[context])
        and (not one.get("ports") or any(each["number"] == port for each in one["ports"]))
        for one in selectors
    )


def wasm_config(document):
    """The typed extension configuration that a proxy gets by ECDS, after its agent has fetched the code
    and taken out its own variables. The code is named by its URL.
    """
    spec, metadata = extension(document)["wasm"], document["metadata"]
    full = f"{metadata['namespace']}.{metadata['name']}{OF_A_PLUGIN if document['kind'] == 'WasmPlugin' else ''}"
    environment = {"keyValues": {}, "hostEnvKeys": []}
    for entry in (spec.get("vmConfig") or {}).get("env", []):
        if entry.get("valueFrom", "INLINE") == "HOST":
            environment["hostEnvKeys"].append(entry["name"])
        else:
            environment["keyValues"][entry["name"]] = entry.get("value", "")
    config = {
        "name": full,
        "rootId": spec.get("pluginName", ""),
        "vmConfig": {
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": spec["url"]}},
            "environmentVariables": {name: value for name, value in environment.items() if value},
        },
        "failurePolicy": POLICIES[spec.get("failStrategy", "FAIL_CLOSE")],
    }
    if spec.get("pluginConfig"):
        config["configuration"] = {"@type": TYPE + "google.protobuf.StringValue", "value": json.dumps(struct(spec["pluginConfig"]), sort_keys=True)}
    return {"name": PREFIX + full, "typedConfig": {"@type": TYPE + "envoy.extensions.filters.http.wasm.v3.Wasm", "config": config}}


def struct(value):
    """A value as it comes out of a protobuf Struct: all numbers are doubles."""
    if isinstance(value, dict):
        return {name: struct(member) for name, member in value.items()}
    if isinstance(value, list):
        return [struct(item) for item in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        double = float(value)
        return int(double) if double.is_integer() and abs(double) < 1e21 else double
    return value


def filters(documents, context, port, authorization):
    """listener_builder.go, buildHTTPConnectionManager: the HTTP filters in their order."""
    phases = {}
    for document in documents:
        spec = extension(document)
        if matches(spec, context, port):
            phases.setdefault(spec.get("phase", "UNSPECIFIED").replace("UNSPECIFIED_PHASE", "UNSPECIFIED"), []).append(document)
    for found in phases.values():
        found.sort(key=lambda document: -extension(document).get("priority", -(2**31)))
    made = {phase: [wasm_config(document) for document in found] for phase, found in phases.items()}
    return [
        *made.get("AUTHN", []),
        *made.get("AUTHZ", []),
        *authorization,
        *made.get("STATS", []),
        *made.get("UNSPECIFIED", []),
        _plain("envoy.filters.http.fault", "envoy.extensions.filters.http.fault.v3.HTTPFault"),
        _plain("envoy.filters.http.cors", "envoy.extensions.filters.http.cors.v3.Cors"),
        _plain("envoy.filters.http.router", "envoy.extensions.filters.http.router.v3.Router"),
    ]


def _plain(name, kind):
    return {"name": name, "typedConfig": {"@type": TYPE + kind}}


def manager(context, stat_prefix, made_filters, route_config):
    """The connection manager of a sidecar's inbound listener or of a gateway, with a mesh's defaults."""
    gateway = context == "GATEWAY"
    return {
        "@type": MANAGER,
        "codecType": "AUTO",
        "statPrefix": stat_prefix,
        "pathWithEscapedSlashesAction": "KEEP_UNCHANGED",
        "normalizePath": True,
        "useRemoteAddress": gateway,
        "forwardClientCertDetails": "SANITIZE_SET" if gateway else "APPEND_FORWARD",
        "setCurrentClientCertDetails": {"subject": True, "uri": True, "dns": True} | ({"cert": True} if gateway else {}),
        "upgradeConfigs": [{"upgradeType": "websocket"}],
        "streamIdleTimeout": "0s",
        "serverName": "istio-envoy",
        "accessLog": [],
        "routeConfig": route_config,
        "httpFilters": made_filters,
    }


def authorization(documents, port_of):
    """pilot/pkg/security/authz: an RBAC filter of ALLOW policies. Rules name principals and ports only;
    anything else raises, so that no rule is lost. `port_of` turns a port into the one that is bound.
    """
    policies = {}
    for document in documents:
        spec, metadata = document["spec"], document["metadata"]
        if spec.get("action", "ALLOW") != "ALLOW":
            raise ValueError(f"AuthorizationPolicy {metadata['name']}: only ALLOW is translated here")
        name = f"ns[{metadata['namespace']}]-policy[{metadata['name']}]-rule"
        for number, rule in enumerate(spec.get("rules", [])):
            policies[f"{name}[{number}]"] = {
                "permissions": _any(rule.get("to"), "operation", {"ports": lambda port: {"destinationPort": port_of(int(port))}}),
                "principals": _any(rule.get("from"), "source", {"principals": _principal}),
            }
            if rule.keys() - {"from", "to"}:
                raise ValueError(f"AuthorizationPolicy {metadata['name']}: a rule with {sorted(rule)} is not translated here")
    if not documents:
        return []
    rules = {"action": "ALLOW", "policies": policies}
    return [{"name": "envoy.filters.http.rbac", "typedConfig": {"@type": TYPE + "envoy.extensions.filters.http.rbac.v3.RBAC", "rules": rules}}]


def _any(entries, member, known):
    if not entries:
        return [{"any": True}]
    found = []
    for entry in entries:
        every = []
        for name, values in entry[member].items():
            if name not in known:
                raise ValueError(f"{member}.{name} of an AuthorizationPolicy is not translated here")
            ids = [known[name](value) for value in values]
            every.append({"orRules" if member == "operation" else "orIds": {"rules" if member == "operation" else "ids": ids}})
        found.append({"andRules": {"rules": every}} if member == "operation" else {"andIds": {"ids": every}})
    return found


def _principal(name):
    if name == "*":
        matcher = {"safeRegex": {"regex": ".+"}}
    elif "*" in name:
        matcher = {"safeRegex": {"regex": "spiffe://" + ".*".join(re.escape(part) for part in name.split("*"))}}
    else:
        matcher = {"exact": f"spiffe://{name}"}
    return {"authenticated": {"principalName": matcher}}


def camel(value):
    """Names of fields as protobuf's JSON writes them; patches may have them with underscores."""
    if isinstance(value, list):
        return [camel(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {}
    for name, member in value.items():
        short = name if name.startswith("@") else re.sub(r"_([a-z0-9])", lambda found: found.group(1).upper(), name)
        made[short] = {key: camel(inner) for key, inner in member.items()} if short in MAPS and isinstance(member, dict) else camel(member)
    return made


def merge(into, value):
    """merge.go: lists are appended, messages merged, and a field at its default is no field."""
    for name, member in value.items():
        if name == "@type" and into.get(name, member) != member:
            raise ValueError(f"a patch for {member} cannot be merged into {into[name]}")
        if isinstance(member, dict) and isinstance(into.get(name), dict):
            merge(into[name], member)
        elif isinstance(member, list):
            into[name] = into.get(name, []) + copy.deepcopy(member)
        elif member in (False, 0, "") and name not in WRAPPERS:
            continue
        else:
            into[name] = copy.deepcopy(member)


def patched(documents, context, listeners, clusters):
    """Applies EnvoyFilters to listeners and clusters, which it changes. A patch that changes nothing is
    an error, because istiod would ignore it.
    """
    ordered = sorted(documents, key=lambda document: document["spec"].get("priority", 0))
    for document in ordered:
        for number, entry in enumerate(document["spec"]["configPatches"]):
            match, patch = entry.get("match") or {}, entry["patch"]
            if match.get("context", "ANY") not in ("ANY", context):
                continue
            value = camel(patch.get("value", {}))
            applied = _apply(entry["applyTo"], patch["operation"], match, value, listeners, clusters)
            if not applied:
                raise ValueError(f"EnvoyFilter {document['metadata']['name']}: patch {number} ({entry['applyTo']} {patch['operation']}) applies to nothing")


def _apply(target, operation, match, value, listeners, clusters):
    if target == "CLUSTER":
        if operation == "ADD":
            clusters.append(value)
            return True
        wanted = [one for one in clusters if match.get("cluster", {}).get("name", one["name"]) == one["name"]]
        if operation != "MERGE":
            raise ValueError(f"{operation} of a CLUSTER is not translated here")
        for one in wanted:
            merge(one, value)
        return bool(wanted)
    if target == "ROUTE_CONFIGURATION":
        return _apply_to_routes(operation, match.get("routeConfiguration") or {}, value, listeners)
    on = match.get("listener") or {}
    applied = False
    for listener in listeners:
        if on.get("portNumber") not in (None, listener["metadataPort"]) or on.get("name") not in (None, listener["name"]):
            continue
        if target == "LISTENER":
            if operation != "MERGE":
                raise ValueError(f"{operation} of a LISTENER is not translated here")
            merge(listener, value)
            applied = True
            continue
        chain_match = on.get("filterChain") or {}
        if chain_match.keys() - {"filter", "sni"}:
            raise ValueError(f"a match by {sorted(chain_match)} is not translated here")
        for chain in listener["filterChains"]:
            names = chain.get("filterChainMatch", {}).get("serverNames", [])
            if "sni" in chain_match and chain_match["sni"] not in names:
                continue
            applied |= _apply_to_chain(target, operation, chain_match.get("filter") or {}, value, chain)
    return applied


def _apply_to_routes(operation, on, value, listeners):
    if operation != "MERGE" or on.keys() - {"portNumber"}:
        raise ValueError("only MERGE of the ROUTE_CONFIGURATION of a port is translated here")
    wanted = [one for one in listeners if on.get("portNumber") in (None, one["metadataPort"])]
    for listener in wanted:
        for manager in managers(listener):
            merge(manager["routeConfig"], value)
    return bool(wanted)


def managers(listener):
    """The connection managers of a listener, each once: chains may share one."""
    found = [one["typedConfig"] for chain in listener["filterChains"] for one in chain["filters"] if one["name"] == MANAGER_FILTER]
    return list({id(one): one for one in found}.values())


def _apply_to_chain(target, operation, wanted, value, chain):
    if target == "NETWORK_FILTER":
        if operation != "MERGE":
            return _insert(chain["filters"], operation, wanted.get("name"), value)
        found = [one for one in chain["filters"] if wanted.get("name", one["name"]) == one["name"]]
        for one in found:
            merge(one, value)
        return bool(found)
    if target != "HTTP_FILTER":
        raise ValueError(f"patches of {target} are not translated here")
    applied = False
    for one in chain["filters"]:
        if one["name"] != MANAGER_FILTER or wanted.get("name", MANAGER_FILTER) != MANAGER_FILTER:
            continue
        inner, name = one["typedConfig"]["httpFilters"], (wanted.get("subFilter") or {}).get("name")
        if operation == "MERGE":
            found = [each for each in inner if name in (None, each["name"])]
            for each in found:
                merge(each, value)
            applied |= bool(found)
        else:
            applied |= _insert(inner, operation, name, value)
    return applied


def _insert(entries, operation, name, value):
    value = copy.deepcopy(value)
    places = [number for number, one in enumerate(entries) if one["name"] == name]
    if operation == "ADD" or operation == "INSERT_AFTER" and name is None:
        entries.append(value)
    elif operation == "INSERT_FIRST" or operation == "INSERT_BEFORE" and name is None:
        entries.insert(0, value)
    elif not places:
        return False
    elif operation == "INSERT_BEFORE":
        entries.insert(places[0], value)
    elif operation == "INSERT_AFTER":
        entries.insert(places[0] + 1, value)
    elif operation == "REPLACE":
        entries[places[0]] = value
    elif operation == "REMOVE":
        del entries[places[0]]
    else:
        raise ValueError(f"the operation {operation} is not translated here")
    return True
