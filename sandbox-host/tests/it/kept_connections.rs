//! Kept HTTP/1.1 connections to a backend, over real sockets: what shares one, what closes it, and
//! what is sent again if a server closes one. The rules for desynchronised answers are tested where
//! they are, in `net/src/http1/tests.rs`.

use std::time::Duration;

use serde_json::{Value, json};
use tensorgate_client::pki::Authority;
use tensorgate_client::stand_in::http_json::{Act, Server};
use tensorgate_wire::context::Context;

use crate::http_json::{ANSWER, ask, own};
use crate::{openai, support};
use support::secured::Front;
use support::{INFER, Running, context, infer_body, key, start, start_with, until};

/// The longest time for which the rest of an answer is read, and some more.
const REST_TIME: Duration = Duration::from_millis(150);

/// How often this has happened to connections to the backend `b`.
fn count(running: &Running, event: &str) -> u64 {
    let name =
        format!("tensorgate_host_backend_connections_total{{backend=\"b\",event=\"{event}\"}} ");
    let metrics = running.metrics();
    let mut lines = metrics.lines();
    let line = lines.find_map(|line| line.strip_prefix(&name));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn requests_share_a_connection_also_after_errors_with_a_body() {
    let server = Server::start(Act::Say(200, ANSWER.to_owned())).await;
    let running = start(own(&[&server], json!({}))).await;
    running.ready().await;
    for status in [200, 400, 404, 429, 503, 500, 200, 200] {
        server.set(Act::Say(status, ANSWER.to_owned()));
        ask(&running).await;
        assert_eq!(count(&running, "opened"), 1, "{status}");
        // The rest of an error's body is read by another task.
        tokio::time::sleep(REST_TIME).await;
    }
    assert_eq!(server.seen().len(), 8);
    assert_eq!(
        (count(&running, "opened"), count(&running, "reused")),
        (1, 7)
    );
    until("it was idle for long enough", || {
        count(&running, "closed-idle") == 1
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_policy_chooses_which_requests_share_a_connection() {
    for (connections, opened, reused) in [
        ("shared", 1, 3),
        ("per-client", 2, 2),
        ("one-request", 4, 0),
    ] {
        let server = Server::start(Act::Say(200, ANSWER.to_owned())).await;
        let mut policy = own(&[&server], json!({"connections": connections}));
        policy["clients"]["other"] = json!({"api_keys": [{"sha256": "04".repeat(32)}]});
        policy["grants"][0]["clients"] = json!(["scorer", "other"]);
        let running = start(policy).await;
        running.ready().await;
        for _ in 0..2 {
            assert_eq!(ask(&running).await.status, 200);
            let other = Context {
                client: Some("other".to_owned()),
                credential: Some("key:0404040404040404".to_owned()),
                ..context("POST", INFER)
            };
            let contexts = [other.sign(&key())];
            let body = infer_body(&[1.5, -2.0]);
            let answer = running.gate.send("POST", INFER, &contexts, body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        let counts = (count(&running, "opened"), count(&running, "reused"));
        assert_eq!(counts, (opened, reused), "{connections}");
        running.stop().await;
    }
}

#[tokio::test]
async fn a_request_on_a_kept_connection_that_closes_is_sent_again_only_within_the_budget() {
    for (attempts, seen) in [(0, 2), (1, 3)] {
        let server = Server::start(Act::Say(200, ANSWER.to_owned())).await;
        let retry = match attempts {
            0 => json!({}),
            _ => json!({"retry": {"attempts": attempts, "budget_percent": 100}}),
        };
        let running = start(own(&[&server], retry)).await;
        running.ready().await;
        assert_eq!(ask(&running).await.status, 200);
        server.set(Act::Close);
        let answer = ask(&running).await;
        assert_eq!(answer.reason(), "backend-unavailable", "{answer:?}");
        assert_eq!(server.seen().len(), seen);
        running.stop().await;
    }
}

#[tokio::test]
async fn a_request_is_not_sent_again_once_a_part_of_an_answer_was_read() {
    let server = Server::start(Act::BreakOff).await;
    let retry = json!({"retry": {"attempts": 3, "budget_percent": 100}});
    let running = start(own(&[&server], retry)).await;
    running.ready().await;
    assert_eq!(ask(&running).await.reason(), "backend-unavailable");
    assert_eq!(server.seen().len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn replaced_certificates_open_a_new_connection() {
    let (authority, leaf_name) = (Authority::new("ours").unwrap(), ["dns:localhost"]);
    let leaf = authority.issue(1, &leaf_name).unwrap();
    let server = Server::start(Act::Say(200, ANSWER.to_owned())).await;
    let front = Front::start("127.0.0.1:0", server.address, &leaf, Some(&authority));
    let gate = authority.issue(2, &["dns:gate"]).unwrap();
    let tls = json!({"ca": "ca.pem", "cert": "gate.pem", "key": "gate.key"});
    let mut policy = own(&[&server], json!({"tls": tls, "timeout_ms": 10_000}));
    policy["backends"]["b"]["endpoints"] = json!([front.uri("localhost")]);
    let files = [
        ("ca.pem", authority.pem.as_bytes()),
        ("gate.pem", gate.pem.as_bytes()),
        ("gate.key", gate.key.as_bytes()),
    ];
    let running = start_with(policy, &files).await;
    running.ready().await;
    for _ in 0..2 {
        assert_eq!(ask(&running).await.status, 200);
    }
    assert_eq!(
        (count(&running, "opened"), count(&running, "reused")),
        (1, 1)
    );
    let gate = authority.issue(3, &["dns:gate"]).unwrap();
    running.replace("gate.key", &gate.key);
    running.replace("gate.pem", &gate.pem);
    assert_eq!(ask(&running).await.status, 200);
    assert_eq!(
        (count(&running, "opened"), count(&running, "reused")),
        (2, 1)
    );
    assert_eq!(count(&running, "closed-identity"), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_reload_keeps_connections_of_a_backend_that_did_not_change() {
    let server = Server::start(Act::Say(200, ANSWER.to_owned())).await;
    let policy = own(&[&server], json!({}));
    let running = start(policy.clone()).await;
    running.ready().await;
    assert_eq!(ask(&running).await.status, 200);
    let mut other = policy.clone();
    other["listen"]["limits"]["body_bytes"] = json!(1024);
    for (generation, policy, opened) in [
        ("1111111111111111", other.clone(), 1),
        ("2222222222222222", changed(other), 2),
    ] {
        running.reload(generation, &policy).await;
        running.ready().await;
        let answer = running.infer_as("scorer", generation, &[1.5, -2.0]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(count(&running, "opened"), opened, "{generation}");
    }
    running.stop().await;
}

/// Another rule for the backend.
fn changed(mut policy: Value) -> Value {
    policy["backends"]["b"]["timeout_ms"] = json!(4_321);
    policy
}

#[tokio::test]
async fn a_stream_that_ends_as_declared_lets_its_connection_be_kept() {
    let (_server, running) = openai::started(20_000).await;
    let mut body = openai::hello();
    body["stream"] = json!(true);
    for _ in 0..3 {
        let answer = running
            .gate
            .call("POST", openai::CHAT, body.to_string())
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        // The last chunk is read by another task.
        tokio::time::sleep(REST_TIME).await;
    }
    // Probes share the connections, so how many there are depends on their times.
    assert_eq!(count(&running, "closed-unread"), 0);
    assert!(count(&running, "reused") >= 2);
    running.stop().await;
}
