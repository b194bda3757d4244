//! Components that must be signed: which are loaded, which are rejected at start and at a reload,
//! and that the loaded ones keep serving.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tensorgate_host::policy_store::policy_versions::LoadOutcome;
use tensorgate_policy::hex;
use tensorgate_policy::policy::SignedAs;
use tensorgate_settings::component::sign;
use tensorgate_signature::PrivateKey;

use crate::support;
use crate::support::guests;
use support::backend::{Act, Backend};
use support::{GENERATION, Running, context, infer_body, key as gate_key, policy, start_with};

const SIGNATURE: &str = "h.wasm.sigstore.json";

/// Answers one tensor of two numbers, the same for any `mark`; the mark only changes the bytes.
fn component(mark: u32) -> Vec<u8> {
    guests::preprocess(&format!(
        "(drop (i32.const {mark}))
        (i64.store (i32.const 3000) (i64.const 2))
        (call $tensor (i32.const 2048) (i32.const 11) (i32.const 4096) (i32.const 8))
        (i32.store8 (i32.const 0) (i32.const 120))
        (i32.store offset=12 (i32.const 2048) (i32.const 3000)) (i32.store offset=16 (i32.const 2048) (i32.const 1))
        (call $ok (i32.const 2048) (i32.const 1))",
    ))
}

fn digest(component: &[u8]) -> [u8; 32] {
    Sha256::digest(component).into()
}

fn key(number: u8) -> PrivateKey {
    PrivateKey::from_seed([number; 32])
}

fn signature(component: &[u8], signed_as: &str, by: u8) -> String {
    let signed_as = SignedAs::parse(signed_as).unwrap();
    sign(&digest(component), &signed_as, &key(by))
}

/// A policy whose handler is this component, signed with these keys under this name.
fn signed(backend: &Backend, component: &[u8], keys: &[u8], signed_as: Option<&str>) -> Value {
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    let names: Vec<_> = keys.iter().map(|number| format!("k{number}")).collect();
    for (name, number) in names.iter().zip(keys) {
        policy["keys"][name] = json!({"ed25519": key(*number).public().to_hex()});
    }
    policy["handlers"] = json!({"h": {
        "component": "h.wasm", "sha256": hex(&digest(component)), "signed_by": names, "signed_as": signed_as,
        "fuel": 10_000_000, "memory_bytes": 1 << 20, "timeout_ms": 10_000
    }});
    let model = policy["models"]["vec"].as_object_mut().unwrap();
    model.insert("preprocess".to_owned(), json!("h"));
    model.insert("accepts".to_owned(), json!({"inputs": model["inputs"]}));
    policy
}

async fn serves(running: &Running, generation: &str) {
    let mut context = context("POST", support::INFER);
    context.generation = generation.to_owned();
    let signed = context.sign(&gate_key());
    let answer = (running.gate)
        .send("POST", support::INFER, &[signed], infer_body(&[1.0]))
        .await;
    assert_eq!(answer.status, 200, "{generation}");
}

/// A reload that fails with this text, while the loaded policy keeps serving.
async fn refused(running: &Running, next: &Value, text: &str) {
    let attempt = running.reload("1111111111111111", next).await;
    assert_eq!(attempt.outcome, LoadOutcome::Refused, "{text}: {attempt:?}");
    let [fault] = attempt.faults.as_slice() else {
        panic!("{text}: {attempt:?}")
    };
    assert!(
        fault.starts_with("handler h: ") && fault.contains(text),
        "{text}: {fault}"
    );
    serves(running, GENERATION).await;
}

#[tokio::test]
async fn a_component_without_a_valid_signature_is_not_loaded_and_the_old_one_keeps_serving() {
    let backend = Backend::start(Act::Answer);
    let (old, new) = (component(1), component(2));
    let by_one = signature(&old, "scale@1.0.0", 1);
    let first = signed(&backend, &old, &[1], Some("scale@1.0.0"));
    let running = start_with(first, &[("h.wasm", &old), (SIGNATURE, by_one.as_bytes())]).await;
    running.ready().await;
    serves(&running, GENERATION).await;

    running.replace_bytes("h.wasm", &new);
    let next = signed(&backend, &new, &[1], Some("scale@1.1.0"));
    let genuine = signature(&new, "scale@1.1.0", 1);
    // The old component's signature is still there.
    refused(&running, &next, "signs another component").await;
    running.remove(SIGNATURE);
    refused(&running, &next, "no signature").await;
    for (signature, text) in [
        (
            signature(&new, "scale@1.1.0", 2),
            "signed by none of the keys that count (k1)",
        ),
        (
            signature(&new, "scale@1.0.9", 1),
            "signs scale@1.0.9, the policy says scale@1.1.0",
        ),
        (signature(&new, "other@1.1.0", 1), "signs other@1.1.0"),
        (genuine.replace("v0.3", "v0.1"), "another media type"),
        (genuine.clone() + &" ".repeat(20_000), "larger than"),
        (String::new(), "not a signature"),
    ] {
        running.replace(SIGNATURE, &signature);
        refused(&running, &next, text).await;
    }
    // A folder, and a pipe without a writer, in its place.
    running.remove(SIGNATURE);
    std::fs::create_dir(running.folder().join(SIGNATURE)).unwrap();
    refused(&running, &next, "not a regular file").await;
    std::fs::remove_dir(running.folder().join(SIGNATURE)).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(running.folder().join(SIGNATURE))
        .status();
    assert!(made.unwrap().success());
    refused(&running, &next, "not a regular file").await;
    running.remove(SIGNATURE);

    running.replace(SIGNATURE, &genuine);
    // Signed, but the file has other bytes: only the signed bytes are compiled.
    running.replace_bytes("h.wasm", &component(3));
    refused(&running, &next, "sha256 is").await;
    running.replace_bytes("h.wasm", &new);
    let attempt = running.reload("1111111111111111", &next).await;
    assert_eq!(attempt.outcome, LoadOutcome::Loaded, "{attempt:?}");
    serves(&running, "1111111111111111").await;
    running.stop().await;
}

