//! The rendered objects of both modes, by their fields.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use serde_json::{Value, json};
use tensorgate_policy::HeaderMode;

use super::*;
use crate::render::cluster::filter_source::FilterImage;
use crate::render::cluster::pod_ports::{PodPort, PodPorts};
use crate::render::cluster::test_support::{compiled, image, loaded, policy, workload};

/// The policy of most tests.
fn usual() -> String {
    policy("svc-web")
}

/// A client with what only a listener with certificates of its own can check.
const OTHER_CLIENT: &str = "clients:
  certified: {mtls: {spiffe: \"spiffe://cluster.local/ns/web/sa/app\"}}
  near: {sources: [10.0.0.0/8], metadata: {filter: f, claim: sub, value: near}}";

fn istio(policy: &Loaded, entry: Entry) -> Istio {
    Istio {
        workload: workload(policy),
        filter: FilterSource::Image(FilterImage {
            image: image("filter"),
            pull_secret: None,
        }),
        release: Release::default(),
        trust_domain: "mesh.example".parse().unwrap(),
        control_plane: "istio-system".parse().unwrap(),
        entry,
    }
}

fn gateway() -> Entry {
    Entry::Gateway(IngressGateway {
        namespace: "ingress".parse().unwrap(),
        name: "models".parse().unwrap(),
        pods: vec!["istio=ingressgateway".parse().unwrap()],
        account: "ingress-account".parse().unwrap(),
        hosts: vec!["models.example".parse().unwrap()],
    })
}

fn sidecar() -> Entry {
    Entry::Sidecar(Vec::new())
}

/// The objects as JSON.
fn objects(policy: &str, entry: Entry) -> Vec<Value> {
    let loaded = loaded(policy);
    let manifests = istio(&loaded, entry).render(&loaded).unwrap();
    manifests.objects().map(|object| json!(object)).collect()
}

/// The only object of this kind in this namespace.
fn object<'o>(objects: &'o [Value], kind: &str, namespace: &str) -> &'o Value {
    let mut found = objects
        .iter()
        .filter(|it| it["kind"] == kind && it["metadata"]["namespace"] == namespace);
    let object = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "several {kind}");
    object
}

/// The settings that a patch of this kind merges or adds.
fn patches<'o>(filter: &'o Value, apply_to: &str) -> Vec<&'o Value> {
    let patches = filter["spec"]["configPatches"].as_array().unwrap();
    let patches = patches.iter().filter(|it| it["applyTo"] == apply_to);
    patches.map(|it| &it["patch"]["value"]).collect()
}

#[test]
fn a_sidecar_has_the_filter_at_the_port_of_requests_alone() {
    let objects = objects(&usual(), sidecar());
    let filter = object(&objects, "TrafficExtension", "ml");
    let expected = json!([{"mode": "SERVER", "ports": [{"number": 8080}]}]);
    assert_eq!(filter["spec"]["match"], expected);
    let wasm = &filter["spec"]["wasm"];
    assert_eq!(wasm["failStrategy"], "FAIL_RELOAD");
    let digest = "5e".repeat(32);
    assert_eq!(wasm["sha256"], digest.as_str());
    let url = format!("oci://r.example:5000/filter@sha256:{digest}");
    assert_eq!(wasm["url"], url.as_str());
    let env = json!([{"name": "TENSORGATE_CONTEXT_KEY", "valueFrom": "HOST"}]);
    assert_eq!(wasm["vmConfig"]["env"], env);
    let compiled = compiled(&wasm["pluginConfig"]);
    assert!(compiled.policy.model_id("scores").is_some());
    assert_eq!(
        compiled.target.clone().filter().unwrap().headers,
        HeaderMode::Forward
    );
    assert_eq!(compiled.target.filter().unwrap().policy_id, "ml.gate");

    let sidecar = object(&objects, "Sidecar", "ml");
    let expected = json!([{
        "port": {"number": 8080, "protocol": "HTTP2", "name": "http2-gate"},
        "defaultEndpoint": "unix:///run/tensorgate/host.sock",
    }]);
    assert_eq!(sidecar["spec"]["ingress"], expected);
    assert_eq!(sidecar["spec"].get("egress"), None);
    let service = object(&objects, "Service", "ml");
    let port = &service["spec"]["ports"][0];
    assert_eq!(
        (&port["port"], &port["appProtocol"]),
        (&json!(8080), &json!("kubernetes.io/h2c"))
    );
}

