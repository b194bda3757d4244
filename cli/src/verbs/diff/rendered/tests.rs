//! Objects as a cluster returns them, what is no object of a gate, and what is too much.
#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use tensorgate_client::run::Scratch;
use tensorgate_policy::{HeaderMode, compile_for_filter};

use super::*;

/// The policy of most decision vectors.
const POLICY: &str = include_str!("../../../../../policy/vectors/policies/main.json");

/// A bundle as the host reads it, and as a filter's configuration.
fn forms(generation: &str) -> (String, Value) {
    let bundle = Bundle {
        generation: generation.to_owned(),
        policy: serde_json::from_str(POLICY).unwrap(),
        headers: HeaderMode::default(),
        filter: None,
        host: true,
        tightens: None,
        hold: None,
    };
    let json = serde_json::to_string(&bundle).unwrap();
    let compiled = compile_for_filter(&bundle, HeaderMode::Forward, None).unwrap();
    let limit = FilterConfiguration::MAX_PLAIN_BYTES;
    let encoded = FilterConfiguration::new(&compiled.to_bytes(), limit).unwrap();
    (json, serde_json::to_value(&encoded).unwrap())
}

fn object(kind: &str, rest: &Value) -> Value {
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "gate"}});
    let fields = rest.as_object().into_iter().flatten();
    let into = object.as_object_mut().unwrap();
    into.extend(fields.map(|(key, value)| (key.clone(), value.clone())));
    object
}

/// The generation of a file, `None` for a policy, or the cause of a failure.
fn read(text: &str) -> Result<Option<String>, String> {
    let scratch = Scratch::new();
    let found = rendered(&scratch.file("object.yaml", text));
    found
        .map(|policy| policy.map(|policy| policy.generation().to_owned()))
        .map_err(|failure| failure.to_string())
}

#[test]
fn each_object_has_the_generation_of_its_bundle() {
    let (json, encoded) = forms("g1");
    let map = object("ConfigMap", &json!({"data": {"bundle.json": json}}));
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
        serde_json::from_str(&json).unwrap(),
    ] {
        for text in [
            object.to_string(),
            serde_json::to_string_pretty(&object).unwrap(),
        ] {
            assert_eq!(read(&text), Ok(Some("g1".to_owned())), "{text}");
        }
    }
    // As `kubectl get -o yaml` prints it, with what the server has added.
    let yaml = format!(
        "apiVersion: v1\ndata:\n  bundle.json: '{json}'\nkind: ConfigMap\nmetadata:\n  \
         creationTimestamp: \"2026-11-26T00:00:00Z\"\n  managedFields:\n  - apiVersion: v1\n    \
         fieldsV1:\n      f:data:\n        .: {{}}\n        f:bundle.json: {{}}\n  name: gate-policy\n"
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
    let map = |json: &str| object("ConfigMap", &json!({"data": {"bundle.json": json}}));
    let (one, encoded) = forms("g1");
    let two = one.replace("65536", "65535");
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
        (map("{}").to_string(), "cannot be read by this release"),
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
    let list = object("List", &json!({"items": [map(&one), map(&two)]}));
    assert!(read(&list.to_string()).is_err_and(|found| found.contains("several policies")));
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
    scratch.file("bundle.json", forms("g2").0);
    let found = rendered(folder)
        .unwrap()
        .map(|policy| policy.generation().to_owned());
    assert_eq!(found.as_deref(), Some("g2"));
    scratch.file("configmap-policy.yaml", "kind: ConfigMap\n");
    assert!(cause(folder).is_some_and(|cause| cause.contains("several targets")));
}
