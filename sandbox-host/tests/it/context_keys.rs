//! Exchanging the context key of a running host: the new key is accepted beside the old one, and a
//! removed key is rejected as a configuration error.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tensorgate_host::Host;
use tensorgate_judge::context_keys::ContextKeys;
use tensorgate_wire::context::Key;
use tensorgate_wire::readiness;

use crate::support;
use support::backend::{Act, Backend};
use support::{
    Answer, Gate, INFER, PATIENCE, context, folder, infer_body, policy, settings, start, until,
};

fn digits(byte: u8) -> String {
    format!("{byte:02x}").repeat(31) + "f0"
}

/// Replaces the key file, as a renewal does.
fn write(path: &Path, keys: &[u8]) {
    let fresh = path.with_extension("new");
    let lines: Vec<_> = keys.iter().map(|byte| digits(*byte)).collect();
    std::fs::write(&fresh, lines.join("\n")).unwrap();
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

/// A request whose context has this key.
async fn ask(gate: &Gate, key: u8) -> Answer {
    let key = Key::from_hex(&digits(key)).unwrap();
    let contexts = [context("POST", INFER).sign(&key)];
    gate.send("POST", INFER, &contexts, infer_body(&[1.0]))
        .await
}

/// Repeats a request until it has this status: the file is looked at once a second.
async fn comes_to(gate: &Gate, key: u8, status: u16) {
    let repeated = async {
        while ask(gate, key).await.status != status {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let result = tokio::time::timeout(PATIENCE, repeated).await;
    assert!(result.is_ok(), "key {key} never came to {status}");
}

#[tokio::test]
async fn a_key_is_exchanged_while_requests_arrive() {
    let backend = Backend::start(Act::Answer);
    let folder = folder();
    let file = folder.join("context.key");
    write(&file, &[1]);
    let mut settings = settings(policy(&backend.uri(), json!({}), json!({})), &folder);
    settings.context_keys = ContextKeys::read(&file).unwrap();
    let gate = Gate {
        socket: folder.join("host.sock"),
    };
    let host = Host::start(settings, Arc::new(|| 0)).await.unwrap();
    comes_to(&gate, 1, 200).await;
    let unknown = ask(&gate, 2).await;
    assert_eq!(
        (unknown.status, unknown.reason().as_str()),
        (503, "overloaded")
    );

    write(&file, &[2, 1]);
    comes_to(&gate, 2, 200).await;
    assert_eq!(ask(&gate, 1).await.status, 200);

    write(&file, &[2]);
    comes_to(&gate, 1, 503).await;
    assert_eq!(ask(&gate, 2).await.status, 200);
    assert!(host.shutdown().await);
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn another_key_leaves_one_line_that_the_request_id_finds() {
    let running = start(policy("http://127.0.0.1:9", json!({}), json!({}))).await;
    let mut context = context("POST", INFER);
    context.request_id = "8f1a2b3c-0000-4000-8000-0000000000aa".to_owned();
    let contexts = [context.sign(&Key::from_hex(&digits(7)).unwrap())];
    let gate = &running.gate;
    let answer = gate
        .send("POST", INFER, &contexts, infer_body(&[1.0]))
        .await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["instance"], context.request_id);
    let lines = || {
        let mut lines = running.audited();
        lines.retain(|line| line["type"] == "decision");
        lines
    };
    // Envoy's entry never comes here.
    until("its line is written", || !lines().is_empty()).await;
    let lines = lines();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert_eq!(lines[0]["request_id"], context.request_id);
    let detail = lines[0]["detail"].as_str().unwrap();
    assert!(detail.contains("signature"), "{detail}");
    assert!(lines[0]["client"].is_null(), "no client is proven");
    running.stop().await;
}

#[tokio::test]
async fn the_probe_of_a_pod_needs_the_key_and_leaves_no_line() {
    let running = start(policy("http://127.0.0.1:9", json!({}), json!({}))).await;
    let gate = &running.gate;
    let seen = || running.host.app().outcomes.filter_seen();
    let other_key = context("GET", readiness::PATH).sign(&Key::from_hex(&digits(7)).unwrap());
    let other_path = context("GET", "/v2/health/live").sign(&support::key());
    let mut old = context("GET", readiness::PATH);
    old.issued_unix_s -= readiness::MAX_AGE_S + 10;
    let old = old.sign(&support::key());
    for contexts in [vec![], vec![other_key], vec![other_path], vec![old]] {
        let answer = gate.send("GET", readiness::PATH, &contexts, "").await;
        assert!(matches!(answer.status, 401 | 503), "{answer:?}");
        assert!(!seen(), "{contexts:?}");
    }
    assert_eq!(gate.call("GET", readiness::PATH, "").await.status, 200);
    assert!(seen());
    // Its line is written before it is answered, and so are those of earlier requests.
    assert_eq!(gate.call("GET", "/v2/health/live", "").await.status, 200);
    for line in running.audited() {
        assert_ne!(line["path"], readiness::PATH, "{line}");
    }
    running.stop().await;
}