#[test]
fn the_native_module_is_in_the_pod_before_its_sidecar_starts() {
    let loaded = loaded(&usual().replace("payload.sub", "sub"));
    let native = |entry| Istio {
        filter: FilterSource::HostImage,
        ..istio(&loaded, entry)
    };
    for (entry, namespace) in [(sidecar(), "ml"), (gateway(), "ingress")] {
        let target = native(entry);
        let manifests = target.render(&loaded).unwrap();
        let objects: Vec<Value> = manifests.objects().map(|it| json!(it)).collect();
        let loading = ["WasmPlugin", "TrafficExtension"];
        let is_loading = |it: &&Value| loading.iter().any(|kind| it["kind"] == *kind);
        assert_eq!(objects.iter().find(is_loading), None);
        let patch = object(&objects, "EnvoyFilter", namespace);
        let filters = patches(patch, "HTTP_FILTER");
        let [filter] = filters.as_slice() else {
            panic!("{filters:?}");
        };
        let config = &filter["typed_config"];
        let path = &config["dynamic_module_config"]["module"]["local"]["filename"];
        assert_eq!(path, "/opt/tensorgate/filters/libtensorgate_gate.so");
        let text = config["filter_config"]["value"].as_str().unwrap();
        let compiled = compiled(&serde_json::from_str(text).unwrap());
        assert!(compiled.policy.model_id("scores").is_some());
    }

    let manifests = native(sidecar()).render(&loaded).unwrap();
    let objects: Vec<Value> = manifests.objects().map(|it| json!(it)).collect();
    let pod = &object(&objects, "Deployment", "ml")["spec"]["template"];
    let annotation = &pod["metadata"]["annotations"]["sidecar.istio.io/nativeSidecar"];
    assert_eq!(annotation, "false");
    let first = &pod["spec"]["initContainers"][0];
    assert_eq!(
        first["args"],
        json!(["install-filters", "/opt/tensorgate/filters"])
    );
    let containers = pod["spec"]["containers"].as_array().unwrap();
    let named = |name: &str| containers.iter().find(|it| it["name"] == name).unwrap();
    let mounts = named("istio-proxy")["volumeMounts"].as_array().unwrap();
    let mounts: Vec<_> = mounts.iter().map(|it| &it["mountPath"]).collect();
    assert!(
        mounts.contains(&&json!("/opt/tensorgate/filters")),
        "{mounts:?}"
    );
}

#[test]
fn what_the_native_module_cannot_do_is_a_fault_at_its_line() {
    let loaded = loaded(&usual());
    let target = Istio {
        filter: FilterSource::HostImage,
        ..istio(&loaded, sidecar())
    };
    let Err(Unrenderable::Policy(faults)) = target.render(&loaded) else {
        panic!("a claim below the top level is rendered");
    };
    let paths: Vec<_> = faults.into_iter().map(|fault| fault.path).collect();
    assert_eq!(paths, ["clients.web-app.metadata.claim"]);
}

#[test]
fn exactly_one_kind_of_object_loads_the_filter() {
    let loaded = loaded(&usual());
    for (release, expected) in [
        (Release::V1_29, "WasmPlugin"),
        (Release::V1_30, "TrafficExtension"),
        (Release::V1_31, "TrafficExtension"),
    ] {
        for entry in [sidecar(), gateway()] {
            let target = Istio {
                release,
                ..istio(&loaded, entry)
            };
            let manifests = target.render(&loaded).unwrap();
            let kinds = manifests.objects().map(|it| json!(it)["kind"].clone());
            let loading = ["WasmPlugin", "TrafficExtension"];
            let kinds: Vec<_> = kinds
                .filter(|it| loading.iter().any(|kind| it == kind))
                .collect();
            assert_eq!(kinds, [expected]);
        }
    }
    let target = Istio {
        release: Release::V1_29,
        ..istio(&loaded, sidecar())
    };
    let manifests = target.render(&loaded).unwrap();
    let objects: Vec<_> = manifests.objects().map(|it| json!(it)).collect();
    let spec = &object(&objects, "WasmPlugin", "ml")["spec"];
    assert_eq!(spec["pluginName"], "tensorgate.gate");
    let compiled = compiled(&spec["pluginConfig"]);
    assert_eq!(compiled.generation, loaded.version.generation);
}

