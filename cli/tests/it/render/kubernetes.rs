//! `render kubernetes`: closed ports, a complete folder, and no text that ends its value.

mod pods;

use std::path::Path;

use serde_json::{Value, json};

use crate::program::{Ran, Scratch, host_policy_in, run, tree, yaml_documents};

/// An image's digest.
const DIGEST: &str = "sha256:8d5f2c1f8d5f2c1f8d5f2c1f8d5f2c1f8d5f2c1f8d5f2c1f8d5f2c1f8d5f2c1f";

/// A policy with a model server in the cluster. `more` stands at the end.
fn policy(pattern: &str, more: &str) -> String {
    // Escapes for all that is not ASCII: YAML rejects some characters.
    let escape = |c: char| match c {
        ' '..='~' => c.to_string(),
        _ => format!("\\u{:04x}", u32::from(c)),
    };
    let pattern: String = json!(pattern).to_string().chars().map(escape).collect();
    format!(
        r#"version: 1
listen: {{address: "127.0.0.1:8080", tls: {{cert: pki/gate.pem, key: pki/gate.key}}}}
clients:
  app: {{api_keys: [{{sha256: a07f87b896d634ad40ab3bf7443a0264f53801c09278d6e035ecb731e9aa9700}}]}}
backends:
  gpu:
    kind: open-inference
    endpoints: ["https://triton.ml.svc:8001"]
    tls: {{ca: pki/ca.pem, cert: pki/client.pem, key: pki/client.key}}
models:
  text:
    backend: gpu
    versions: ["1"]
    protocols: [oip-rest]
    inputs: [{{name: x, datatype: BYTES, shape: [1], max_item_bytes: 64, pattern: {pattern}}}]
    outputs: [{{name: y, datatype: FP32, shape: [1]}}]
grants:
  - {{name: all, clients: [app], models: [text], operations: [infer]}}
{more}"#
    )
}

fn render(policy: &Path, more: &[&str]) -> Ran {
    let host = format!("r.example/tensorgate/host@{DIGEST}");
    let envoy = format!("envoyproxy/envoy@{DIGEST}");
    let mut arguments = vec!["render", "kubernetes", policy.to_str().unwrap()];
    arguments.extend(["--host-image", &host, "--envoy-image", &envoy]);
    arguments.extend(more);
    run(&arguments)
}

