//! Rendered objects with the longest names that the options take: within Kubernetes' limits. And no
//! option sets a label or an annotation that a target sets.

use serde_json::Value;

use super::names::{Names, marks};
use super::reading::documents;
use super::targets::Render;
use super::{IN_A_MESH, WITH_TLS, loaded, targets};
use crate::render::cluster::pod_options::{Annotation, ExtraLabel};

/// Longest DNS label, and longest value of a label.
const MAX_LABEL_BYTES: usize = 63;
/// Longest name of an object.
const MAX_NAME_BYTES: usize = 253;

/// The objects of every target, by target and file, with these names.
fn objects(names: &Names) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let rendered: [(&str, &[Render]); 2] = [
        (
            IN_A_MESH,
            &[
                targets::in_sidecar,
                targets::in_ingress,
                targets::at_gateway,
            ],
        ),
        (WITH_TLS, &[targets::in_kubernetes]),
    ];
    for (policy, renders) in rendered {
        let policy = serde_json::from_str(policy).unwrap();
        let loaded = loaded(names, &policy).unwrap();
        for render in renders {
            let files = render(names, &loaded).unwrap_or_else(|error| panic!("{error:?}"));
            found.extend(documents(&files, &loaded.version.generation));
        }
    }
    found
}

/// Names of containers, ports and volumes, and values of labels, below a node.
fn check_labels(file: &str, key: &str, node: &Value) {
    match node {
        Value::Object(fields) => {
            for (name, field) in fields {
                let is_label = ["labels", "matchLabels", "selector"].contains(&key);
                if let Some(text) = field.as_str().filter(|_| is_label) {
                    assert!(text.len() <= MAX_LABEL_BYTES, "{file}: {name}: {text}");
                }
                check_labels(file, name, field);
            }
        }
        Value::Array(items) => {
            for item in items {
                let is_named = ["containers", "initContainers", "volumes"].contains(&key);
                let name = item.get("name").and_then(Value::as_str);
                if let Some(name) = name.filter(|_| is_named) {
                    assert!(name.len() <= MAX_LABEL_BYTES, "{file}: {name}");
                }
                check_labels(file, key, item);
            }
        }
        _ => {}
    }
}

#[test]
fn the_longest_names_give_objects_that_kubernetes_takes() {
    let mut names = Names::default();
    for (mark, name) in [
        ("zq-name-qz", "n".repeat(40)),
        ("zq-namespace-qz", "0".repeat(63)),
        ("zq-model-namespace-qz", "1".repeat(63)),
        ("zq-gateway-namespace-qz", "2".repeat(63)),
        ("zq-proxies-qz", "3".repeat(63)),
        ("zq-from-qz", "4".repeat(63)),
        ("zq-metrics-qz", "5".repeat(63)),
        ("zq-gateway-qz", "6".repeat(63)),
    ] {
        names.set(mark, name);
    }
    let objects = objects(&names);
    assert!(objects.len() > 30, "{}", objects.len());
    for (file, object) in objects {
        let name = object.pointer("/metadata/name").and_then(Value::as_str);
        let name = name.unwrap_or_default();
        let most = match object.get("kind").and_then(Value::as_str) {
            // DNS labels that begin with a letter (RFC 1035).
            Some("Service") => {
                assert!(
                    name.starts_with(|first: char| first.is_ascii_lowercase()),
                    "{name}"
                );
                MAX_LABEL_BYTES
            }
            _ => MAX_NAME_BYTES,
        };
        assert!((1..=most).contains(&name.len()), "{file}: {name}");
        check_labels(&file, "", &object);
    }
}

#[test]
fn what_a_target_sets_is_no_further_label_or_annotation() {
    let mut count = 0;
    for (file, object) in objects(&Names::default()) {
        for path in ["labels", "annotations"] {
            let set = object.pointer(&format!("/spec/template/metadata/{path}"));
            let keys = set.and_then(Value::as_object).into_iter().flatten();
            for (key, _) in keys.filter(|(key, _)| marks(key).is_empty()) {
                let option = format!("{key}=x");
                assert!(option.parse::<ExtraLabel>().is_err(), "{file}: {key}");
                assert!(option.parse::<Annotation>().is_err(), "{file}: {key}");
                count += 1;
            }
        }
    }
    assert!(count > 15, "{count}");
}