/// The audit log's lines about artifacts: action, kind, name, first digits of the digest, signer.
fn artifacts(running: &Running) -> Vec<String> {
    let lines = running.audited().into_iter();
    let lines = lines.filter(|line| line["type"] == "artifact");
    lines
        .map(|line| {
            let text = |field: &str| line[field].as_str().unwrap_or("-").to_owned();
            let digest: String = text("digest").chars().take(8).collect();
            let [action, kind, name, signer] = ["action", "kind", "name", "signer"].map(text);
            format!("{action} {kind} {name} {digest} {signer}")
        })
        .collect()
}

#[tokio::test]
async fn the_audit_log_says_which_handlers_were_loaded_unloaded_and_rejected() {
    let backend = Backend::start(Act::Answer);
    let (old, new) = (component(1), component(2));
    let [old_digest, new_digest] = [&old, &new].map(|file| hex(&digest(file))[..8].to_owned());
    let by_one = signature(&old, "scale@1.0.0", 1);
    let first = signed(&backend, &old, &[1], None);
    let running = start_with(first, &[("h.wasm", &old), (SIGNATURE, by_one.as_bytes())]).await;
    running.ready().await;
    let next = signed(&backend, &new, &[1, 2], None);
    running.replace_bytes("h.wasm", &new);
    // Twice: an equal rejection has no second record.
    refused(&running, &next, "signs another component").await;
    refused(&running, &next, "signs another component").await;
    running.replace(SIGNATURE, &signature(&new, "scale@1.1.0", 2));
    let attempt = running.reload("1111111111111111", &next).await;
    assert_eq!(attempt.outcome, LoadOutcome::Loaded, "{attempt:?}");
    support::until("the log has the reload", || artifacts(&running).len() >= 8).await;
    let found = artifacts(&running);
    let is_policy = |line: &&String| line.split(' ').nth(1) == Some("policy");
    let (policies, handlers): (Vec<_>, Vec<_>) = found.iter().partition(is_policy);
    assert_eq!(
        handlers,
        [
            &format!("loaded handler h {old_digest} k1"),
            &format!("rejected handler h {new_digest} -"),
            &format!("unloaded handler h {old_digest} k1"),
            &format!("loaded handler h {new_digest} k2"),
        ]
    );
    let names = policies
        .iter()
        .map(|line| line.rsplitn(3, ' ').nth(2).unwrap());
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            format!("loaded policy {GENERATION}"),
            "rejected policy 1111111111111111".to_owned(),
            format!("unloaded policy {GENERATION}"),
            "loaded policy 1111111111111111".to_owned(),
        ]
    );
    running.stop().await;
}

#[tokio::test]
async fn keys_are_rotated_and_revoked_without_changing_the_component() {
    let backend = Backend::start(Act::Answer);
    let component = component(1);
    let by_one = signature(&component, "scale@1.0.0", 1);
    let files = [
        ("h.wasm", component.as_slice()),
        (SIGNATURE, by_one.as_bytes()),
    ];
    let running = start_with(signed(&backend, &component, &[1], None), &files).await;
    running.ready().await;
    refused(
        &running,
        &signed(&backend, &component, &[2], None),
        "none of the keys that count (k2)",
    )
    .await;
    let both = running
        .reload(
            "2222222222222222",
            &signed(&backend, &component, &[1, 2], None),
        )
        .await;
    assert_eq!(both.outcome, LoadOutcome::Loaded, "{both:?}");
    running.replace(SIGNATURE, &signature(&component, "scale@1.0.0", 2));
    let only = running
        .reload(
            "3333333333333333",
            &signed(&backend, &component, &[2], None),
        )
        .await;
    assert_eq!(only.outcome, LoadOutcome::Loaded, "{only:?}");
    serves(&running, "3333333333333333").await;
    running.stop().await;
}