#[test]
fn the_injected_sidecar_gets_the_key_and_the_sockets() {
    let objects = objects(&usual(), sidecar());
    let template = &object(&objects, "Deployment", "ml")["spec"]["template"];
    let injected = &template["metadata"]["labels"]["sidecar.istio.io/inject"];
    assert_eq!(injected, "true");
    let containers = template["spec"]["containers"].as_array().unwrap();
    let [host, proxy] = containers.as_slice() else {
        panic!("{containers:#?}")
    };
    let arguments = host["args"].as_array().unwrap();
    for argument in ["--socket=/run/tensorgate/host.sock", "--peer-uid=1337"] {
        assert!(arguments.iter().any(|it| it == argument), "{arguments:?}");
    }
    assert_eq!(
        (&proxy["name"], &proxy["image"]),
        (&json!("istio-proxy"), &json!("auto"))
    );
    let key = json!({"name": "gate-context", "key": "context.key"});
    assert_eq!(proxy["env"][0]["name"], "TENSORGATE_CONTEXT_KEY");
    assert_eq!(proxy["env"][0]["valueFrom"]["secretKeyRef"], key);
    let run = json!([{"name": "run", "mountPath": "/run/tensorgate"}]);
    assert_eq!(proxy["volumeMounts"], run);
    let config = template["metadata"]["annotations"]["proxy.istio.io/config"].as_str();
    let config: Value = serde_json::from_str(config.unwrap()).unwrap();
    let memory = &proxy["resources"]["limits"]["memory"];
    assert_eq!(
        (&config["concurrency"], memory),
        (&json!(2), &json!("1064Mi"))
    );
    // Else the sidecar has the template's limit of two processors.
    let annotations = &template["metadata"]["annotations"];
    assert_eq!(annotations["sidecar.istio.io/proxyCPU"], "1");
    // Istio's template has a `preStop` of its own, and Kubernetes rejects two.
    assert_eq!(proxy.get("lifecycle"), None);
}

#[test]
fn the_host_outlives_the_drain_of_its_sidecar() {
    for entry in [sidecar(), gateway()] {
        let objects = objects(&usual(), entry);
        let template = &object(&objects, "Deployment", "ml")["spec"]["template"];
        let config = &template["metadata"]["annotations"]["proxy.istio.io/config"];
        let config: Value = serde_json::from_str(config.as_str().unwrap()).unwrap();
        // `stream_ms` is a minute, and ten seconds are for the endpoint.
        assert_eq!(config["terminationDrainDuration"], "70s");
        let host = &template["spec"]["containers"][0];
        assert_eq!(host["lifecycle"]["preStop"]["sleep"]["seconds"], 75);
        assert_eq!(template["spec"]["terminationGracePeriodSeconds"], 90);
    }
}

#[test]
fn what_istio_cannot_express_is_in_an_envoy_filter() {
    let objects = objects(&usual(), sidecar());
    let filter = object(&objects, "EnvoyFilter", "ml");
    let clusters = patches(filter, "CLUSTER");
    let names: Vec<_> = clusters.iter().map(|it| &it["name"]).collect();
    assert_eq!(names, ["tensorgate-audit", "tensorgate-limits"]);
    let endpoint = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/pipe/path";
    assert_eq!(
        clusters[0].pointer(endpoint),
        Some(&json!("/run/tensorgate/audit.sock"))
    );
    let managers = patches(filter, "NETWORK_FILTER");
    let [manager] = managers.as_slice() else {
        panic!("{managers:?}")
    };
    let manager = &manager["typed_config"];
    assert_eq!(manager["max_request_headers_kb"], 32);
    assert_eq!(
        manager["common_http_protocol_options"]["max_headers_count"],
        136
    );
    assert_eq!(manager["stream_idle_timeout"], "10s");
    assert!(manager["local_reply_config"]["mappers"].is_array());
    let log = &manager["access_log"][0]["typed_config"]["common_config"];
    assert_eq!(
        log["grpc_service"]["envoy_grpc"]["cluster_name"],
        "tensorgate-audit"
    );
    assert_eq!(log["filter_state_objects_to_log"][0], "wasm.tg_outcome");
    // The header that tells the host the source is the connection's, not the client's word.
    let routes = patches(filter, "ROUTE_CONFIGURATION");
    let added = &routes[0]["request_headers_to_add"][0];
    assert_eq!(added["header"]["key"], "x-tensorgate-source");
    assert_eq!(
        added["header"]["value"],
        "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"
    );
    assert_eq!(added["append_action"], "OVERWRITE_IF_EXISTS_OR_ADD");
}

