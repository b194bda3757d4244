//! Identities from an agent of SPIFFE's Workload API: the gate's own certificate and the
//! authorities that it trusts. The test's own agent speaks the protocol over a real socket. Its
//! answers change under load, are withheld and are garbled.

use crate::support;
use crate::support::secured;

mod agent;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prost::Message;
use serde_json::{Value, json};
use tensorgate_client::pki::Authority;
use tensorgate_host::policy_store::policy_versions::LoadOutcome;
use tensorgate_wire::context::Context;
use tokio_rustls::rustls::pki_types::CertificateRevocationListDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use agent::{Agent, GATE, X509Svid, X509SvidResponse, der, says, workload};
use secured::Front;
use support::backend::{Act, Backend};
use support::{INFER, Running, context, folder, infer_body, key, policy, start, until};

const SERVER: &str = "spiffe://prod/ns/ml/sa/triton";
const ELSEWHERE: &str = "spiffe://elsewhere/triton";

/// The path of an agent's socket.
fn socket() -> PathBuf {
    folder().join("agent.sock")
}

fn tls(socket: &Path, id: &str) -> Value {
    json!({"workload_api": format!("unix:{}", socket.display()), "spiffe": id})
}

/// A host in front of these servers, whose only trust anchors come from an agent.
async fn host(fronts: &[&Front], socket: &Path, id: &str) -> Running {
    start(document(fronts, socket, id)).await
}

/// Its policy.
fn document(fronts: &[&Front], socket: &Path, id: &str) -> Value {
    let settings = json!({"tls": tls(socket, id), "timeout_ms": 5_000, "health_check": {"interval_s": 1},
        "retry": {"attempts": 2, "budget_percent": 100}});
    let mut policy = policy("", json!({}), settings);
    let uris: Vec<_> = fronts.iter().map(|front| front.uri("localhost")).collect();
    policy["backends"]["b"]["endpoints"] = json!(uris);
    policy
}

/// A revocation list of an authority: the certificate with this number.
fn list(authority: &Authority, serial: u64) -> Vec<u8> {
    list_until(2126, authority, serial)
}

/// The same, which expires in that year.
fn list_until(year: i32, authority: &Authority, serial: u64) -> Vec<u8> {
    let leaf = workload(authority, serial, SERVER);
    let list = authority.revoke_until(year, 1, &[&leaf]).unwrap();
    let list = CertificateRevocationListDer::from_pem_slice(list.as_bytes());
    list.unwrap().to_vec()
}

const ANYWHERE: &str = "127.0.0.1:0";

