//! `render istio`: files of a folder, and that nothing is written on a fault.

use serde_json::Value;

use crate::program::{Ran, Scratch, run};

const POLICY: &str = r#"version: 1
listen: {address: 127.0.0.1:8080}
clients:
  web-app:
    metadata: {filter: envoy.filters.http.jwt_authn, claim: payload.sub, value: svc-web}
backends:
  gpu: {kind: open-inference, endpoints: ["http://triton.ml.svc:8001"]}
models:
  scores:
    backend: gpu
    versions: ["1"]
    protocols: [oip-rest, oip-grpc]
    inputs: [{name: x, datatype: FP32, shape: [8], range: [-10, 10]}]
    outputs: [{name: score, datatype: FP32, shape: [1]}]
grants:
  - name: scoring
    clients: [web-app]
    models: [scores]
    operations: [infer]
    rate: {quota: 600, window_s: 60}
"#;
static GATEWAY: [&str; 8] = [
    "--gateway",
    "ingress/models",
    "--gateway-pods",
    "istio=ingressgateway",
    "--gateway-account",
    "gateway",
    "--hosts",
    "models.example",
];

/// Renders into the folder `out`.
fn render(scratch: &Scratch, policy: &str, more: &[&str]) -> Ran {
    let digest = "5e".repeat(32);
    let image = |name: &str| format!("r.example/{name}@sha256:{digest}");
    let (host, filter) = (image("host"), image("filter"));
    let policy = scratch.file("gate.yaml", policy);
    let out = scratch.path().join("out");
    let mut arguments = vec![
        "render",
        "istio",
        policy.to_str().unwrap(),
        "--host-image",
        &host,
        "--filter-image",
        &filter,
    ];
    if !more.contains(&"--json") {
        arguments.extend(["-o", out.to_str().unwrap()]);
    }
    arguments.extend(more);
    run(&arguments)
}