#[test]
fn only_verified_identities_reach_the_pods() {
    let client = Entry::Sidecar(vec!["web/frontend".parse().unwrap()]);
    for (entry, principal, ports) in [
        (sidecar(), "*", json!(["8080"])),
        (client, "mesh.example/ns/web/sa/frontend", json!(["8080"])),
        (
            gateway(),
            "mesh.example/ns/ingress/sa/ingress-account",
            json!(["8443", "8444", "8445"]),
        ),
    ] {
        let objects = objects(&usual(), entry);
        let mtls = &object(&objects, "PeerAuthentication", "ml")["spec"]["mtls"];
        assert_eq!(mtls["mode"], "STRICT");
        let spec = &object(&objects, "AuthorizationPolicy", "ml")["spec"];
        assert_eq!(spec["action"], "ALLOW");
        let expected = json!([{
            "from": [{"source": {"principals": [principal]}}],
            "to": [{"operation": {"ports": ports}}],
        }]);
        assert_eq!(spec["rules"], expected);
    }
}

#[test]
fn only_the_identity_of_the_host_reaches_the_model_servers() {
    let loaded = loaded(&usual());
    let mapped = ["8001=9001".parse::<PodPort>().unwrap()];
    for entry in [sidecar(), gateway()] {
        let mut target = istio(&loaded, entry);
        target.workload.model_servers = vec!["app=triton".parse().unwrap()];
        target.workload.model_namespace = "models".parse().unwrap();
        target.workload.pod_ports = PodPorts::of(&loaded.version.policy, &mapped, &[]).unwrap();
        let manifests = target.render(&loaded).unwrap();
        let objects: Vec<_> = manifests.objects().map(|it| json!(it)).collect();
        let closed = object(&objects, "AuthorizationPolicy", "models");
        assert_eq!(closed["metadata"]["name"], "ml.gate-model-servers");
        let principal = "mesh.example/ns/ml/sa/gate";
        let expected = json!({
            "selector": {"matchLabels": {"app": "triton"}},
            "action": "ALLOW",
            "rules": [{
                "from": [{"source": {"principals": [principal]}}],
                "to": [{"operation": {"ports": ["9001"]}}],
            }],
        });
        assert_eq!(closed["spec"], expected);
        // The same pods and ports as in the network policy, and what the host itself may reach.
        let network = object(&objects, "NetworkPolicy", "models");
        assert_eq!(network["spec"]["podSelector"], expected["selector"]);
        let ports = json!([{"protocol": "TCP", "port": 9001}]);
        assert_eq!(network["spec"]["ingress"][0]["ports"], ports);
        let own = &object(&objects, "NetworkPolicy", "ml")["spec"]["egress"];
        assert_eq!(own[1]["ports"], ports);
    }
    // Without labels of the servers only the gate's own pods have a policy.
    object(&objects(&usual(), sidecar()), "AuthorizationPolicy", "ml");
}