#[tokio::test]
async fn the_agent_provides_the_gates_identity_and_its_trust_anchors() {
    let (ours, theirs) = (
        Authority::new("ours").unwrap(),
        Authority::new("theirs").unwrap(),
    );
    let before = Authority::new("ours").unwrap();
    let with = |crl| X509SvidResponse {
        crl,
        ..says(&workload(&ours, 2, GATE), &[&theirs, &before, &ours])
    };
    for (what, server, id, said, expected) in [
        (
            "a server of the same trust domain",
            workload(&ours, 1, SERVER),
            SERVER,
            says(&workload(&ours, 2, GATE), &[&theirs, &ours]),
            true,
        ),
        (
            "another workload",
            workload(&ours, 1, "spiffe://prod/ns/ml/sa/other"),
            SERVER,
            says(&workload(&ours, 2, GATE), &[&ours]),
            false,
        ),
        (
            "a server whose authority the agent does not name",
            workload(&ours, 1, SERVER),
            SERVER,
            says(&workload(&ours, 2, GATE), &[&theirs]),
            false,
        ),
        (
            "a gate whose authority the server does not know",
            workload(&ours, 1, SERVER),
            SERVER,
            says(&workload(&theirs, 2, GATE), &[&ours]),
            false,
        ),
        (
            "a server of a trust domain that ours is federated with",
            workload(&ours, 1, ELSEWHERE),
            ELSEWHERE,
            X509SvidResponse {
                federated_bundles: HashMap::from([(
                    "spiffe://elsewhere".to_owned(),
                    der(&ours.pem),
                )]),
                ..says(&workload(&ours, 2, GATE), &[&theirs])
            },
            true,
        ),
        (
            "a server of a trust domain that ours is not federated with",
            workload(&ours, 1, ELSEWHERE),
            ELSEWHERE,
            says(&workload(&ours, 2, GATE), &[&ours]),
            false,
        ),
        (
            "a server that no list of revoked certificates names",
            workload(&ours, 1, SERVER),
            SERVER,
            with(vec![list(&ours, 2)]),
            true,
        ),
        (
            "a server whose authority takes its certificate back",
            workload(&ours, 1, SERVER),
            SERVER,
            with(vec![list(&ours, 1)]),
            false,
        ),
        (
            "a server that the second list of its authority names",
            workload(&ours, 1, SERVER),
            SERVER,
            with(vec![list(&ours, 3), list(&ours, 1)]),
            false,
        ),
        (
            "a server that another's list names",
            workload(&ours, 1, SERVER),
            SERVER,
            with(vec![list(&theirs, 1)]),
            true,
        ),
        (
            "a server that the list of another authority of the same name names",
            workload(&ours, 1, SERVER),
            SERVER,
            with(vec![list(&before, 1), list(&ours, 3)]),
            true,
        ),
        (
            "a server whose authority's list has lapsed",
            workload(&ours, 1, SERVER),
            SERVER,
            with(vec![list_until(2017, &ours, 3)]),
            false,
        ),
    ] {
        let backend = Backend::start(Act::Answer);
        let front = Front::start(ANYWHERE, backend.address, &server, Some(&ours));
        let socket = socket();
        let agent = Agent::start(&socket);
        let running = host(&[&front], &socket, id).await;
        if expected {
            // There is no identity yet, so no request is sent.
            assert_eq!(running.gate.infer(&[1.0]).await.status, 503, "{what}");
            agent.say(&said);
            running.ready().await;
            assert_eq!(running.gate.infer(&[1.0]).await.status, 200, "{what}");
        } else {
            agent.say(&said);
            until("the agent was heard", || agent.asked() > 0).await;
            for _ in 0..10 {
                assert_eq!(running.gate.infer(&[1.0]).await.status, 503, "{what}");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            assert_eq!(backend.looked(), 0, "{what}");
        }
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_is_renewed_and_authorities_change_without_a_failed_request() {
    let (old, new) = (
        Authority::new("old").unwrap(),
        Authority::new("new").unwrap(),
    );
    let (first, second) = (Backend::start(Act::Answer), Backend::start(Act::Answer));
    let before = Front::start(
        ANYWHERE,
        first.address,
        &workload(&old, 1, SERVER),
        Some(&old),
    );
    let after = Front::start(
        ANYWHERE,
        second.address,
        &workload(&new, 2, SERVER),
        Some(&new),
    );
    let socket = socket();
    let agent = Agent::start(&socket);
    agent.say(&says(&workload(&old, 3, GATE), &[&old]));
    let document = document(&[&before, &after], &socket, SERVER);
    let running = start(document.clone()).await;
    running.ready().await;
    let stop = Arc::new(AtomicBool::new(false));
    let asking = tokio::spawn({
        let (gate, stop) = (running.gate.clone(), Arc::clone(&stop));
        async move {
            let mut statuses = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                statuses.push(gate.infer(&[1.0]).await.status);
            }
            statuses
        }
    });
    until("the first answers", || first.begun() >= 20).await;
    assert_eq!(second.begun(), 0, "its authority is not known yet");
    // An unusable answer leaves the previous one in force, and so does an agent that goes away.
    agent.says(Ok(vec![0xff; 100]));
    agent.say(&X509SvidResponse::default());
    drop(agent);
    let more = first.begun() + 20;
    until("the first answers still", || first.begun() >= more).await;
    let agent = Agent::start(&socket);
    agent.say(&says(&workload(&new, 4, GATE), &[&old, &new]));
    until("the second answers", || second.begun() >= 20).await;
    // A new backend has no answer of its agent yet, and waits for it.
    let next = "1111111111111111";
    let mut other = document.clone();
    other["backends"]["b"]["max_in_flight"] = json!(5);
    let attempt = running.reload(next, &other).await;
    assert_eq!(attempt.outcome, LoadOutcome::Loaded, "{attempt:?}");
    let context = Context {
        generation: next.to_owned(),
        ..context("POST", INFER)
    };
    let contexts = [context.sign(&key())];
    let answer = running
        .gate
        .send("POST", INFER, &contexts, infer_body(&[1.0]))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // Open connections stay; new ones use the latest answer.
    drop(before);
    let more = second.begun() + 20;
    until("the second answers alone", || second.begun() >= more).await;
    stop.store(true, Ordering::SeqCst);
    let statuses = asking.await.unwrap();
    let failed = statuses.iter().filter(|status| **status != 200).count();
    assert_eq!(failed, 0, "of {}", statuses.len());
    running.stop().await;
}

/// What another answer of the agent changes for the next connection.
#[tokio::test]
async fn withdrawn_identities_are_not_used_and_garbled_answers_are_ignored() {
    let ours = Authority::new("ours").unwrap();
    let good = || X509SvidResponse {
        federated_bundles: HashMap::from([("spiffe://elsewhere".to_owned(), der(&ours.pem))]),
        ..says(&workload(&ours, 2, GATE), &[&ours])
    };
    let lacks = |change: fn(&mut X509Svid)| {
        let mut said = good();
        change(&mut said.svids[0]);
        Ok(said.encode_to_vec())
    };
    let second = |change: fn(&mut X509Svid)| {
        let mut said = good();
        let mut more = said.svids[0].clone();
        change(&mut more);
        said.svids.push(more);
        Ok(said.encode_to_vec())
    };
    let unfederated = X509SvidResponse {
        federated_bundles: HashMap::new(),
        ..good()
    };
    let other = says(&workload(&ours, 3, "spiffe://prod/other"), &[&ours]);
    for (what, word, expected) in [
        ("it denies the host an identity", Err("7"), 503),
        (
            "it is federated with the server's domain no more",
            Ok(unfederated.encode_to_vec()),
            503,
        ),
        ("it has something else to do", Err("14"), 200),
        ("it says that it was asked wrongly", Err("3"), 200),
        ("nothing", Ok(Vec::new()), 200),
        ("no id", lacks(|svid| svid.spiffe_id.clear()), 200),
        ("no authorities", lacks(|svid| svid.bundle.clear()), 200),
        (
            "a second identity without a key",
            second(|svid| svid.x509_svid_key.clear()),
            200,
        ),
        (
            "a list of revoked certificates that is none",
            Ok(X509SvidResponse {
                crl: vec![vec![0x30, 0x00]],
                ..good()
            }
            .encode_to_vec()),
            200,
        ),
        (
            "the server's certificate is revoked",
            Ok(X509SvidResponse {
                crl: vec![list(&ours, 1)],
                ..good()
            }
            .encode_to_vec()),
            503,
        ),
        (
            "another's certificate",
            Ok(X509SvidResponse {
                svids: other.svids.clone(),
                ..good()
            }
            .encode_to_vec()),
            200,
        ),
    ] {
        let backend = Backend::start(Act::Answer);
        let leaf = workload(&ours, 1, ELSEWHERE);
        // No other process gets this port while it is closed.
        let address = format!("127.0.0.1:{}", tensorgate_client::run::free_port());
        let front = Front::start(&address, backend.address, &leaf, Some(&ours));
        let socket = socket();
        let agent = Agent::start(&socket);
        agent.say(&good());
        let running = host(&[&front], &socket, ELSEWHERE).await;
        running.ready().await;
        let asked = agent.asked();
        let ends = word.is_err();
        agent.says(word);
        if ends {
            until("the agent is asked again", || {
                agent.asked() > asked || expected == 200
            })
            .await;
        } else {
            // A later request gets the same response.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert_eq!(running.gate.infer(&[1.0]).await.status, 200, "{what}");
        // Its server comes back at its address: the next connection is a new one.
        drop(front);
        until("the connection is lost", || !running.models_ready()).await;
        let front = Front::start(&address, backend.address, &leaf, Some(&ours));
        if expected == 200 {
            running.ready().await;
            assert_eq!(running.gate.infer(&[1.0]).await.status, 200, "{what}");
        } else {
            for _ in 0..20 {
                assert_eq!(running.gate.infer(&[1.0]).await.status, expected, "{what}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            agent.say(&good());
            running.ready().await;
            assert_eq!(running.gate.infer(&[1.0]).await.status, 200, "{what}");
        }
        drop(front);
        running.stop().await;
    }
}
