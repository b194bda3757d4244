//! `check` of policies that require verified models: keys and manifests are read, models are not.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::program::{Ran, Scratch, run, tree};

const MANIFEST: &str = "{\"predicateType\":\"https://model_signing/signature/v1.0\"}\n";

/// A policy with a model that a key has signed, one that a root's certificate has signed, and one
/// with a manifest. No model exists.
fn scratch(sha256: &str) -> Scratch {
    let scratch = Scratch::new();
    let model = |name: &str, artifact: &str| {
        format!(
            "  {name}:\n    backend: gpu\n    versions: [\"1\"]\n    protocols: [oip-rest]\n    \
             inputs: [{{name: x, datatype: FP32, shape: [2], range: [0, 1]}}]\n    \
             outputs: [{{name: y, datatype: FP32, shape: [1]}}]\n    \
             artifact: {{path: models/{name}, {artifact}}}\n"
        )
    };
    let models = [
        model("a", "signed_by: [release]"),
        model("b", "signed_by: [roots], signature: b.sig, formats: [onnx]"),
        model("c", &format!("manifest: c.json, sha256: \"{sha256}\"")),
    ];
    let text = format!(
        "version: 1\nclients:\n  app: {{api_keys: [{{sha256: a07f87b896d634ad40ab3bf7443a0264f53801c09278d6e035ecb731e9aa9700}}]}}\n\
         backends:\n  gpu: {{kind: open-inference, endpoints: [\"http://127.0.0.1:8001\"]}}\n\
         keys:\n  release: {{public_key_file: release.pub}}\n  \
         roots: {{certificates_file: root.pem}}\n\
         models:\n{}grants:\n  - {{name: g, clients: [app], models: [a, b, c], operations: [infer], rate: {{quota: 6, window_s: 60}}}}\n",
        models.concat()
    );
    scratch.file("gate.yaml", text);
    scratch.file("c.json", MANIFEST);
    for (name, from) in [
        ("release.pub", "keys/p256.pub"),
        ("root.pem", "chains/root.pem"),
    ] {
        let file = tree().join("artifact/tests/data/oms").join(from);
        scratch.file(name, std::fs::read(file).unwrap());
    }
    scratch
}

fn check(scratch: &Scratch) -> Ran {
    let policy = scratch.path().join("gate.yaml");
    run(&["check".as_ref(), "--json".as_ref(), policy.as_os_str()])
}

fn digest(text: &str) -> String {
    let digest: [u8; 32] = Sha256::digest(text).into();
    tensorgate_policy::hex(&digest)
}

#[test]
fn usable_keys_and_manifests_pass_without_the_models() {
    let ran = check(&scratch(&digest(MANIFEST)));
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(!ran.stdout.contains("artifact"), "{}", ran.stdout);
}

#[test]
fn unusable_keys_and_manifests_are_faults_where_the_policy_names_them() {
    let k256 = tree().join("artifact/tests/data/oms/keys/k256.pub");
    let k256 = std::fs::read_to_string(k256).unwrap();
    for (file, text, severity, path, message) in [
        (
            "release.pub",
            Some(&*k256),
            "error",
            "keys.release",
            "is not a key on P-256",
        ),
        (
            "release.pub",
            Some("junk"),
            "error",
            "keys.release",
            "has no PEM block",
        ),
        (
            "release.pub",
            None,
            "error",
            "keys.release",
            "does not exist",
        ),
        (
            "root.pem",
            Some("junk"),
            "error",
            "keys.roots",
            "has no PEM block",
        ),
        (
            "c.json",
            Some("{}"),
            "error",
            "models.c.artifact.sha256",
            "differs from its sha256",
        ),
        (
            "c.json",
            None,
            "warning",
            "models.c.artifact.manifest",
            "is missing",
        ),
    ] {
        let scratch = scratch(&digest(MANIFEST));
        match text {
            Some(text) => drop(scratch.file(file, text)),
            None => std::fs::remove_file(scratch.path().join(file)).unwrap(),
        }
        let ran = check(&scratch);
        let faults = ran.stdout.lines();
        let faults: Vec<Value> = faults
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let is_expected = |fault: &Value| {
            let has = |name: &str, text: &str| fault[name].as_str().unwrap().contains(text);
            has("severity", severity) && has("path", path) && has("message", message)
        };
        assert!(faults.iter().any(is_expected), "{file}: {faults:#?}");
        assert_eq!(ran.code, if severity == "error" { 2 } else { 0 }, "{file}");
    }
}

/// The same policy, in which an identity may sign the model `a`, with these exceptions.
fn with_identity(trusted_root: &str, exceptions: &str) -> Scratch {
    let scratch = scratch(&digest(MANIFEST));
    let text = std::fs::read_to_string(scratch.path().join("gate.yaml")).unwrap();
    let key = "keys:\n  ci: {identity: me@example.com, identity_provider: \"https://accounts.example.com\", trusted_root_file: root.json}\n";
    let artifact = format!(
        "signed_by: [release, ci], subject: a, not_before: 2026-11-01, allow: [torchscript], exceptions: [{exceptions}]"
    );
    let text = text
        .replace("keys:\n", key)
        .replace("signed_by: [release]", &artifact);
    scratch.file("gate.yaml", text);
    scratch.file("root.json", trusted_root);
    scratch
}

#[test]
fn an_identity_and_what_the_policy_accepts_are_checked() {
    let root = tree().join("artifact/tests/data/oms/published/sigstore-trusted-root.json");
    let root = std::fs::read_to_string(root).unwrap();
    let exception = |byte: &str, until: &str| {
        let sha256 = byte.repeat(32);
        format!("{{sha256: \"{sha256}\", path: a.bin, reason: known, until: {until}}}")
    };
    let exceptions = [exception("ab", "2026-01-31"), exception("cd", "2999-12-31")].join(", ");
    let ran = check(&with_identity(&root, &exceptions));
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    for (path, text) in [
        ("models.a.artifact.allow", "runs code that no scan follows"),
        ("models.a.artifact.exceptions[0].until", "has ended"),
    ] {
        let mut lines = ran.stdout.lines();
        let is_expected = |line: &str| line.contains(path) && line.contains(text);
        assert!(lines.any(is_expected), "{path}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains("exceptions[1]"), "{}", ran.stdout);
    let ran = check(&with_identity("{}", &exceptions));
    assert_eq!(ran.code, 2, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.contains("keys.ci.trusted_root"),
        "{}",
        ran.stdout
    );
}