/// The objects, in JSON.
fn objects(policy: &str, more: &[&str]) -> Vec<Value> {
    let scratch = Scratch::new();
    let file = scratch.file("gate.yaml", policy);
    let ran = render(&file, &[more, &["--json"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let lines = ran.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn object<'o>(objects: &'o [Value], kind: &str, name: &str) -> &'o Value {
    let is = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects
        .iter()
        .find(is)
        .unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn the_native_module_is_refused_in_images_of_envoys_that_it_is_not_for() {
    let scratch = Scratch::new();
    let file = scratch.file("gate.yaml", policy("a+", ""));
    let host = format!("r.example/tensorgate/host@{DIGEST}");
    let chart = scratch.path().join("chart");
    let run = |target: &str, tag: &str, driver: &str| {
        let envoy = format!("r.example:5000/envoyproxy/envoy{tag}@{DIGEST}");
        let mut arguments = vec!["render", target, file.to_str().unwrap()];
        arguments.extend(["--host-image", &host, "--envoy-image", &envoy]);
        arguments.extend(["--driver", driver, "-o", chart.to_str().unwrap()]);
        arguments.extend(["--model-server", "app=triton"]);
        run(&arguments)
    };
    for target in ["kubernetes", "helm"] {
        for tag in [":v1.37.4", ":1.37.4-debian-12", ":distroless-v1.41-latest"] {
            let ran = run(target, tag, "module");
            assert_eq!(ran.code, 2, "{target} {tag}: {}", ran.stderr);
            let cause = "--driver module is for Envoy 1.38, 1.39, 1.40, and --envoy-image";
            assert!(ran.stderr.contains(cause), "{}", ran.stderr);
            let ran = run(target, tag, "wasm");
            assert!(!ran.stderr.contains("--driver"), "{}", ran.stderr);
        }
        // A digest alone does not name the release, nor does every tag.
        for tag in [
            "",
            ":v1.38.3",
            ":distroless-v1.40.0",
            ":dev",
            ":v1",
            ":2026.11",
        ] {
            let ran = run(target, tag, "module");
            assert!(!ran.stderr.contains("is for Envoy"), "{}", ran.stderr);
        }
    }
}

#[test]
fn only_the_gate_reaches_the_model_servers_and_only_at_their_inference_port() {
    let more = ["--model-server", "app=triton", "--model-namespace", "ml"];
    let found = objects(&policy("a+", ""), &more);
    let closed = object(
        &found,
        "NetworkPolicy",
        "tensorgate.tensorgate-model-servers",
    );
    assert_eq!(closed["metadata"]["namespace"], "ml");
    assert_eq!(
        closed["spec"]["podSelector"]["matchLabels"],
        json!({"app": "triton"})
    );
    let rules = closed["spec"]["ingress"].as_array().unwrap();
    assert_eq!(rules.len(), 1);
    assert_eq!(
        rules[0]["ports"],
        json!([{"protocol": "TCP", "port": 8001}])
    );
    let gate = object(&found, "NetworkPolicy", "tensorgate");
    assert_eq!(gate["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(
        gate["spec"]["ingress"],
        json!([{"ports": [{"protocol": "TCP", "port": 8080}]}])
    );
    // Metrics are open to the namespace that is named, and clients to theirs.
    let more = ["--metrics-from", "monitoring", "--clients-from", "apps"];
    let found = objects(&policy("a+", ""), &more);
    let gate = object(&found, "NetworkPolicy", "tensorgate");
    let from = |rule: &Value| rule["from"][0]["namespaceSelector"]["matchLabels"].clone();
    let rules = gate["spec"]["ingress"].as_array().unwrap();
    let namespaces: Vec<_> = rules.iter().map(from).collect();
    let expected = ["apps", "monitoring"].map(|name| json!({"kubernetes.io/metadata.name": name}));
    assert_eq!(namespaces, expected);
    let ports = [9902, 9903].map(|port| json!({"protocol": "TCP", "port": port}));
    assert_eq!(rules[1]["ports"], json!(ports));
}

#[test]
fn a_service_that_maps_its_port_does_not_cut_the_model_servers_off() {
    let policy = policy("a+", "").replace("triton.ml.svc:8001", "bert.ml.svc:80");
    let closing = ["--model-server", "app=bert", "--model-namespace", "ml"];
    let mapped = [&closing[..], &["--model-port", "80=8080"]].concat();
    let found = objects(&policy, &mapped);
    let closed = object(
        &found,
        "NetworkPolicy",
        "tensorgate.tensorgate-model-servers",
    );
    let ports = json!([{"protocol": "TCP", "port": 8080}]);
    assert_eq!(closed["spec"]["ingress"][0]["ports"], ports);
    let gate = object(&found, "NetworkPolicy", "tensorgate");
    assert_eq!(gate["spec"]["egress"][1]["ports"], ports);

    let scratch = Scratch::new();
    let file = scratch.file("gate.yaml", &policy);
    let note = "these are ports of Services: bert.ml.svc:80;";
    for (more, noted) in [(&closing[..], true), (&mapped[..], false)] {
        let ran = render(&file, more);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(ran.stderr.contains(note), noted, "{}", ran.stderr);
    }
    for (more, cause) in [
        (
            ["--model-port", "81=8080"],
            "is for no server of the policy",
        ),
        (["--pod-port", "80=8080"], "is for no server of the policy"),
        (["--model-port", "80=http"], "HOST:PORT=POD_PORT"),
    ] {
        let ran = render(&file, &more);
        assert_eq!(ran.code, 2, "{}", ran.stdout);
        assert!(ran.stderr.contains(cause), "{}", ran.stderr);
    }
}

#[test]
fn a_folder_is_complete_and_the_same_each_time() {
    let scratch = Scratch::new();
    let file = scratch.file("gate.yaml", policy("a+", ""));
    let folders = ["a", "b"].map(|name| {
        let folder = scratch.path().join(name);
        let ran = render(&file, &["-o", folder.to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stdout.contains("kubectl apply -k"), "{}", ran.stdout);
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, std::fs::read_to_string(path).unwrap())
            })
            .collect();
        files.sort();
        files
    });
    assert_eq!(folders[0], folders[1]);
    let listed = folders[0]
        .iter()
        .find(|(name, _)| name == "kustomization.yaml");
    let listed = yaml_documents(&listed.unwrap().1).remove(0);
    let mut names: Vec<_> = folders[0].iter().map(|(name, _)| json!(name)).collect();
    names.retain(|name| {
        let name = name.as_str().unwrap();
        name != "kustomization.yaml" && !name.ends_with(".txt")
    });
    assert_eq!(listed["resources"], json!(names));
}

#[test]
fn a_folder_has_its_source_and_the_output_has_what_comes_before_and_after() {
    let scratch = Scratch::new();
    let text = format!("# approved: ticket 7\n{}", policy("a+", ""));
    let file = scratch.file("gate.yaml", &text);
    let folder = scratch.path().join("out folder");
    let output = ["-o", folder.to_str().unwrap(), "--namespace", "ml"];
    let ran = render(&file, &output);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for line in [
        "Namespace ml",
        "Secret tensorgate-context in namespace ml, with context.key",
        "Secret tensorgate-files in namespace ml, with pki.ca.pem, pki.client.key",
        &format!("Image envoyproxy/envoy@{DIGEST}"),
        "kubectl apply -k '",
        "kubectl -n ml rollout status deployment/tensorgate",
        "kubectl -n ml port-forward deployment/tensorgate 18080:8080",
        r"curl -s -o /dev/null -w '%{http_code}\n' -k https://127.0.0.1:18080/",
    ] {
        assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
    }
    let source = std::fs::read_to_string(folder.join("gate.yaml.txt")).unwrap();
    assert_eq!(source, text);
    let readme = std::fs::read_to_string(folder.join("README.txt")).unwrap();
    let map = std::fs::read_to_string(folder.join("configmap-policy.yaml")).unwrap();
    let map = yaml_documents(&map).remove(0);
    let generation = host_policy_in(&map).generation;
    assert!(
        readme.contains(&format!("generation  {generation}\n")),
        "{readme}"
    );
    let command = format!(
        "tensorgate render kubernetes {} --host-image",
        file.display()
    );
    assert!(
        readme.contains(&command) && readme.contains("--namespace ml\n"),
        "{readme}"
    );
    assert!(!readme.contains("out folder"), "{readme}");

    std::fs::copy(folder.join("service.yaml"), folder.join("old.yaml")).unwrap();
    let ran = render(&file, &[&output[..], &["--json"]].concat());
    let left_over = "their objects stay in the cluster: old.yaml;";
    assert!(ran.stderr.contains(left_over), "{}", ran.stderr);
    let line: Value = serde_json::from_str(ran.stdout.trim()).unwrap();
    assert_eq!(line["then"].as_array().map(Vec::len), Some(4), "{line}");
    // Objects on standard output come without anything else.
    let ran = render(&file, &[]);
    assert!(ran.stderr.contains("kubectl apply -f -"), "{}", ran.stderr);
}

/// Texts that end a value in YAML, Go templates, CEL, Envoy's formats or a shell, unless they are
/// written as a value.
const HOSTILE: [&str; 12] = [
    "\"}, kind: Secret, x: {\"",
    "'; kind: Secret",
    "a\n---\nkind: Secret",
    "{{ .Values.x }}",
    "${HOME} $(id) `id`",
    "%REQ(authorization)% %DYNAMIC_METADATA(a)%",
    "&a *a !!binary x",
    "# comment",
    "- item",
    "key: value",
    "\u{85}\u{2028}\u{feff}\t ",
    "true",
];

#[test]
fn a_hostile_text_of_the_policy_stays_a_value() {
    let shape = |objects: &[Value]| -> Vec<_> {
        let each = objects.iter();
        each.map(|object| (object["kind"].clone(), object["metadata"].clone()))
            .collect()
    };
    let plain = objects(&policy("x", ""), &[]);
    for text in HOSTILE {
        // As a pattern that matches the text itself.
        let special = |c: char| c.is_ascii_punctuation();
        let escaped: String = (text.chars())
            .flat_map(|c| special(c).then_some('\\').into_iter().chain([c]))
            .collect();
        let scratch = Scratch::new();
        let file = scratch.file("gate.yaml", policy(&escaped, ""));
        let ran = render(&file, &[]);
        assert_eq!(ran.code, 0, "{text:?}: {}", ran.stderr);
        let read = yaml_documents(&ran.stdout);
        assert_eq!(read, objects(&policy(&escaped, ""), &[]), "{text:?}");
        assert_eq!(shape(&read), shape(&plain), "{text:?}");
        let bundle = object(&read, "ConfigMap", "tensorgate-policy");
        let policy = format!("{:?}", host_policy_in(bundle).policy);
        assert!(
            policy.contains(&format!("{escaped:?}")),
            "{text:?}: {policy}"
        );
    }
}

#[test]
fn what_a_cluster_cannot_enforce_is_named_with_its_line_and_nothing_is_written() {
    let usual = policy("a+", "");
    let handler = "handlers:\n  h: {component: handlers/h.wasm, sha256: 0000000000000000000000000000000000000000000000000000000000000000}\n";
    let artifact = "    backend: gpu\n    artifact: {path: models/text, manifest: text.json, sha256: 0000000000000000000000000000000000000000000000000000000000000001}\n";
    let cases = [
        (
            usual.replace("triton.ml.svc", "127.0.0.1"),
            "gate.yaml:8:",
            "the pod itself",
        ),
        (
            usual.replace("pki/ca.pem", "/etc/ca.pem"),
            "gate.yaml:9:",
            "cannot come by a volume",
        ),
        (
            usual.replace("pki/ca.pem", "../ca.pem"),
            "gate.yaml:9:",
            "cannot come by a volume",
        ),
        (usual.replace(":8080", ":443"), "gate.yaml:2:", "privilege"),
        (
            usual.replace(":8080", ":9902"),
            "gate.yaml:2:",
            "belongs to the host",
        ),
        (
            usual.replace(":8080", ":9904"),
            "gate.yaml:2:",
            "belongs to the host",
        ),
        (
            usual.replace(":8080", ":9903"),
            "gate.yaml:2:",
            "belongs to Envoy's counters",
        ),
        (policy("a+", handler), "gate.yaml:19:", "--handlers-image"),
        (
            usual.replace("    backend: gpu\n", artifact),
            "gate.yaml:13:",
            "no volume with model files",
        ),
        (
            policy("a+", &handler.replace("handlers/", "pki/")),
            "gate.yaml:20:",
            "another volume",
        ),
    ];
    for (text, line, cause) in cases {
        let scratch = Scratch::new();
        let file = scratch.file("gate.yaml", text);
        let folder = scratch.path().join("out");
        let ran = render(&file, &["-o", folder.to_str().unwrap()]);
        assert_eq!(ran.code, 2, "{cause}: {}", ran.stdout);
        assert!(
            ran.stderr.contains(line) && ran.stderr.contains(cause),
            "{}",
            ran.stderr
        );
        assert!(!folder.exists(), "{cause}");
    }
}

#[test]
fn names_that_kubernetes_does_not_have_are_rejected() {
    let policy = tree().join("envoy/gate.yaml");
    for (flag, value) in [
        ("--namespace", "ml\nkind: Secret"),
        ("--name", "Gate"),
        ("--model-server", "app"),
        ("--handlers-image", "r.example/handlers:latest"),
        ("--context-secret", "a b"),
        ("--replicas", "0"),
        ("--name", "2ml"),
        ("--image-pull-secret", "a b"),
        ("--node-selector", "disk"),
        ("--toleration", "gpu=yes:Never"),
        ("--priority-class", "High"),
        ("--label", "app.kubernetes.io/name=other"),
        ("--annotation", "checksum/envoy=0"),
    ] {
        let ran = render(&policy, &[flag, value]);
        assert_eq!(ran.code, 2, "{flag} {value:?}");
        assert!(ran.stderr.contains(flag), "{}", ran.stderr);
    }
    let ran = render(
        &policy,
        &["--model-server", "app=a", "--model-server", "app=b"],
    );
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    let cause = "--model-server gives the label \"app\" twice";
    assert!(ran.stderr.contains(cause), "{}", ran.stderr);
}

#[test]
fn limits_that_pods_multiply_are_named_or_divided_for_filter_and_host_alike() {
    let local = "operations: [infer], rate: {quota: 9, window_s: 60, local_share: replicas}, \
        budget: {requests: 100, per: day}}";
    let text = policy("a+", "lockout: {failures: 10}\n").replace("operations: [infer]}", local);
    let replicas = ["--source-addresses-kept", "--replicas", "3"];
    let objects = objects(&text, &replicas);
    let map = object(&objects, "ConfigMap", "tensorgate-policy");
    let compiled = host_policy_in(map);
    assert_eq!(compiled.policy.grants()[0].rate().unwrap().quota(), 3);
    let generation = compiled.generation.as_str();
    let filter = object(&objects, "ConfigMap", "tensorgate-dynamic").to_string();
    assert!(filter.contains(generation) && !filter.contains("local_share"));

    let scratch = Scratch::new();
    let file = scratch.file("gate.yaml", &text);
    let stderr = render(&file, &replicas).stderr;
    for part in [
        "note: each of the 3 pods counts limits of scope local alone",
        "3 times as much: budget of all; share them with scope: global and rate_limit_service",
        "note: each of the 3 pods counts the failures of lockout alone",
        "note: limits with local_share are divided by 3 pods: let no autoscaler",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    let of = |pods| render(&file, &["--source-addresses-kept", "--replicas", pods]);
    let one = of("1").stderr;
    assert!(!one.contains("alone"), "{one}");
    let many = of("10");
    assert_eq!(many.code, 2, "{}", many.stdout);
    let cause = "9 divided by 10 pods leaves less than 1 for each";
    assert!(many.stderr.contains(cause), "{}", many.stderr);
}

#[test]
fn a_lockout_of_all_callers_behind_a_balancer_is_refused_with_its_cure() {
    let scratch = Scratch::new();
    let text = policy("a+", "lockout: {failures: 10}\n");
    let file = scratch.file("gate.yaml", &text);
    let refused = render(&file, &[]);
    assert_eq!(refused.code, 2, "{}", refused.stdout);
    for part in ["listen.trusted_hops is 0", "--source-addresses-kept"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    assert_eq!(refused.stdout, "", "nothing is written");
    let kept = render(&file, &["--source-addresses-kept"]);
    assert_eq!(kept.code, 0, "{}", kept.stderr);
    let without = scratch.file("without.yaml", policy("a+", ""));
    assert_eq!(render(&without, &[]).code, 0);
}