fn files(scratch: &Scratch) -> Vec<String> {
    let folder = std::fs::read_dir(scratch.path().join("out")).unwrap();
    let mut names: Vec<_> = folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        // What the folder was rendered from is no object.
        .filter(|name| !name.ends_with(".txt"))
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn each_mode_names_what_must_exist_and_a_request_that_shows_that_it_works() {
    let wasm = ["--filter-pull-secret", "pull", "--namespace", "ml"];
    for (more, lines) in [
        (
            &["--clients", "web/frontend"] as &[&str],
            [
                "Secret pull in namespace ml",
                "kubectl -n web exec deployment/CLIENT",
                "http://tensorgate.ml:8080/",
            ],
        ),
        (
            &GATEWAY,
            [
                "Secret pull in namespace ingress",
                "Secret tensorgate-context in namespace ingress, with context.key",
                "https://models.example/",
            ],
        ),
    ] {
        let scratch = Scratch::new();
        let ran = render(&scratch, POLICY, &[more, &wasm].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let kinds = "extensions.istio.io/v1alpha1 of Istio, with the kinds TrafficExtension";
        for line in lines.iter().chain([&kinds]) {
            assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
        }
        // Istio itself sets the image of a sidecar.
        assert!(!ran.stdout.contains("Image auto"), "{}", ran.stdout);
        assert!(scratch.path().join("out/gate.yaml.txt").exists());
    }
}

#[test]
fn each_mode_has_the_files_of_its_objects() {
    let common = [
        "authorizationpolicy.yaml",
        "configmap-policy.yaml",
        "deployment.yaml",
        "envoyfilter.yaml",
        "kustomization.yaml",
        "networkpolicy.yaml",
        "peerauthentication.yaml",
        "poddisruptionbudget.yaml",
        "service.yaml",
        "serviceaccount.yaml",
        "sidecar.yaml",
    ];
    let old = ["--istio-release", "1.29"];
    let gateway = [
        "envoyfilter-gateway.yaml",
        "trafficextension-gateway.yaml",
        "virtualservice.yaml",
    ];
    for (more, own) in [
        (&[] as &[&str], &["trafficextension.yaml"] as &[&str]),
        (&old, &["wasmplugin.yaml"]),
        (&GATEWAY, &gateway),
    ] {
        let scratch = Scratch::new();
        let ran = render(&scratch, POLICY, more);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let mut expected = [common.as_slice(), own].concat();
        expected.sort_unstable();
        assert_eq!(files(&scratch), expected);
        // The gateway's operator gives the key to its pods.
        let key = ran.stderr.contains("TENSORGATE_CONTEXT_KEY");
        assert_eq!(key, more == GATEWAY, "{}", ran.stderr);
        // Nothing else removes the filter of 1.29, and two filters in one proxy both decide.
        let delete = match more {
            [] => Some("kubectl -n tensorgate delete wasmplugin tensorgate\n"),
            more if more == GATEWAY => {
                Some("kubectl -n ingress delete wasmplugin tensorgate.tensorgate\n")
            }
            _ => None,
        };
        let deletes = ran.stderr.contains("delete wasmplugin");
        assert_eq!(deletes, delete.is_some(), "{}", ran.stderr);
        let names_it = delete.is_none_or(|delete| ran.stderr.contains(delete));
        assert!(names_it, "{}", ran.stderr);
    }
}

#[test]
fn a_rule_that_a_sidecar_cannot_enforce_is_shown_with_its_line() {
    let scratch = Scratch::new();
    let with_sources = "  web-app:\n    sources: [10.0.0.0/8]\n";
    let policy = POLICY.replace("  web-app:\n", with_sources);
    let ran = render(&scratch, &policy, &[]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    for part in ["gate.yaml:5:", "clients.web-app.sources", "x-forwarded-for"] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    assert!(!scratch.path().join("out").exists());
    // A gateway knows the address.
    let ran = render(&scratch, &policy, &GATEWAY);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    // A client would write the address by which a lockout counts.
    let locking = format!("{POLICY}lockout: {{failures: 10}}\n");
    let ran = render(&scratch, &locking, &["--source-addresses-kept"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("remove lockout"), "{}", ran.stderr);
}

#[test]
fn nothing_is_written_for_a_waypoint_or_for_half_of_a_gateway() {
    let scratch = Scratch::new();
    let (gateway, _) = GATEWAY.split_at(6);
    let clients = [&GATEWAY[..], &["--clients", "web/app"]].concat();
    let twice = [&GATEWAY[..], &["--gateway-pods", "istio=other"]].concat();
    for (more, part) in [
        (["--waypoint", "models"].as_slice(), "EnvoyFilter"),
        (gateway, "--hosts"),
        (&clients, "--clients"),
        (&twice, "\"istio\" twice"),
        (&["--clients", "*"], "NAMESPACE/NAME"),
        (&["--trust-domain", "a\nb"], "DNS name"),
    ] {
        let ran = render(&scratch, POLICY, more);
        assert_eq!(ran.code, 2, "{more:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
        assert!(!scratch.path().join("out").exists(), "{more:?}");
    }
}

#[test]
fn the_counters_of_a_sidecar_are_open_with_the_hosts_metrics() {
    let scratch = Scratch::new();
    for (mode, expected) in [
        ([].as_slice(), [9_902_u64, 15_090].as_slice()),
        // The filter is not in these pods.
        (GATEWAY.as_slice(), &[9_902]),
    ] {
        let more = [mode, &["--json", "--metrics-from", "monitoring"]].concat();
        let ran = render(&scratch, POLICY, &more);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let mut objects = ran
            .stdout
            .lines()
            .map(|line| -> Value { serde_json::from_str(line).unwrap() });
        let policy = objects
            .find(|object| object["kind"] == "NetworkPolicy")
            .unwrap();
        let name = "/from/0/namespaceSelector/matchLabels/kubernetes.io~1metadata.name";
        let is_of_metrics =
            |rule: &&Value| rule.pointer(name).is_some_and(|name| name == "monitoring");
        let mut rules = policy["spec"]["ingress"].as_array().unwrap().iter();
        let rule = rules.find(is_of_metrics).unwrap();
        let ports = rule["ports"].as_array().unwrap().iter();
        let ports: Vec<_> = ports.map(|port| port["port"].as_u64().unwrap()).collect();
        assert_eq!(ports, expected, "{mode:?}");
    }
}

#[test]
fn the_objects_are_the_same_each_time() {
    let scratch = Scratch::new();
    let more = [&GATEWAY[..], &["--json"]].concat();
    let first = render(&scratch, POLICY, &more);
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert_eq!(first.stdout, render(&scratch, POLICY, &more).stdout);
    let kinds = first.stdout.lines().map(|line| {
        let object: Value = serde_json::from_str(line).unwrap();
        object["kind"].as_str().unwrap().to_owned()
    });
    assert_eq!(kinds.filter(|kind| kind == "EnvoyFilter").count(), 2);
}

#[test]
fn a_limit_is_divided_in_the_gates_own_pods_only() {
    let divided = POLICY.replace("window_s: 60", "window_s: 60, local_share: replicas");
    let scratch = Scratch::new();
    let ran = render(&scratch, &divided, &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let ran = render(&scratch, &divided, &GATEWAY);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    for part in ["grants[0].rate.local_share", "their number is not known"] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    let ran = render(&Scratch::new(), POLICY, &GATEWAY);
    let note = "each pod of the proxies counts limits of scope local alone";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
    assert!(ran.stderr.contains("rate of scoring"), "{}", ran.stderr);
}

#[test]
fn a_gateway_has_notes_on_what_each_host_counts_of_streams_and_models() {
    let streams = POLICY
        .replace("[infer]", "[infer, stream]\n    concurrency: 4")
        .replace(
            "    backend: gpu",
            "    backend: gpu\n    limits: {concurrency: 8}",
        );
    for (policy, has_notes) in [(POLICY, false), (streams.as_str(), true)] {
        let ran = render(&Scratch::new(), policy, &GATEWAY);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        for note in [
            "each sandbox host counts messages of streams alone",
            "concurrency of scoring, for messages of streams; limits of models: scores;",
        ] {
            let stderr = &ran.stderr;
            assert_eq!(stderr.contains(note), has_notes, "{note}: {stderr}");
        }
    }
}
