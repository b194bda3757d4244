//! The schema of the values takes what the options take, and nothing else.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests"
)]

mod schema;

use std::str::FromStr;

use serde::Deserialize as _;
use serde_json::json;
use tensorgate_policy_text::de::At;
use tensorgate_policy_text::parse::parse;

use super::values::SCHEMA;
use super::*;
use crate::render::cluster::monitoring::Monitoring;
use crate::render::cluster::pod_options::{
    Annotation, ExtraLabel, RESERVED_KEYS, RESERVED_PREFIXES, Toleration,
};
use crate::render::cluster::test_support::{image, loaded, policy, workload};
use crate::render::envoy::Driver;
use crate::render::tests::names::Numbers;
use schema::accepts;

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

/// Every schema in a schema, with its path.
fn all<'a>(schema: &'a Value, path: String, found: &mut Vec<(String, &'a Value)>) {
    if schema.get("type").is_some() {
        found.push((path.clone(), schema));
    }
    for keyword in ["properties", "definitions"] {
        let fields = schema.get(keyword).and_then(Value::as_object);
        for (name, field) in fields.into_iter().flatten() {
            all(field, format!("{path}/{name}"), found);
        }
    }
    for keyword in ["additionalProperties", "items"] {
        if let Some(field) = schema.get(keyword) {
            all(field, format!("{path}/*"), found);
        }
    }
    let choices = schema.get("anyOf").and_then(Value::as_array);
    for choice in choices.into_iter().flatten() {
        all(choice, path.clone(), found);
    }
}

#[test]
fn a_value_is_in_the_schema_and_has_an_anchored_pattern() {
    let schema = schema();
    let mut found = Vec::new();
    all(&schema, String::new(), &mut found);
    assert!(found.len() >= 40, "{found:?}");
    for (path, field) in found {
        match field.get("type").and_then(Value::as_str) {
            Some("object") if path == "/global" => {}
            Some("object") => {
                let is_closed = field.get("additionalProperties") == Some(&json!(false));
                let names = field.pointer("/propertyNames/$ref");
                assert!(is_closed || names.is_some(), "{path}");
            }
            Some("array") => assert!(field.get("items").is_some(), "{path}"),
            Some("string") => {
                let pattern = field.get("pattern").and_then(Value::as_str);
                let anchored = |text: &str| text.starts_with('^') && text.ends_with('$');
                assert!(pattern.is_some_and(anchored), "{path}");
            }
            Some("number") => assert!(field.get("maximum").is_some(), "{path}"),
            other => assert_eq!(other, Some("integer"), "{path}"),
        }
    }
}

#[test]
fn an_image_has_a_digest_and_no_tag() {
    let schema = schema();
    let image = schema.pointer("/definitions/image").unwrap();
    let fields = image.get("properties").and_then(Value::as_object);
    let fields: Vec<_> = fields.unwrap().keys().collect();
    assert_eq!(fields, ["digest", "repository"]);
    let pattern = image.pointer("/properties/digest/pattern");
    assert_eq!(pattern, Some(&json!("^sha256:[0-9a-f]{64}$")));
}

#[test]
fn a_placeholder_of_a_name_is_no_name_that_parses() {
    for text in [CLIENTS, METRICS, MODEL_NAMESPACE] {
        let label = Namespace::placeholder(text);
        assert!(label.as_str().parse::<Namespace>().is_err(), "{text}");
    }
    let image = Image::placeholder(".Values.images.host").to_string();
    assert!(image.parse::<Image>().is_err());
}

fn parses<T: FromStr>(text: &str) -> bool {
    text.parse::<T>().is_ok()
}