#[test]
fn the_network_policy_lets_the_sidecar_reach_istiod_and_the_registry() {
    let objects = objects(&usual(), sidecar());
    let spec = &object(&objects, "NetworkPolicy", "ml")["spec"];
    let egress = spec["egress"].as_array().unwrap();
    let port = |number: u16| json!([{"protocol": "TCP", "port": number}]);
    let namespace = json!({"matchLabels": {"kubernetes.io/metadata.name": "istio-system"}});
    let istiod = json!({"to": [{"namespaceSelector": namespace}], "ports": port(15_012)});
    assert!(egress.contains(&istiod), "{egress:#?}");
    assert!(
        egress.contains(&json!({"ports": port(5_000)})),
        "{egress:#?}"
    );
    assert_eq!(spec["ingress"], json!([{"ports": port(8_080)}]));
}

#[test]
fn a_gateway_has_the_filter_at_all_of_its_listeners() {
    let objects = objects(&usual(), gateway());
    let filter = object(&objects, "TrafficExtension", "ingress");
    let spec = &filter["spec"];
    // `SERVER` would match no listener of a gateway.
    assert_eq!(spec["match"], json!([{"mode": "CLIENT"}]));
    let labels = json!({"matchLabels": {"istio": "ingressgateway"}});
    assert_eq!(spec["selector"], labels);
    assert_eq!(filter["metadata"]["name"], "ml.gate");

    let patched = object(&objects, "EnvoyFilter", "ingress");
    let managers = patches(patched, "NETWORK_FILTER");
    let log = &managers[0]["typed_config"]["access_log"][0]["typed_config"]["common_config"];
    assert_eq!(
        log["grpc_service"]["envoy_grpc"]["cluster_name"],
        "outbound|8444||gate.ml.svc.cluster.local"
    );
    assert_eq!(
        log["grpc_service"]["envoy_grpc"]["authority"],
        "gate.ml.svc.cluster.local"
    );
    let clusters = patches(patched, "CLUSTER");
    let limits = clusters[0];
    assert_eq!(limits["name"], "tensorgate-limits");
    let names = "/transport_socket/typed_config/common_tls_context/combined_validation_context\
                 /default_validation_context/match_typed_subject_alt_names";
    let expected = json!([{
        "san_type": "URI",
        "matcher": {"exact": "spiffe://mesh.example/ns/ml/sa/gate"},
    }]);
    assert_eq!(limits.pointer(names), Some(&expected));

    let http = &object(&objects, "VirtualService", "ml")["spec"]["http"];
    assert_eq!(http[0]["retries"], json!({"attempts": 0}));
    let destination = json!({
        "host": "gate.ml.svc.cluster.local",
        "port": {"number": 8443},
    });
    assert_eq!(http[0]["route"], json!([{"destination": destination}]));
}

#[test]
fn behind_a_gateway_each_port_leads_to_a_socket_of_its_own() {
    let objects = objects(&usual(), gateway());
    let ingress = object(&objects, "Sidecar", "ml")["spec"]["ingress"].clone();
    let ports = ingress.as_array().unwrap().iter();
    let ports: Vec<_> = ports
        .map(|it| {
            let endpoint = it["defaultEndpoint"].as_str().unwrap();
            (it["port"]["number"].as_u64().unwrap(), endpoint.to_owned())
        })
        .collect();
    let socket = |name: &str| format!("unix:///run/tensorgate/{name}.sock");
    assert_eq!(
        ports,
        [
            (8443, socket("host")),
            (8444, socket("audit")),
            (8445, socket("limits")),
        ]
    );
    let proxy = &object(&objects, "Deployment", "ml")["spec"]["template"]["spec"]["containers"][1];
    assert_eq!(proxy.get("env"), None);
    let filter = object(&objects, "EnvoyFilter", "ml");
    let manager = &patches(filter, "NETWORK_FILTER")[0]["typed_config"];
    // No narrower than Envoy's own limit.
    assert!(manager["max_request_headers_kb"].as_u64().unwrap() >= 60);
    let named = &patches(filter, "ROUTE_CONFIGURATION")[0]["request_headers_to_add"][0];
    let by_sidecar = json!({
        "header": {
            "key": "x-tensorgate-gateway",
            "value": "%DOWNSTREAM_PEER_URI_SAN% at %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%",
        },
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    });
    assert_eq!(named, &by_sidecar);
}

