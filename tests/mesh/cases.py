"""What the translation must keep, where a mistake would show in no other check."""

import examples
import istio
import manifests
import of_istio
import yaml


def _count(name, cases):
    for case, right in cases.items():
        if not right:
            print(f"wrong: {name}: {case}")
    wrong = list(cases.values()).count(False)
    print(f"{name}: {len(cases)} cases, {wrong} wrong")
    return wrong


def istio_cases():
    """Where Istio's translation has traps. Returns how many of them are wrong."""
    plugin = {"match": [{"mode": "SERVER", "ports": [{"number": 8443}]}]}
    merged = {"a": [1], "b": {"c": 1}, "streamIdleTimeout": "0s"}
    istio.merge(merged, {"a": [2], "b": {"d": 2}, "plain": False, "useRemoteAddress": False})
    closed = {"spec": {"selector": {"matchLabels": {"app": "triton"}}}}
    refused = False
    try:
        istio.patched([examples.filter_of_nothing()], "GATEWAY", [], [])
    except ValueError:
        refused = True
    cases = {
        "a sidecar is a server": istio.matches(plugin, "SIDECAR_INBOUND", 8443),
        "another port does not match": not istio.matches(plugin, "SIDECAR_INBOUND", 9000),
        "a gateway is no server": not istio.matches(plugin, "GATEWAY", 8443),
        "lists are appended, a plain false is nothing": merged == {"a": [1, 2], "b": {"c": 1, "d": 2}, "streamIdleTimeout": "0s", "useRemoteAddress": False},
        "names in maps stay": istio.camel({"typed_per_filter_config": {"a_b": {"c_d": 1}}}) == {"typedPerFilterConfig": {"a_b": {"cD": 1}}},
        "numbers become doubles": istio.struct({"n": 2**53 + 1}) == {"n": 2**53},
        "a patch that applies to nothing is an error": refused,
        "a policy of other pods is not the gate's": not of_istio.selects(closed, {"app": "gate"}) and of_istio.selects(closed, {"app": "triton", "v": "1"}),
        "a policy without a selector is for all pods": of_istio.selects({"spec": {}}, {"app": "gate"}),
    }
    return _count("istio", cases)


def yaml_cases():
    """What a YAML file may not leave open. Returns how many cases are wrong."""
    twice = False
    try:
        list(manifests.documents("spec: {a: 1}\nspec: {a: 2}\n"))
    except yaml.YAMLError:
        twice = True
    listed = list(manifests.documents("kind: List\nitems: [{kind: A}, {kind: B}]\n---\nkind: C\n---\n"))
    return _count("yaml", {
        "a key that is given twice is an error": twice,
        "objects in a List are objects": [one["kind"] for one in listed] == ["A", "B", "C"],
    })


def gateway_cases(made):
    """The examples as Envoy Gateway makes them. Returns how many cases are wrong."""
    (listener,) = made["staticResources"]["listeners"]
    clusters = {one["name"]: one for one in made["staticResources"]["clusters"]}
    (manager,) = examples.managers(made)
    backend, log = clusters["httproute/tensorgate/models/rule/0"], clusters["accesslog_als_0_0"]
    (hosts,) = manager["routeConfig"]["virtualHosts"]
    policies = "envoyextensionpolicy/tensorgate/tensorgate/wasm/0"
    common = backend["transportSocket"]["typedConfig"]["commonTlsContext"]
    names = [(one["sanType"], one["matcher"]["exact"]) for one in common["validationContext"]["matchTypedSubjectAltNames"]]
    (options,) = backend["typedExtensionProtocolOptions"].values()
    return _count("gateway", {
        "appProtocol makes a backend HTTP/2": "http2ProtocolOptions" in options["explicitHttpConfig"],
        "a backend has a client certificate": len(common["tlsCertificates"]) == 1,
        "a backend's names are checked": names == [("DNS", "tensorgate.tensorgate.svc"), ("URI", "spiffe://cluster.local/ns/tensorgate/sa/tensorgate")],
        "a backend gets ALPN": common["alpnProtocols"] == ["h2"],
        "the access log has TLS too": log["transportSocket"]["typedConfig"]["sni"] == "tensorgate.tensorgate.svc",
        "the buffer's limit": listener["perConnectionBufferLimitBytes"] == 2**20,
        "the streams' window": manager["http2ProtocolOptions"]["initialStreamWindowSize"] == 2**20,
        "timeouts": (manager["requestTimeout"], manager["streamIdleTimeout"]) == ("30s", "30s"),
        "a certificate's header is removed": "forwardClientCertDetails" not in manager,
        "request ids are made here": (manager["generateRequestId"], manager.get("preserveExternalRequestId")) == (True, None),
        "the log names no filter state": "filterStateObjectsToLog" not in manager["accessLog"][0]["typedConfig"]["commonConfig"],
        "every route enables the filter": all(f"envoy.filters.http.wasm/{policies}" in one["typedPerFilterConfig"] for one in hosts["routes"]),
        "the longest match is first": "safeRegex" in hosts["routes"][0]["match"],
        "grpc-web comes after the filter": [one["name"] for one in manager["httpFilters"]].index("envoy.filters.http.grpc_web") == 1,
    })
