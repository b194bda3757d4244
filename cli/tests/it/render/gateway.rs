//! `render gateway`: a folder of objects, or faults with their lines and no folder.

use std::path::Path;

use crate::program::{Ran, Scratch, run};

const POLICY: &str = r#"version: 1
listen: {address: 127.0.0.1:8080}
clients:
  web-app: {api_keys: [{sha256: a07f87b896d634ad40ab3bf7443a0264f53801c09278d6e035ecb731e9aa9700}]}
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
  - {name: g, clients: [web-app], models: [scores], operations: [infer], rate: {quota: 6, window_s: 60}}
"#;

/// Renders a policy into a folder.
fn rendered(policy: &Path, folder: &Path, more: &[&str]) -> Ran {
    let image = |name: &str| format!("r.example/{name}@sha256:{}", "5e".repeat(32));
    let (host, filter) = (image("host"), image("filter"));
    let mut arguments = vec![
        "render",
        "gateway",
        policy.to_str().unwrap(),
        "-o",
        folder.to_str().unwrap(),
        "--gateway",
        "models",
        "--gateway-name",
        "spiffe://cluster.local/ns/gw/sa/proxy",
        "--host-image",
        &host,
        "--filter-image",
        &filter,
    ];
    arguments.extend(more);
    run(&arguments)
}

#[test]
fn a_folder_has_one_file_for_each_object_and_a_note_for_the_gateway() {
    let scratch = Scratch::new();
    let policy = scratch.file("gate.yaml", POLICY);
    let folder = scratch.path().join("out");
    let more = [
        "--section",
        "https",
        "--hosts",
        "a.example",
        "--hosts",
        "*.b.example",
    ];
    let ran = rendered(&policy, &folder, &[&more[..], &["--patch-policy"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let files = std::fs::read_dir(&folder).unwrap();
    let mut files: Vec<_> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let expected = [
        "README.txt",
        "backendtlspolicy.yaml",
        "backendtrafficpolicy.yaml",
        "clienttrafficpolicy.yaml",
        "configmap-policy.yaml",
        "deployment.yaml",
        "envoyextensionpolicy.yaml",
        "envoypatchpolicy.yaml",
        "envoyproxy.yaml",
        "gate.yaml.txt",
        "httproute.yaml",
        "kustomization.yaml",
        "networkpolicy.yaml",
        "poddisruptionbudget.yaml",
        "service.yaml",
        "serviceaccount.yaml",
    ];
    assert_eq!(files, expected);
    for line in [
        "kubectl -n tensorgate patch gateway models",
        "kubectl -n tensorgate describe envoypatchpolicy tensorgate",
        "extensionApis.enableEnvoyPatchPolicy",
        "Gateway models in namespace tensorgate",
        "Secret tensorgate-context in namespace envoy-gateway-system, with context.key",
        "Secret tensorgate-host-tls in namespace tensorgate, with ca.crt, tls.crt, tls.key",
        "ConfigMap tensorgate-host-ca in namespace tensorgate, with ca.crt",
        "https://a.example/",
    ] {
        assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
    }
    let route = std::fs::read_to_string(folder.join("httproute.yaml")).unwrap();
    for host in ["a.example", "\"*.b.example\""] {
        assert!(route.contains(&format!("- {host}\n")), "{route}");
    }
}

#[test]
fn a_rule_that_the_gateway_cannot_enforce_has_its_line_and_nothing_is_written() {
    let scratch = Scratch::new();
    let listen = "listen: {tls: {cert: pki/gate.pem, key: pki/gate.key}}";
    let text = POLICY.replace("listen: {address: 127.0.0.1:8080}", listen);
    let policy = scratch.file("gate.yaml", text);
    let folder = scratch.path().join("out");
    let ran = rendered(&policy, &folder, &[]);
    assert_ne!(ran.code, 0);
    let output = format!("{}{}", ran.stdout, ran.stderr);
    assert!(output.contains("gate.yaml:2:"), "{output}");
    assert!(
        output.contains("the Gateway's listener ends TLS"),
        "{output}"
    );
    assert!(output.contains("remove listen.tls"), "{output}");
    assert!(!folder.exists());
}

#[test]
fn names_that_are_none_end_before_anything_is_written() {
    let scratch = Scratch::new();
    let policy = scratch.file("gate.yaml", POLICY);
    let folder = scratch.path().join("out");
    for more in [
        ["--hosts", "a.example\n- b"],
        ["--hosts", "192.0.2.1"],
        ["--section", "a b"],
        ["--gateway-proxies", "a\nb: c"],
        ["--host-authority", "a: b"],
    ] {
        let ran = rendered(&policy, &folder, &more);
        assert_eq!(ran.code, 2, "{more:?}: {}", ran.stderr);
        assert!(!folder.exists(), "{more:?}");
    }
    let ran = rendered(&policy, &folder, &["--patch-policy"]);
    assert_eq!(
        ran.code, 2,
        "the name of a listener is missing: {}",
        ran.stderr
    );
}