/// A part of the schema, and whether an option takes a text in its place.
type Rule = (&'static str, fn(&str) -> bool);

const RULES: [Rule; 10] = [
    ("/definitions/namespaceOrEmpty", |text| {
        text.is_empty() || parses::<Namespace>(text)
    }),
    ("/definitions/name", parses::<ObjectName>),
    ("/properties/priorityClassName", |text| {
        text.is_empty() || parses::<ObjectName>(text)
    }),
    ("/properties/handlers/properties/claim", |text| {
        text.is_empty() || parses::<ObjectName>(text)
    }),
    ("/definitions/labelKey", |text| {
        parses::<PodLabel>(&format!("{text}=v"))
    }),
    ("/definitions/labelValue", |text| {
        parses::<PodLabel>(&format!("k={text}"))
    }),
    ("/definitions/freeKey", |text| {
        parses::<ExtraLabel>(&format!("{text}=v"))
    }),
    ("/definitions/freeKey", |text| {
        parses::<Annotation>(&format!("{text}=v"))
    }),
    ("/properties/podAnnotations/additionalProperties", |text| {
        parses::<Annotation>(&format!("k={text}"))
    }),
    ("/definitions/image/properties/repository", |text| {
        let digest = "0".repeat(64);
        parses::<Image>(&format!("{text}@sha256:{digest}"))
    }),
];

/// A text with the characters of names, or near a length that ends one.
fn name(numbers: &mut Numbers) -> String {
    const PARTS: [&str; 14] = [
        "a", "b2", "Z", "7", "-", ".", "_", "/", ":", "[", "]", "://", "\n", "é",
    ];
    const LENGTHS: [usize; 16] = [
        39, 40, 41, 61, 62, 63, 64, 126, 188, 189, 252, 253, 254, 316, 439, 440,
    ];
    let mut text = String::new();
    for _ in 0..numbers.below(7) {
        match numbers.below(6) {
            0 => text.push_str(&"a".repeat(LENGTHS[numbers.below(LENGTHS.len())])),
            1 => text.push_str(&format!("{}.", "c".repeat(61))),
            _ => text.push_str(PARTS[numbers.below(PARTS.len())]),
        }
    }
    text
}

#[test]
fn the_schema_takes_the_texts_that_the_options_take() {
    let schema = schema();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut texts: Vec<String> = (0..1_000).map(|_| name(&mut numbers)).collect();
    texts.extend((0..200).map(|_| numbers.text()));
    texts.extend(["é".repeat(4096), "é".repeat(4097)]);
    for key in RESERVED_KEYS {
        texts.extend([key.to_owned(), format!("{key}s"), format!("x-{key}")]);
    }
    for prefix in RESERVED_PREFIXES {
        let names = [
            format!("{prefix}/a"),
            format!("{prefix}s/a"),
            format!("x.{prefix}/a"),
        ];
        texts.extend(names);
        texts.push(prefix.to_owned());
    }
    for (path, takes) in RULES {
        let rule = schema.pointer(path).unwrap();
        let mut taken = 0;
        for text in &texts {
            let expected = takes(text);
            taken += usize::from(expected);
            assert_eq!(
                accepts(&schema, rule, &json!(text)),
                expected,
                "{path}: {text:?}"
            );
        }
        assert!(taken > 20 && taken < texts.len(), "{path}: {taken}");
    }
}

#[test]
fn quantities_are_numbers_or_texts() {
    let schema = schema();
    for (kind, value, expected) in [
        ("cpu", json!(1), true),
        ("cpu", json!(0.5), true),
        ("cpu", json!("250m"), true),
        ("cpu", json!(0), false),
        ("cpu", json!(-1), false),
        ("cpu", json!("1; x"), false),
        ("cpu", json!([1]), false),
        ("memory", json!(1_073_741_824), true),
        ("memory", json!("1Gi"), true),
        ("memory", json!(1), false),
        ("memory", json!(1.5), false),
    ] {
        let rule = schema.pointer(&format!("/definitions/{kind}")).unwrap();
        assert_eq!(accepts(&schema, rule, &value), expected, "{kind}: {value}");
    }
}

/// The gate with the longest names, which begin with a digit where they may, and all options.
fn longest(policy: &Loaded) -> Helm {
    let namespace = |first: &str| first.repeat(63).parse::<Namespace>().unwrap();
    let object = |text: &str| text.parse::<ObjectName>().unwrap();
    let label = "x".repeat(63);
    let mut workload = workload(policy);
    workload.namespace = namespace("0");
    workload.model_namespace = namespace("1");
    workload.metrics_from = Some(namespace("2"));
    workload.name = "n".repeat(40).parse().unwrap();
    workload.files_secret = object(&format!("{label}.0"));
    workload.model_servers = vec![format!("0.example/{label}={label}").parse().unwrap()];
    let toleration = |text: &str| text.parse::<Toleration>().unwrap();
    let affinity = r#"{"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 1, "preference": {"matchExpressions": [{"key": "a/b", "operator": "Exists"}]}}]},
        "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
        "topologyKey": "kubernetes.io/hostname", "namespaces": ["0"], "namespaceSelector": {},
        "labelSelector": {"matchLabels": {"a": "b"}}, "matchLabelKeys": ["c"]}]}}"#;
    workload.pod_options = PodOptions {
        pull_secrets: vec![object("0.regcred")],
        node_selector: vec!["disk=ssd".parse().unwrap()],
        tolerations: vec![toleration("gpu=:NoExecute"), toleration("a/b:NoSchedule")],
        affinity: Some(affinity.parse().unwrap()),
        priority_class: Some(object("0")),
        labels: vec![format!("{label}={label}").parse().unwrap()],
        annotations: vec![
            "example.com/a={{ .Values }}\n: \"#é\u{2028}"
                .parse()
                .unwrap(),
        ],
    };
    let gate = Kubernetes {
        workload,
        envoy_image: image("envoy"),
        driver: Driver::Wasm,
        clients_from: Some(namespace("3")),
        monitoring: Monitoring::default(),
    };
    Helm { gate }
}

#[test]
fn a_chart_takes_its_own_defaults_and_a_gate_has_the_same_options() {
    let policy = loaded(&policy("x"));
    let helm = longest(&policy);
    let chart = helm.render(&policy).unwrap();
    let (tree, faults) = parse(&chart.files["values.yaml"]);
    assert!(faults.is_empty(), "{faults:?}");
    let values = Value::deserialize(At::root(&tree.unwrap())).unwrap();
    let schema: Value = serde_json::from_str(&chart.files["values.schema.json"]).unwrap();
    for (field, value) in values.as_object().unwrap() {
        let rule = &schema["properties"][field];
        assert!(accepts(&schema, rule, value), "{field}: {value}");
    }
    assert!(accepts(&schema, &schema, &values), "{values}");

    let objects = helm.gate.render(&policy).unwrap().into_files();
    let deployment = json!(objects["deployment.yaml"]);
    let pod = deployment.pointer("/spec/template").unwrap();
    for (field, _) in PodOptions::default().fields() {
        assert_eq!(pod["spec"][&field], values[&field], "{field}");
    }
    for (field, value) in [("labels", POD_LABELS), ("annotations", POD_ANNOTATIONS)] {
        for (key, text) in values[value].as_object().unwrap() {
            assert_eq!(pod["metadata"][field][key], *text, "{key}");
        }
    }
    // An older release has no such values, and a template takes them from nowhere else.
    let template = &chart.files["templates/deployment.yaml"];
    assert!(
        template.contains("{{- if .Values.affinity }}"),
        "{template}"
    );
    assert!(!template.contains("regcred"), "{template}");
}
