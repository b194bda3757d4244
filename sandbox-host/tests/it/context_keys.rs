//! Exchanging the context key of a running host: the new key is accepted beside the old one, all
//! that belongs to a request has the key of its context, and a removed key is rejected as a
//! configuration error.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use tensorgate_host::Host;
use tensorgate_judge::context_keys::ContextKeys;
use tensorgate_wire::context::verdict::{VerdictSubject, behind_body};
use tensorgate_wire::context::{Key, RemainingQuotas};

use crate::support;
use support::backend::{Act, Backend};
use support::{Answer, Gate, INFER, PATIENCE, context, folder, infer_body, policy, settings};

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

/// A request whose context and whose verdict on the body have these keys.
async fn ask(gate: &Gate, context_key: u8, verdict_key: u8) -> Answer {
    let [context_key, verdict_key] =
        [context_key, verdict_key].map(|byte| Key::from_hex(&digits(byte)).unwrap());
    let mut context = context("POST", INFER);
    context.verdicts = 1;
    let subject = VerdictSubject {
        client: context.client.as_deref(),
        request_id: &context.request_id,
        method: "POST",
        path: INFER,
        generation: &context.generation,
    };
    let mut body = infer_body(&[1.0]);
    let verdict = subject.sign(&verdict_key, 0, &RemainingQuotas::default());
    body.extend(behind_body(&verdict));
    let contexts = [context.sign(&context_key)];
    gate.send("POST", INFER, &contexts, body).await
}

/// Repeats a request until it has this status: the file is looked at once a second.
async fn comes_to(gate: &Gate, key: u8, status: u16) {
    let repeated = async {
        while ask(gate, key, key).await.status != status {
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
    let unknown = ask(&gate, 2, 2).await;
    assert_eq!(
        (unknown.status, unknown.reason().as_str()),
        (503, "overloaded")
    );

    write(&file, &[2, 1]);
    comes_to(&gate, 2, 200).await;
    assert_eq!(ask(&gate, 1, 1).await.status, 200);
    // A key that is accepted is still not the key of this request.
    for (context_key, verdict_key) in [(1, 2), (2, 1)] {
        let mixed = ask(&gate, context_key, verdict_key).await;
        assert_eq!(mixed.status, 401, "{context_key} {verdict_key}: {mixed:?}");
    }

    write(&file, &[2]);
    comes_to(&gate, 1, 503).await;
    assert_eq!(ask(&gate, 2, 2).await.status, 200);
    assert!(host.shutdown().await);
    std::fs::remove_dir_all(folder).unwrap();
}