#[test]
fn each_rule_that_istio_cannot_enforce_is_a_fault_at_its_line() {
    let policy = usual()
        .replace(
            "listen: {address: 127.0.0.1:8080}",
            "listen: {address: 127.0.0.1:15021, trusted_hops: 1, \
             tls: {cert: pki/a.pem, key: pki/a.key, client_ca: pki/ca.pem}}",
        )
        .replace("clients:\n  web-app", &format!("{OTHER_CLIENT}\n  web-app"));
    let loaded = loaded(&policy);
    let paths = |entry| match istio(&loaded, entry).render(&loaded) {
        Err(Unrenderable::Policy(faults)) => {
            let mut paths: Vec<_> = faults.into_iter().map(|fault| fault.path).collect();
            paths.sort_unstable();
            paths
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(
        paths(sidecar()),
        [
            "clients.certified.mtls",
            "clients.near.sources",
            "listen.address",
            "listen.tls",
            "listen.trusted_hops",
        ]
    );
    assert_eq!(paths(gateway()), ["clients.certified.mtls", "listen.tls"]);
}

#[test]
fn a_policy_that_is_too_large_for_a_filter_is_refused() {
    let clients: String = (0..12_000)
        .map(|at| {
            let digest = format!("{at:064x}");
            format!("  client-{at}: {{api_keys: [{{sha256: {digest}}}]}}\n")
        })
        .collect();
    let policy = usual().replace(
        "clients:\n  web-app",
        &format!("clients:\n{clients}  web-app"),
    );
    let loaded = loaded(&policy);
    let rendered = istio(&loaded, sidecar()).render(&loaded);
    let Err(Unrenderable::Other(cause)) = rendered else {
        panic!("it was rendered, or has faults")
    };
    assert!(cause.contains("split the policy"), "{cause}");
}

/// All texts of an object, keys included, with the keys above them.
fn texts(value: &Value, at: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => found.push((at.to_owned(), text.clone())),
        Value::Array(items) => items.iter().for_each(|item| texts(item, at, found)),
        Value::Object(entries) => {
            for (key, value) in entries {
                found.push((format!("{at} (key)"), key.clone()));
                texts(value, &format!("{at}/{key}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[test]
fn texts_of_the_policy_are_values_and_nothing_else() {
    let hostile = [
        "tg\": x",
        "tg'}}{{ .Values.x }}",
        "tg ${HOME} $(id)",
        "tg' || true || 'a' == '",
        "tg: &a *a !!str # - ? | >",
        "tg%REQ(x)% <!-- -->",
        "tg\u{e9}--- ",
    ];
    let clients: String = (hostile.iter().enumerate())
        .map(|(at, text)| {
            let text = json!(text);
            format!(
                "  c{at}: {{metadata: {{filter: f, claim: sub, value: {text}, issuer: {text}}}}}\n"
            )
        })
        .collect();
    let policy = usual().replace(
        "clients:\n  web-app",
        &format!("clients:\n{clients}  web-app"),
    );
    let loaded = loaded(&policy);
    for entry in [sidecar(), gateway()] {
        let manifests = istio(&loaded, entry).render(&loaded).unwrap();
        for object in manifests.objects() {
            let (tree, faults) = tensorgate_policy_text::parse::parse(&object.to_yaml());
            assert!(faults.is_empty(), "{faults:?}");
            let tree = tree.unwrap();
            let read: Value =
                serde::Deserialize::deserialize(tensorgate_policy_text::de::At::root(&tree))
                    .unwrap();
            let written = json!(object);
            assert_eq!(read, written);
            let mut found = Vec::new();
            texts(&written, "", &mut found);
            for (at, text) in found {
                let is_hostile = hostile.iter().any(|hostile| text.contains(hostile));
                assert!(!is_hostile, "{at}: {text}");
            }
            if written["kind"] == "TrafficExtension" {
                let policy = compiled(&written["spec"]["wasm"]["pluginConfig"]).policy;
                for (at, text) in hostile.iter().enumerate() {
                    let client = policy.client_id(&format!("c{at}"));
                    let rule = policy.client(client.unwrap()).unwrap().metadata();
                    assert_eq!(rule.unwrap().value(), *text);
                }
            }
        }
    }
}