#[tokio::test]
async fn a_removed_signature_fails_every_reload() {
    let backend = Backend::start(Act::Answer);
    let component = component(1);
    let by_one = signature(&component, "scale@1.0.0", 1);
    let files = [
        ("h.wasm", component.as_slice()),
        (SIGNATURE, by_one.as_bytes()),
    ];
    let first = signed(&backend, &component, &[1], None);
    let running = start_with(first.clone(), &files).await;
    running.ready().await;
    let again = async || running.reload(GENERATION, &first).await;
    assert_eq!(again().await.outcome, LoadOutcome::Unchanged);
    let mut wider = first.clone();
    wider["models"]["vec"]["inputs"][0]["range"] = json!([-9, 9]);
    running.remove(SIGNATURE);
    // The same policy, and one in which the handler is the same.
    let same = again().await;
    assert_eq!(same.outcome, LoadOutcome::Refused, "{same:?}");
    assert!(same.faults[0].contains("no signature"), "{same:?}");
    refused(&running, &wider, "no signature").await;
    running.replace(SIGNATURE, &by_one);
    assert_eq!(again().await.outcome, LoadOutcome::Unchanged);
    let attempt = running.reload("1111111111111111", &wider).await;
    assert_eq!(attempt.outcome, LoadOutcome::Loaded, "{attempt:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_builtin_handler_has_the_same_signature_rules() {
    let backend = Backend::start(Act::Answer);
    let (old, new) = (component(1), component(2));
    let running = start_with(policy(&backend.uri(), json!({}), json!({})), &[]).await;
    running.ready().await;
    let builtin = |component: &[u8], keys: &[u8]| {
        let mut policy = signed(&backend, component, keys, None);
        policy["handlers"]["h"]["component"] = json!("builtin:scale");
        policy
    };
    refused(&running, &builtin(&old, &[1]), "no signature").await;
    std::fs::create_dir(running.folder().join("builtins")).unwrap();
    running.replace_bytes("builtins/scale.wasm", &new);
    let by_one = signature(&old, "scale@0.1.0", 1);
    running.replace("builtins/scale.wasm.sigstore.json", &by_one);
    // Of another release than the one that the policy names.
    refused(&running, &builtin(&old, &[1]), "sha256 is").await;
    refused(&running, &builtin(&new, &[1]), "signs another component").await;
    running.replace_bytes("builtins/scale.wasm", &old);
    refused(&running, &builtin(&old, &[2]), "signed by none").await;
    let attempt = running
        .reload("1111111111111111", &builtin(&old, &[1]))
        .await;
    assert_eq!(attempt.outcome, LoadOutcome::Loaded, "{attempt:?}");
    serves(&running, "1111111111111111").await;
    running.stop().await;
}

#[tokio::test]
async fn a_handler_of_a_grant_needs_its_signature_too() {
    let backend = Backend::start(Act::Answer);
    let component = component(1);
    let mut policy = signed(&backend, &component, &[1], Some("scale@1.0.0"));
    let model = policy["models"]["vec"].as_object_mut().unwrap();
    model.remove("preprocess");
    model.remove("accepts");
    policy["clients"]["partner"] = json!({"api_keys": [{"sha256": "04".repeat(32)}]});
    let mut partners = policy["grants"][0].clone();
    partners["name"] = json!("partners");
    partners["clients"] = json!(["partner"]);
    partners["handlers"] = json!({"vec": {"preprocess": "h"}});
    policy["grants"].as_array_mut().unwrap().push(partners);
    let right = signature(&component, "scale@1.0.0", 1);
    let running = start_with(
        policy.clone(),
        &[("h.wasm", &component), (SIGNATURE, right.as_bytes())],
    )
    .await;
    running.ready().await;
    let asked = async |generation: &str| {
        let mut context = context("POST", support::INFER);
        generation.clone_into(&mut context.generation);
        context.client = Some("partner".to_owned());
        let contexts = [context.sign(&gate_key())];
        let body = infer_body(&[1.0]);
        let answer = running.gate.send("POST", support::INFER, &contexts, body);
        assert_eq!(answer.await.status, 200, "{generation}");
    };
    asked(GENERATION).await;
    // A reload of the same policy checks again.
    running.replace(SIGNATURE, &signature(&component, "scale@1.0.0", 2));
    policy["keys"]["k2"] = json!({"ed25519": key(2).public().to_hex()});
    refused(
        &running,
        &policy,
        "signed by none of the keys that count (k1)",
    )
    .await;
    asked(GENERATION).await;
    running.replace(SIGNATURE, &right);
    let attempt = running.reload("2222222222222222", &policy).await;
    assert_eq!(attempt.outcome, LoadOutcome::Loaded, "{attempt:?}");
    asked("2222222222222222").await;
    running.stop().await;
}
