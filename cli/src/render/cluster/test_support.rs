//! What tests of several targets share: a policy, an image and the pods of a gate.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use serde::Deserialize as _;
use serde_json::Value;
use tensorgate_client::run::Scratch;
use tensorgate_policy::{Compiled, FilterConfiguration};
use tensorgate_policy_load::load::{Loaded, load};

use super::names::Image;
use super::pod_options::PodOptions;
use super::pod_ports::PodPorts;
use super::policy_files::PolicyFiles;
use super::sizes::Sizes;
use super::workload::{Workload, prints_audit_log};

/// The policy in a filter's configuration.
pub fn compiled(configuration: &Value) -> Compiled {
    let encoded = FilterConfiguration::deserialize(configuration).unwrap();
    Compiled::load(&encoded.decode().unwrap()).unwrap()
}

/// A policy with one client, whose token has this subject.
pub fn policy(subject: &str) -> String {
    format!(
        r#"
version: 1
listen: {{address: 127.0.0.1:8080}}
clients:
  web-app:
    metadata: {{filter: envoy.filters.http.jwt_authn, claim: payload.sub, value: "{subject}"}}
backends:
  gpu: {{kind: open-inference, endpoints: ["http://triton.ml.svc:8001"]}}
models:
  scores:
    backend: gpu
    versions: ["1"]
    protocols: [oip-rest, oip-grpc]
    inputs: [{{name: x, datatype: FP32, shape: [8], range: [-10, 10]}}]
    outputs: [{{name: score, datatype: FP32, shape: [1]}}]
grants:
  - name: scoring
    clients: [web-app]
    models: [scores]
    operations: [infer]
    rate: {{quota: 600, window_s: 60}}
"#
    )
}

/// Loads the text of a policy.
pub fn loaded(policy: &str) -> Loaded {
    let scratch = Scratch::new();
    load(&scratch.file("gate.yaml", policy)).unwrap_or_else(|error| panic!("{error:?}"))
}

/// An image of a registry with a port.
pub fn image(name: &str) -> Image {
    let digest = "5e".repeat(32);
    format!("r.example:5000/{name}@sha256:{digest}")
        .parse()
        .unwrap()
}

/// The pods of the gate `gate` in namespace `ml`.
pub fn workload(policy: &Loaded) -> Workload {
    Workload {
        namespace: "ml".parse().unwrap(),
        name: "gate".parse().unwrap(),
        host_image: image("host"),
        replicas: 2,
        context_secret: "gate-context".parse().unwrap(),
        files_secret: "gate-files".parse().unwrap(),
        handlers: None,
        model_servers: Vec::new(),
        model_namespace: "ml".parse().unwrap(),
        pod_ports: PodPorts::of(&policy.version.policy, &[], &[]).unwrap(),
        metrics_from: None,
        files: PolicyFiles::of(&policy.version.policy).unwrap(),
        pod_options: PodOptions::default(),
        audit_stdout: prints_audit_log(&policy.version.raw),
        sizes: Sizes {
            envoy_cpu: 1,
            host_cpu: 1,
        },
    }
}
