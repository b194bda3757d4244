//! TLS to a model server: which server is trusted, the gate's own identity, and certificates that
//! are replaced.

use std::time::Duration;

use serde_json::{Value, json};
use tensorgate_client::pki::{Authority, Leaf};
use tensorgate_host::policy_store::policy_versions::LoadOutcome;

use crate::support;
use crate::support::secured;
use secured::Front;
use support::backend::{Act, Backend};
use support::{Running, policy, start_with};

const ANYWHERE: &str = "127.0.0.1:0";

async fn host(uri: &str, tls: Value, files: &[(&str, &str)]) -> Running {
    let files: Vec<_> = files
        .iter()
        .map(|(name, content)| (*name, content.as_bytes()))
        .collect();
    start_with(
        policy(uri, json!({}), json!({"tls": tls, "timeout_ms": 10_000})),
        &files,
    )
    .await
}

/// The answer to a client, and whether the server behind TLS received anything.
async fn outcome(
    leaf: &Leaf,
    clients: Option<&Authority>,
    host_name: &str,
    tls: Value,
    files: &[(&str, &str)],
) -> (u16, bool) {
    let server = Backend::start(Act::Answer);
    let front = Front::start(ANYWHERE, server.address, leaf, clients);
    let running = host(&front.uri(host_name), tls, files).await;
    let status = running.gate.infer(&[1.0]).await.status;
    let seen = server.begun() > 0 || server.looked() > 0;
    running.stop().await;
    (status, seen)
}

