//! The rendered objects, by their fields.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tensorgate_policy::HeaderMode;
use tensorgate_policy::policy::filter_part;

use super::*;
use crate::render::cluster::filter_source::FilterImage;
use crate::render::cluster::test_support::{compiled, image, loaded, policy, workload};

/// The policy of most tests.
fn usual() -> String {
    policy("}] kind: {{ Secret }}")
}

/// The policy with this instead of its listener.
fn listening(listen: &str) -> String {
    usual().replace("listen: {address: 127.0.0.1:8080}", listen)
}

/// The policy with a limit that gateways share.
fn shared() -> String {
    let service =
        "rate_limit_service: {redis: {url: \"rediss://redis.ml.svc:6380/0\", ca: pki/ca.pem}}";
    usual()
        .replace(
            "clients:\n  web-app",
            &format!("{service}\nclients:\n  web-app"),
        )
        .replace("window_s: 60}", "window_s: 60, scope: global}")
}

fn target(policy: &Loaded, patch_policy: bool) -> EnvoyGateway {
    EnvoyGateway {
        workload: workload(policy),
        filter: FilterSource::Image(FilterImage {
            image: image("filter"),
            pull_secret: None,
        }),
        gateway: "models".parse().unwrap(),
        section: Some("https".parse().unwrap()),
        hosts: vec!["models.example".parse().unwrap()],
        gateway_proxies: "proxies".parse().unwrap(),
        gateway_name: "gateway.example".parse().unwrap(),
        host_certificate: "gate-host-tls".parse().unwrap(),
        gateway_certificate: "gate-gateway-tls".parse().unwrap(),
        host_authority: "gate-host-ca".parse().unwrap(),
        patch_policy,
    }
}

/// The objects as JSON.
fn objects(policy: &str, patch_policy: bool) -> Vec<Value> {
    let loaded = loaded(policy);
    let manifests = target(&loaded, patch_policy).render(&loaded).unwrap();
    manifests.objects().map(|object| json!(object)).collect()
}

