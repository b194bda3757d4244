//! Tests of who is trusted, and of what a signature must be about.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};
use tensorgate_artifact::model_signing::{
    Exclusions, ModelSigningKey, Resource, Rules, sign_with_key,
};
use tensorgate_policy::Policy;
use tensorgate_policy_compiler::validate::validate;

use super::*;

/// The start of 2026-11-26.
const SIGNED_S: u64 = 1_795_651_200;

/// A file of the signatures that all tests share.
fn data(file: &str) -> String {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../artifact/tests/data/oms");
    std::fs::read_to_string(data.join(file)).unwrap()
}

/// A policy with a model that this key must have signed.
fn policy(key: &Value, required: &Value) -> Policy {
    let tensor = json!({"name": "x", "datatype": "FP32", "shape": [1]});
    let mut artifact = json!({"path": "m", "signed_by": ["release"]});
    let members = artifact.as_object_mut().unwrap();
    members.extend(required.as_object().unwrap().clone());
    let policy = json!({
        "version": 1,
        "clients": {"web": {"api_keys": [{"sha256": "01".repeat(32)}]}},
        "backends": {"gpu": {"kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"]}},
        "keys": {"release": key},
        "models": {"m": {
            "backend": "gpu", "versions": ["1"], "protocols": ["oip-rest"],
            "inputs": [tensor], "outputs": [tensor], "artifact": artifact
        }},
        "grants": [{"name": "g", "clients": ["web"], "models": ["m"], "operations": ["infer"]}]
    });
    validate(&serde_json::from_value(policy).unwrap())
        .unwrap()
        .0
}

/// What is said of a bundle: that it is accepted, or why not.
fn judged(name: &str, bundle: &str, policy: &Policy) -> String {
    let file = std::env::temp_dir().join(format!("tg-trust-{name}-{}", std::process::id()));
    std::fs::write(&file, bundle).unwrap();
    let (_, _, artifact) = policy.artifacts().next().unwrap();
    let found = trusted(&file, artifact, SIGNED_S);
    std::fs::remove_file(&file).unwrap();
    found.map_or_else(|cause| cause, |_| "it is accepted".to_owned())
}

/// A signature over a model `digits`, with or without the time.
fn signed(signed_at_s: Option<u64>) -> String {
    let rules = Rules {
        pieces: Pieces::Files,
        follow_links: false,
        exclusions: Exclusions::default(),
    };
    let files = vec![Resource::file("a".to_owned(), [7; 32])];
    let mut manifest = Manifest::new("digits".to_owned(), rules, files).unwrap();
    if let Some(time_s) = signed_at_s {
        manifest = manifest.signed_at(time_s);
    }
    let key = ModelSigningKey::from_pem(&data("keys/p256.pem")).unwrap();
    sign_with_key(&manifest, &key).unwrap()
}

#[test]
fn a_signature_must_be_about_the_required_model_and_late_enough() {
    let key = json!({"public_key": data("keys/p256.pub")});
    for (required, signed_at_s, expected) in [
        (json!({}), None, "it is accepted"),
        (json!({"subject": "digits"}), None, "it is accepted"),
        // Another model of the same signer.
        (
            json!({"subject": "cats"}),
            Some(SIGNED_S),
            "by \"release\" is not enough: ",
        ),
        (json!({"subject": "cats"}), Some(SIGNED_S), "\"digits\""),
        (
            json!({"subject": "digits", "not_before": "2026-11-26"}),
            Some(SIGNED_S),
            "it is accepted",
        ),
        // An older version.
        (
            json!({"subject": "digits", "not_before": "2026-11-27"}),
            Some(SIGNED_S),
            "is not enough: ",
        ),
        // Nothing says when it was signed.
        (
            json!({"not_before": "2026-11-26"}),
            None,
            "tensorgate model sign",
        ),
    ] {
        let found = judged("required", &signed(signed_at_s), &policy(&key, &required));
        assert!(found.contains(expected), "{required}: {found}");
    }
}

#[test]
fn an_identity_is_trusted_if_its_provider_vouches_for_it() {
    let signed: Value = serde_json::from_str(&data("identities/mock.json")).unwrap();
    let mock = &signed["cases"]["mock"];
    let key = |identity: &Value, provider: &Value, trusted_root: String| {
        json!({
            "identity": identity, "identity_provider": provider, "trusted_root": trusted_root
        })
    };
    let root = || signed["trusted_root"].to_string();
    let (identity, provider) = (&mock["identity"], &signed["provider"]);
    let other = json!("https://other.example.com");
    for (key, expected) in [
        (key(identity, provider, root()), "it is accepted"),
        (key(&other, provider, root()), "is of none of the signers"),
        (key(identity, &other, root()), "is of none of the signers"),
        (key(identity, provider, "{}".to_owned()), "its trusted root"),
        (
            json!({"public_key": data("keys/p256.pub")}),
            "signed by a Sigstore identity",
        ),
    ] {
        let policy = policy(&key, &json!({}));
        let found = judged("identity", &mock["bundle"].to_string(), &policy);
        assert!(found.contains(expected), "{key}: {found}");
    }
    // The log says when it was signed.
    let key = key(identity, provider, root());
    for (day, expected) in [
        ("2020-01-01", "it is accepted"),
        ("2100-01-01", "is not enough"),
    ] {
        let required = json!({"subject": "model", "not_before": day});
        let policy = policy(&key, &required);
        let found = judged("day", &mock["bundle"].to_string(), &policy);
        assert!(found.contains(expected), "{day}: {found}");
    }
}
