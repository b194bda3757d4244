//! Objects as a cluster returns them, what is no object of a gate, and what is too much.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use serde_json::json;
use tensorgate_client::run::Scratch;
use tensorgate_policy::FilterTarget;
use tensorgate_policy_compiler::Version;

use super::*;

/// The policy of most decision vectors.
const POLICY: &str = include_str!("../../../../../policy/vectors/policies/main.json");

/// A policy as the host reads it, and as a filter's configuration.
fn forms(generation: &str, policy: &str) -> (Vec<u8>, Value) {
    let raw = serde_json::from_str(policy).unwrap();
    let version = Version::new(raw).unwrap().named(generation);
    let target = Target::Filter(FilterTarget::default());
    let limit = FilterConfiguration::MAX_PLAIN_BYTES;
    let encoded = FilterConfiguration::new(&version.compile(target).to_bytes(), limit).unwrap();
    let compiled = version.for_host();
    (compiled.to_bytes(), serde_json::to_value(&encoded).unwrap())
}

/// The ConfigMap with these bytes.
fn config_map(bytes: &[u8]) -> Value {
    let encoded = STANDARD.encode(bytes);
    object("ConfigMap", &json!({"binaryData": {"bundle.bin": encoded}}))
}

fn object(kind: &str, rest: &Value) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "gate"}});
    let fields = rest.as_object().into_iter().flatten();
    let into = object.as_object_mut().unwrap();
    into.extend(fields.map(|(key, value)| (key.clone(), value.clone())));
    object
}

/// The generation of a file, `None` for a policy, or the cause of a failure.
fn read(text: impl AsRef<[u8]>) -> Result<Option<String>, String> {
    let scratch = Scratch::new();
    let found = rendered(&scratch.file("object.yaml", text));
    found
        .map(|policy| policy.map(|policy| policy.generation))
        .map_err(|failure| failure.to_string())
}

#[test]
fn each_object_has_the_generation_of_its_policy() {
    let (bytes, encoded) = forms("g1", POLICY);
    let map = config_map(&bytes);
    let other = json!({"name": "other", "config": {"a": 1}});
    let ours = json!({"name": "tensorgate.gate", "config": encoded});
    for object in [
        map.clone(),
        object(
            "TrafficExtension",
            &json!({"spec": {"wasm": {"pluginConfig": encoded}}}),
        ),
        object("WasmPlugin", &json!({"spec": {"pluginConfig": encoded}})),
        object(
            "EnvoyExtensionPolicy",
            &json!({"spec": {"wasm": [other, ours]}}),
        ),
        object(
            "List",
            &json!({"items": [map, object("Service", &json!({}))]}),
        ),
    ] {
        for text in [
            object.to_string(),
            serde_json::to_string_pretty(&object).unwrap(),
        ] {
            assert_eq!(read(&text), Ok(Some("g1".to_owned())), "{text}");
        }
    }
    assert_eq!(read(&bytes), Ok(Some("g1".to_owned())));
    // As `kubectl get -o yaml` prints it, with what the server has added.
    let yaml = format!(
        "apiVersion: v1\nbinaryData:\n  bundle.bin: {}\nkind: ConfigMap\nmetadata:\n  \
         creationTimestamp: \"2026-11-26T00:00:00Z\"\n  managedFields:\n  - apiVersion: v1\n    \
         fieldsV1:\n      f:binaryData:\n        .: {{}}\n        f:bundle.bin: {{}}\n  name: gate-policy\n",
        STANDARD.encode(&bytes)
    );
    assert_eq!(read(&yaml), Ok(Some("g1".to_owned())));
}

#[test]
fn a_policy_and_an_absent_file_are_for_the_loader() {
    for text in [
        "version: 1\n",
        "# apiVersion and kind\nversion: 1\n",
        "{\"version\": 1}",
        "\u{0}",
    ] {
        assert_eq!(read(text), Ok(None), "{text:?}");
    }
    assert!(rendered(Path::new("/absent/gate.yaml")).unwrap().is_none());
}

#[test]
fn an_object_without_one_policy_is_named_as_such() {
    let (one, encoded) = forms("g1", POLICY);
    let (two, _) = forms("g1", &POLICY.replace("65536", "65535"));
    assert_ne!(one, two);
    let foreign = json!({"spec": {"pluginConfig": {"bundle": "a", "more": encoded}}});
    let broken = json!({"spec": {"pluginConfig": {"bundle": "%"}}});
    let older = json!({"spec": {"pluginConfig": {"bundle": "e30="}}});
    let deep = format!("apiVersion: v1\nkind: {}", "[".repeat(100));
    for (text, cause) in [
        (
            object("Secret", &json!({"data": {}})).to_string(),
            "has no policy of a gate",
        ),
        (config_map(b"{}").to_string(), "is not a compiled policy"),
        (
            object("ConfigMap", &json!({"binaryData": {"bundle.bin": "%"}})).to_string(),
            "is not base64",
        ),
        (config_map(&one[..one.len() - 1]).to_string(), "is damaged"),
        (object("WasmPlugin", &foreign).to_string(), "is not ours"),
        (object("WasmPlugin", &broken).to_string(), "is not base64"),
        (
            object("WasmPlugin", &older).to_string(),
            "is not a compiled policy",
        ),
        (deep, "line "),
        (
            "apiVersion: v1\nkind: ConfigMap\nkind: Secret\n".to_owned(),
            "line 3",
        ),
    ] {
        let found = read(&text);
        assert!(
            found.as_ref().is_err_and(|found| found.contains(cause)),
            "{found:?}"
        );
    }
    let list = object(
        "List",
        &json!({"items": [config_map(&one), config_map(&two)]}),
    );
    assert!(read(list.to_string()).is_err_and(|found| found.contains("several policies")));
}

#[test]
fn a_folder_is_that_of_one_target() {
    let scratch = Scratch::new();
    let cause = |folder: &Path| {
        rendered(folder)
            .map_err(|failure| failure.to_string())
            .err()
    };
    let folder = scratch.path();
    assert!(cause(folder).is_some_and(|cause| cause.contains("no folder that render wrote")));
    scratch.file("bundle.bin", forms("g2", POLICY).0);
    let found = rendered(folder).unwrap().map(|policy| policy.generation);
    assert_eq!(found.as_deref(), Some("g2"));
    scratch.file("configmap-policy.yaml", "kind: ConfigMap\n");
    assert!(cause(folder).is_some_and(|cause| cause.contains("several targets")));
}