/// The specification of the only object of this kind.
fn spec<'o>(objects: &'o [Value], kind: &str) -> &'o Value {
    let mut found = objects.iter().filter(|it| it["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "several {kind}");
    &object["spec"]
}

/// Paths of the faults.
fn faults(policy: &str, patch_policy: bool) -> Vec<String> {
    let loaded = loaded(policy);
    match target(&loaded, patch_policy).render(&loaded) {
        Err(Unrenderable::Policy(faults)) => faults.into_iter().map(|fault| fault.path).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_native_module_comes_from_the_image_of_the_host() {
    let loaded = loaded(&usual().replace("payload.sub", "sub"));
    let objects = |filter: &FilterSource| -> Vec<Value> {
        let target = EnvoyGateway {
            filter: filter.clone(),
            ..target(&loaded, true)
        };
        let manifests = target.render(&loaded).unwrap();
        manifests.objects().map(|object| json!(object)).collect()
    };
    let objects = objects(&FilterSource::HostImage);
    let module = &spec(&objects, "EnvoyExtensionPolicy")["dynamicModule"][0];
    assert_eq!(module["filterName"], "gate");
    let compiled = compiled(&module["config"]);
    assert_eq!(compiled.generation, loaded.version.generation);
    assert_eq!(compiled.target.filter().unwrap().policy_id, "ml.gate");
    let proxies = spec(&objects, "EnvoyProxy");
    let file = "/opt/tensorgate/filters/libtensorgate_gate.so";
    let listed = json!([{
        "name": module["name"],
        "source": {"type": "Local", "local": {"path": file}},
        "doNotClose": true,
    }]);
    assert_eq!(proxies["dynamicModules"], listed);
    let deployment = &proxies["provider"]["kubernetes"]["envoyDeployment"];
    let container = &deployment["initContainers"][0];
    assert_eq!(container["image"], image("host").to_string());
    let folder = "/opt/tensorgate/filters";
    assert_eq!(container["args"], json!(["install-filters", folder]));
    let mount = &deployment["container"]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], folder);
    assert_eq!(mount["name"], deployment["pod"]["volumes"][0]["name"]);
    // The key is in the environment of the proxies in either case.
    assert!(
        !deployment["container"]["env"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    let patches = spec(&objects, "EnvoyPatchPolicy").to_string();
    assert!(!patches.contains("FAIL_RELOAD"), "{patches}");
}

#[test]
fn the_filter_stands_before_our_route_and_has_the_policy() {
    let loaded = loaded(&usual());
    let objects = objects(&usual(), false);
    let filter = spec(&objects, "EnvoyExtensionPolicy");
    let route = json!([{
        "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "gate",
    }]);
    assert_eq!(filter["targetRefs"], route);
    let wasm = &filter["wasm"][0];
    assert_eq!(wasm["failOpen"], false);
    assert_eq!(wasm["rootID"], "tensorgate.gate");
    assert_eq!(wasm["env"], json!({"hostKeys": ["TENSORGATE_CONTEXT_KEY"]}));
    let digest = "5e".repeat(32);
    let image = json!({
        "url": format!("oci://r.example:5000/filter@sha256:{digest}"), "sha256": digest,
    });
    assert_eq!(wasm["code"]["image"], image);
    let compiled = compiled(&wasm["config"]);
    assert_eq!(compiled.generation, loaded.version.generation);
    assert_eq!(
        compiled.target.clone().filter().unwrap().headers,
        HeaderMode::Forward
    );
    assert_eq!(
        format!("{:?}", compiled.policy),
        format!("{:?}", filter_part(loaded.version.policy.clone()))
    );
}

#[test]
fn every_path_leads_to_the_host_over_http2_and_mutual_tls() {
    let objects = objects(&usual(), false);
    let route = spec(&objects, "HTTPRoute");
    let parents = json!([{"name": "models", "sectionName": "https"}]);
    assert_eq!(route["parentRefs"], parents);
    assert_eq!(route["hostnames"], json!(["models.example"]));
    let [stream, all] = [0_usize, 1].map(|rule| &route["rules"][rule]);
    let path = "/inference.GRPCInferenceService/ModelStreamInfer";
    let exact = json!([{"path": {"type": "Exact", "value": path}}]);
    assert_eq!(
        (&stream["matches"], &stream["timeouts"]),
        (&exact, &json!({"request": "0s"}))
    );
    let any = json!([{"path": {"type": "PathPrefix", "value": "/"}}]);
    assert_eq!(
        (&all["matches"], &all["timeouts"]),
        (&any, &json!({"request": "5s"}))
    );
    for rule in [stream, all] {
        assert_eq!(rule["backendRefs"], json!([{"name": "gate", "port": 8443}]));
        let source = json!([{
            "name": "x-tensorgate-source", "value": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        }]);
        assert_eq!(rule["filters"][0]["requestHeaderModifier"]["set"], source);
    }
    let ports = spec(&objects, "Service")["ports"].as_array().unwrap();
    let numbers: Vec<_> = ports.iter().map(|port| port["port"].clone()).collect();
    assert_eq!(numbers, [8443, 8444, 8445]);
    assert!(
        ports
            .iter()
            .all(|port| port["appProtocol"] == "kubernetes.io/h2c")
    );
    let tls = spec(&objects, "BackendTLSPolicy");
    assert_eq!(tls["validation"]["hostname"], "gate.ml.svc");
    assert_eq!(tls["targetRefs"][0].get("sectionName"), None, "all ports");
    let proxies = spec(&objects, "EnvoyProxy");
    assert_eq!(
        proxies["backendTLS"]["clientCertificateRef"]["name"],
        "gate-gateway-tls"
    );
    assert_eq!(proxies["backendTLS"]["alpnProtocols"], json!(["h2"]));
    // As long as a request may last.
    let shutdown = json!({"drainTimeout": "1m", "minDrainDuration": "10s"});
    assert_eq!(proxies["shutdown"], shutdown);
    let container = &proxies["provider"]["kubernetes"]["envoyDeployment"]["container"];
    let requests = json!({"requests": {"cpu": "1", "memory": "744Mi"}});
    assert_eq!(
        (&proxies["concurrency"], &container["resources"]),
        (&json!(2), &requests)
    );

    let template = &spec(&objects, "Deployment")["template"];
    let inject = &template["metadata"]["labels"]["sidecar.istio.io/inject"];
    assert_eq!(inject, "false", "the network policy closes what it needs");
    let host = &template["spec"];
    let arguments = host["containers"][0]["args"].as_array().unwrap();
    for expected in [
        "--listen=0.0.0.0:8443",
        "--audit-listen=0.0.0.0:8444",
        "--limits-listen=0.0.0.0:8445",
        "--audit-shared",
        "--tls-client-ca=/etc/tensorgate/tls/ca.crt",
        "--gateway=gateway.example",
        "--drain-s=60",
    ] {
        assert!(
            arguments.contains(&json!(expected)),
            "{expected} in {arguments:?}"
        );
    }
    let volumes = host["volumes"].as_array().unwrap();
    let certificate = volumes.iter().find(|it| it["name"] == "tls").unwrap();
    assert_eq!(certificate["secret"]["secretName"], "gate-host-tls");
    assert_eq!(certificate["secret"]["defaultMode"], 0o440);
}

#[test]
fn only_the_proxies_of_the_gateway_reach_the_host() {
    let objects = objects(&usual(), false);
    let ingress = &spec(&objects, "NetworkPolicy")["ingress"];
    let from = json!([{
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "proxies"}},
        "podSelector": {"matchLabels": {
            "gateway.envoyproxy.io/owning-gateway-name": "models",
            "gateway.envoyproxy.io/owning-gateway-namespace": "ml",
        }},
    }]);
    assert_eq!(ingress.as_array().map(Vec::len), Some(1));
    assert_eq!(ingress[0]["from"], from);
}

#[test]
fn a_callers_address_comes_from_the_connection_or_the_trusted_proxies() {
    let objects_of = |listen: &str| objects(&listening(listen), false);
    let direct = objects_of("listen: {address: 127.0.0.1:8080}");
    let direct = spec(&direct, "ClientTrafficPolicy");
    assert_eq!(direct.get("clientIPDetection"), None);
    assert_eq!(direct["headers"]["requestID"], "Generate");
    assert_eq!(
        direct["headers"]["xForwardedClientCert"],
        json!({"mode": "Sanitize"})
    );
    let behind = objects_of("listen: {address: 127.0.0.1:8080, trusted_hops: 2}");
    let behind = spec(&behind, "ClientTrafficPolicy");
    let hops = json!({"xForwardedFor": {"numTrustedHops": 2}});
    assert_eq!(behind["clientIPDetection"], hops);
    // Envoy keeps a client's ID behind trusted proxies.
    let removed = json!({"remove": ["x-request-id"]});
    assert_eq!(behind["headers"]["earlyRequestHeaders"], removed);
}

#[test]
fn the_limits_of_connections_are_the_policys() {
    let limits = "listen: {limits: {stream_ms: 90000, idle_ms: 30000, connections: 7, streams_per_connection: 9}}";
    let objects = objects(&listening(limits), false);
    let clients = spec(&objects, "ClientTrafficPolicy");
    let connections = json!({"value": 7, "maxStreamDuration": "1m30s"});
    assert_eq!(clients["connection"]["connectionLimit"], connections);
    assert_eq!(clients["http2"]["maxConcurrentStreams"], 9);
    let times = json!({
        "requestReceivedTimeout": "1m30s", "idleTimeout": "30s", "streamIdleTimeout": "10s",
    });
    assert_eq!(clients["timeout"]["http"], times);
    let host = spec(&objects, "BackendTrafficPolicy");
    assert_eq!(host["circuitBreaker"]["maxParallelRequests"], 63);
    assert_eq!(host["circuitBreaker"]["maxParallelRetries"], 0);
    assert_eq!(host.get("retry"), None);
}

#[test]
fn only_a_patch_lets_the_audit_log_have_the_filters_state() {
    let plain = objects(&usual(), false);
    let logs = &spec(&plain, "EnvoyProxy")["telemetry"]["accessLog"]["settings"];
    // An entry without state about a request that the host answered would read as a rejection.
    assert_eq!(
        logs[0]["matches"],
        json!(["response.code_details != 'via_upstream'"])
    );
    assert_eq!(logs[0]["sinks"][0]["als"]["backendRefs"][0]["port"], 8444);
    assert!(
        plain
            .iter()
            .all(|object| object["kind"] != "EnvoyPatchPolicy")
    );

    let patched = objects(&usual(), true);
    let patches = &spec(&patched, "EnvoyPatchPolicy")["jsonPatches"];
    let log = &patches[0];
    assert_eq!(log["name"], "ml/models/https");
    assert_eq!(log["operation"]["op"], "replace");
    let common = &log["operation"]["value"]["typed_config"]["common_config"];
    let cluster = &common["grpc_service"]["envoy_grpc"]["cluster_name"];
    assert_eq!(cluster, "accesslog_als_0_0");
    let states = json!(["wasm.tg_outcome", "wasm.tg_forwarded", "wasm.tg_entry"]);
    assert_eq!(common["filter_state_objects_to_log"], states);
}

#[test]
fn a_patch_adds_the_limits_of_all_gateways_over_mutual_tls() {
    assert_eq!(faults(&shared(), false), ["rate_limit_service.redis"]);
    let objects = objects(&shared(), true);
    let patches = &spec(&objects, "EnvoyPatchPolicy")["jsonPatches"];
    let patches = patches.as_array().unwrap();
    let cluster = patches.iter().find(|it| it["name"] == "tensorgate-limits");
    let cluster = &cluster.unwrap()["operation"]["value"];
    let tls = &cluster["transport_socket"]["typed_config"]["common_tls_context"];
    let own = &tls["tls_certificate_sds_secret_configs"][0]["name"];
    assert_eq!(own, "ml/gate-gateway-tls");
    let newest = &tls["tls_params"]["tls_maximum_protocol_version"];
    assert_eq!(newest, "TLSv1_3");
    let context = &tls["combined_validation_context"];
    assert_eq!(
        context["validation_context_sds_secret_config"]["name"],
        "gate/ml-ca"
    );
    let names = &context["default_validation_context"]["match_typed_subject_alt_names"];
    assert_eq!(names[0]["matcher"]["exact"], "gate.ml.svc");
}

#[test]
fn what_the_gateway_cannot_enforce_is_a_fault_at_its_line() {
    let certified = listening(
        "listen: {address: 127.0.0.1:8080, tls: {cert: pki/a.pem, key: pki/a.key, client_ca: pki/ca.pem}}",
    )
    .replace(
        "clients:\n  web-app",
        "clients:\n  engine: {mtls: {dns: engine.example}}\n  web-app",
    );
    let expected = ["listen.tls", "clients.engine.mtls"];
    assert_eq!(faults(&certified, true), expected);
    let fetched = |more: &str| {
        let issuers = format!(
            "issuers: {{corp: {{issuer: \"https://i.example\", audiences: [a], algorithms: [ES256], max_lifetime_s: 3600, jwks: {{url: \"https://i.example/keys\"{more}}}}}}}\nclients:\n  user: {{jwt: {{issuer: corp, subject: u}}}}\n  web-app"
        );
        usual().replace("clients:\n  web-app", &issuers)
    };
    assert_eq!(faults(&fetched(""), false), ["issuers.corp.jwks.url"]);
    assert_eq!(
        faults(&fetched(", ca: pki/ca.pem"), true),
        ["issuers.corp.jwks.ca"]
    );
    let patched = objects(&fetched(""), true);
    let patches = &spec(&patched, "EnvoyPatchPolicy")["jsonPatches"];
    let mut clusters = patches.as_array().unwrap().iter();
    assert!(clusters.any(|patch| patch["name"] == "tensorgate-jwks-corp"));
    let headers = listening("listen: {limits: {header_bytes: 61KiB, headers: 101}}");
    let expected = ["listen.limits.header_bytes", "listen.limits.headers"];
    assert_eq!(faults(&headers, false), expected);
}

#[test]
fn a_text_of_the_policy_is_only_in_the_compiled_policy() {
    let text = "{{ Secret }}";
    let objects = objects(&usual(), true);
    for object in &objects {
        assert!(!object.to_string().contains(text), "{object}");
    }
    let mut named = objects.iter();
    let map = named.find(|object| object["metadata"]["name"] == "gate-policy");
    let encoded = map.unwrap()["binaryData"]["bundle.bin"].as_str().unwrap();
    let bytes = STANDARD.decode(encoded).unwrap();
    assert!(String::from_utf8_lossy(&bytes).contains(text));
}

#[test]
fn the_notes_name_what_the_user_has_to_change() {
    let near = usual().replace("  web-app:\n", "  web-app:\n    sources: [10.0.0.0/8]\n");
    let loaded = loaded(&near);
    let attach = "'{\"spec\":{\"infrastructure\":{\"parametersRef\":{\"group\":\"gateway.envoyproxy.io\",\"kind\":\"EnvoyProxy\",\"name\":\"gate\"}}}}'";
    let command = target(&loaded, false).attach_command();
    assert!(command.ends_with(attach), "{command}");
    let notes = target(&loaded, false).notes(&loaded.version.policy);
    assert!(
        notes
            .iter()
            .all(|note| note.contains("listen.trusted_hops is 0")),
        "{notes:?}"
    );
    assert_eq!(notes.len(), 1);
    let everywhere = EnvoyGateway {
        section: None,
        ..target(&loaded, false)
    };
    let notes = everywhere.notes(&loaded.version.policy);
    assert!(
        notes.iter().any(|note| note.contains("plain-text")),
        "{notes:?}"
    );
}

#[test]
fn a_gateway_whose_name_is_no_label_is_refused() {
    let loaded = loaded(&usual());
    let part = "a".repeat(31);
    for (name, is_taken) in [
        (format!("{part}.{part}"), true),
        (format!("{part}.b{part}"), false),
    ] {
        let mut target = target(&loaded, false);
        target.gateway = name.parse().unwrap();
        assert_eq!(target.render(&loaded).is_ok(), is_taken, "{name}");
    }
}