#[tokio::test]
async fn only_a_server_with_a_trusted_certificate_for_its_name_is_used() {
    let (ours, theirs) = (
        Authority::new("ours").unwrap(),
        Authority::new("theirs").unwrap(),
    );
    let named = ["dns:localhost", "ip:127.0.0.1"];
    let ca = [("ca.pem", ours.pem.as_str())];
    let tls = json!({"ca": "ca.pem"});
    for (what, leaf, name, expected) in [
        (
            "a name",
            ours.issue(1, &named).unwrap(),
            "localhost",
            (200, true),
        ),
        (
            "an address",
            ours.issue(2, &named).unwrap(),
            "127.0.0.1",
            (200, true),
        ),
        (
            "another name",
            ours.issue(3, &["dns:elsewhere"]).unwrap(),
            "localhost",
            (503, false),
        ),
        (
            "another authority",
            theirs.issue(4, &named).unwrap(),
            "localhost",
            (503, false),
        ),
    ] {
        assert_eq!(
            outcome(&leaf, None, name, tls.clone(), &ca).await,
            expected,
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_workload_is_identified_by_its_spiffe_id_and_not_by_its_address() {
    let ours = Authority::new("ours").unwrap();
    let ca = [("ca.pem", ours.pem.as_str())];
    let tls = json!({"ca": "ca.pem", "spiffe": "spiffe://prod/ns/ml/sa/triton"});
    for (what, names, expected) in [
        (
            "itself",
            &["uri:spiffe://prod/ns/ml/sa/triton"][..],
            (200, true),
        ),
        (
            "another",
            &["uri:spiffe://prod/ns/ml/sa/other"],
            (503, false),
        ),
        (
            "a longer one",
            &["uri:spiffe://prod/ns/ml/sa/triton2"],
            (503, false),
        ),
        (
            "two at once",
            &["uri:spiffe://prod/ns/ml/sa/triton", "uri:spiffe://prod/b"],
            (503, false),
        ),
        ("a host name", &["dns:localhost"], (503, false)),
    ] {
        let leaf = ours.issue(1, names).unwrap();
        assert_eq!(
            outcome(&leaf, None, "localhost", tls.clone(), &ca).await,
            expected,
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_server_that_requests_a_client_certificate_gets_the_gates() {
    let (ours, theirs) = (
        Authority::new("ours").unwrap(),
        Authority::new("theirs").unwrap(),
    );
    let server = ours.issue(1, &["dns:localhost"]).unwrap();
    let with = json!({"ca": "ca.pem", "cert": "gate.pem", "key": "gate.key"});
    for (what, gate, tls, expected) in [
        ("a certificate", &ours, with.clone(), (200, true)),
        ("none", &ours, json!({"ca": "ca.pem"}), (503, false)),
        ("one of another authority", &theirs, with, (503, false)),
    ] {
        let gate = gate.issue(2, &["dns:gate"]).unwrap();
        let files = [
            ("ca.pem", ours.pem.as_str()),
            ("gate.pem", gate.pem.as_str()),
            ("gate.key", gate.key.as_str()),
        ];
        let got = outcome(&server, Some(&ours), "localhost", tls, &files).await;
        assert_eq!(got, expected, "{what}");
    }
}

#[tokio::test]
async fn replaced_certificates_apply_to_the_next_connection() {
    let (old, new) = (
        Authority::new("old").unwrap(),
        Authority::new("new").unwrap(),
    );
    let server = Backend::start(Act::Answer);
    let leaf = old.issue(1, &["dns:localhost"]).unwrap();
    // No other process gets this port while it is closed.
    let address = format!("127.0.0.1:{}", tensorgate_client::run::free_port());
    let front = Front::start(&address, server.address, &leaf, Some(&old));
    let gate = old.issue(2, &["dns:gate"]).unwrap();
    let tls = json!({"ca": "ca.pem", "cert": "gate.pem", "key": "gate.key"});
    let files = [
        ("ca.pem", old.pem.as_str()),
        ("gate.pem", gate.pem.as_str()),
        ("gate.key", gate.key.as_str()),
    ];
    let running = host(&front.uri("localhost"), tls, &files).await;
    assert_eq!(running.gate.infer(&[1.0]).await.status, 200);

    // The certificate and its key are not replaced at the same moment: meanwhile the previous ones
    // stay in force.
    let gate = new.issue(3, &["dns:gate"]).unwrap();
    running.replace("gate.pem", &gate.pem);
    drop(front);
    lost(&running).await;
    let front = Front::start(&address, server.address, &leaf, Some(&old));
    found(&running).await;

    // And neither does an invalid file change anything.
    running.replace("gate.key", &gate.key);
    running.replace("ca.pem", "rubbish");
    drop(front);
    lost(&running).await;
    let front = Front::start(&address, server.address, &leaf, Some(&old));
    found(&running).await;

    running.replace("ca.pem", &new.pem);
    drop(front);
    lost(&running).await;
    let leaf = new.issue(4, &["dns:localhost"]).unwrap();
    let _front = Front::start(&address, server.address, &leaf, Some(&new));
    found(&running).await;
    running.stop().await;
}

#[tokio::test]
async fn a_reload_reads_certificates_again_and_fails_for_unusable_ones() {
    let (old, new) = (
        Authority::new("old").unwrap(),
        Authority::new("new").unwrap(),
    );
    let server = Backend::start(Act::Answer);
    let leaf = old.issue(1, &["dns:localhost"]).unwrap();
    let front = Front::start(ANYWHERE, server.address, &leaf, None);
    let document = policy(
        &front.uri("localhost"),
        json!({}),
        json!({"tls": {"ca": "ca.pem"}, "timeout_ms": 10_000}),
    );
    let running = start_with(document.clone(), &[("ca.pem", old.pem.as_bytes())]).await;
    found(&running).await;
    let mut other = document.clone();
    *other.pointer_mut("/listen/limits/body_bytes").unwrap() = json!(1024);
    let next = "1111111111111111";

    // The backend is the same in both policies, but the contents of its files are not.
    running.replace("ca.pem", "rubbish");
    for (generation, policy) in [(support::GENERATION, &document), (next, &other)] {
        for again in [false, true] {
            let attempt = running.reload(generation, policy).await;
            let told = attempt.faults.iter().any(|fault| fault.contains("ca.pem"));
            assert!(
                told && attempt.outcome == LoadOutcome::Refused,
                "{generation} {again}: {attempt:?}"
            );
        }
    }
    assert_eq!(running.gate.infer(&[1.0]).await.status, 200);

    running.replace("ca.pem", &new.pem);
    for (generation, policy, outcome) in [
        (support::GENERATION, &document, LoadOutcome::Unchanged),
        (next, &other, LoadOutcome::Loaded),
    ] {
        let attempt = running.reload(generation, policy).await;
        assert_eq!(attempt.outcome, outcome, "{attempt:?}");
    }
    running.stop().await;
}

/// The server is gone, and the host has noticed it.
async fn lost(running: &Running) {
    assert_eq!(running.gate.infer(&[1.0]).await.status, 503);
}

/// Waits until a request is answered.
async fn found(running: &Running) {
    for _ in 0..1_500 {
        if running.gate.infer(&[1.0]).await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the connection never came back");
}
