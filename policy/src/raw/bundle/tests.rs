//! Identical models: written once, read back unchanged, and enforced as if each were written in
//! full.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use serde_json::{Value, json};

use super::{Bundle, HeaderMode};
use crate::fixture::{Severity, validate};
use crate::raw::{self, Shared};

/// A policy whose models `a` and `c` are identical. `b` differs slightly.
fn policy() -> raw::Policy {
    let model = json!({
        "backend": "b", "versions": ["1"], "protocols": ["oip-rest"],
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [{"max": 8}], "range": [-0.1, 1e-7]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
    });
    let mut policy: raw::Policy = serde_json::from_value(json!({
        "version": 1,
        "clients": {"c": {"api_keys": [{"sha256": "00".repeat(32)}]}},
        "backends": {"b": {"kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"], "max_in_flight": 1, "queue": 1, "timeout_ms": 1000}},
        "models": {"a": model, "b": model},
        "grants": [{"name": "g", "clients": ["c"], "models": ["a", "b", "c"], "operations": ["infer"]}],
    }))
    .unwrap();
    policy.models.get_mut("b").unwrap().versions = serde_json::from_value(json!(["2"])).unwrap();
    let shared = policy.models["a"].clone();
    policy.models.insert("c".into(), shared);
    policy
}

fn written(policy: raw::Policy) -> Value {
    let generation = "0123456789abcdef".into();
    let bundle = Bundle {
        generation,
        policy,
        headers: HeaderMode::default(),
        filter: None,
        host: true,
        tightens: None,
        hold: None,
    };
    serde_json::to_value(bundle).unwrap()
}

fn read(written: &Value) -> Result<raw::Policy, String> {
    // From text, as a filter reads it.
    serde_json::from_slice(&serde_json::to_vec(written).unwrap())
        .map(|Bundle { policy, .. }| policy)
        .map_err(|error| error.to_string())
}

#[test]
fn identical_models_are_written_once_and_read_back_unchanged() {
    let policy = policy();
    let written = written(policy.clone());
    assert_eq!(written["alike"], json!({"a": ["c"]}));
    let names: Vec<_> = written["policy"]["models"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(names, ["a", "b"]);
    let back = read(&written).unwrap();
    assert_eq!(back, policy);
    assert_eq!(
        serde_json::to_string(&back).unwrap(),
        serde_json::to_string(&policy).unwrap(),
        "the canonical form"
    );
    assert_eq!(back.models["a"].as_ptr(), back.models["c"].as_ptr());
    assert_ne!(back.models["a"].as_ptr(), back.models["b"].as_ptr());
}

#[test]
fn a_policy_without_identical_models_is_written_in_full() {
    let mut policy = policy();
    let own = raw::Model::clone(&policy.models["c"]);
    policy.models.insert("c".into(), own.into());
    let written = written(policy.clone());
    assert_eq!(written["policy"], serde_json::to_value(&policy).unwrap());
    assert_eq!(written.get("alike"), None);
    assert_eq!(read(&written).unwrap(), policy);
}

#[test]
fn a_host_is_behind_the_filter_unless_the_bundle_denies_it() {
    let with_host = written(policy());
    assert_eq!(with_host.get("host"), None, "as releases without this bit");
    let bundle: Bundle = serde_json::from_value(with_host.clone()).unwrap();
    assert!(bundle.host);
    let hostless = Bundle {
        host: false,
        ..bundle
    };
    let without_host = serde_json::to_value(hostless).unwrap();
    assert_eq!(without_host["host"], json!(false));
    for member in ["generation", "policy", "alike"] {
        assert_eq!(without_host[member], with_host[member], "{member}");
    }
    let back: Bundle = serde_json::from_value(without_host.clone()).unwrap();
    assert!(!back.host);
    for value in [json!(null), json!(0), json!("false")] {
        let mut other = without_host.clone();
        other["host"] = value;
        assert!(read(&other).is_err(), "{other}");
    }
}

#[test]
fn a_bundle_with_unknown_or_repeated_alias_names_is_rejected() {
    let with = |alike: Value| {
        let mut bundle = written(policy());
        bundle["alike"] = alike;
        read(&bundle).unwrap_err()
    };
    for (alike, expected) in [
        (json!({"x": ["c"]}), "no model \"x\" is written"),
        // A shared model must not refer to another shared model.
        (json!({"a": ["c"], "c": ["d"]}), "no model \"c\" is written"),
        (json!({"a": ["b"]}), "model \"b\" is there twice"),
        (json!({"a": ["a"]}), "model \"a\" is there twice"),
        (json!({"a": ["c", "c"]}), "model \"c\" is there twice"),
        (
            json!({"a": ["c"], "b": ["c"]}),
            "model \"c\" is there twice",
        ),
        (json!({"a": "c"}), "invalid type"),
    ] {
        let told = with(alike.clone());
        assert!(told.contains(expected), "{alike}: {told}");
    }
}

#[test]
fn changing_a_model_does_not_change_models_that_shared_its_contents() {
    let mut policy = policy();
    policy.models.get_mut("c").unwrap().backend_model = Some("other".into());
    assert_eq!(policy.models["a"].backend_model, None);
    assert_eq!(written(policy).get("alike"), None);
}

#[test]
fn identical_models_are_enforced_as_if_written_in_full() {
    let one = policy();
    let mut apart = one.clone();
    for model in apart.models.values_mut() {
        *model = Shared::from(raw::Model::clone(model));
    }
    let debug = |policy: &raw::Policy| {
        let (policy, warnings) = validate(policy).unwrap();
        alloc::format!("{policy:?} {warnings:?}")
    };
    assert_eq!(debug(&one), debug(&apart));
    let (policy, _) = validate(&one).unwrap();
    let names: Vec<_> = policy
        .models()
        .iter()
        .map(|model| model.backend_model())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn faults_of_identical_models_are_reported_once() {
    let mut faulty = policy();
    let a = faulty.models.get_mut("a").unwrap();
    a.backend = Some("nowhere".into());
    let a = a.clone();
    faulty.models.insert("c".into(), a);
    let told = validate(&faulty).unwrap_err();
    let errors = told
        .iter()
        .filter(|fault| fault.severity == Severity::Error);
    let paths: Vec<_> = errors.map(|fault| fault.path.as_str()).collect();
    assert_eq!(paths, ["models.a.backend"]);
}
