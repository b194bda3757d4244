//! Several servers behind one backend: which gets a request, who gets one again, and who is left alone.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::sync::Arc;

use serde_json::{Value, json};
use support::backend::{Act, Backend};
use support::{Running, policy, start, until};
use tokio::sync::Semaphore;
use tonic::Code;

/// A host in front of servers, all of them seen ready.
async fn pool(servers: &[&Backend], backend: Value) -> Running {
    let mut policy = policy("", json!({}), backend);
    let uris: Vec<_> = servers.iter().map(|server| server.uri()).collect();
    *policy.pointer_mut("/backends/b/endpoints").unwrap() = json!(uris);
    let running = start(policy).await;
    running.ready().await;
    // One that is not looked at yet is not chosen.
    let known = || servers.iter().all(|server| server.looked() > 0);
    until("every server was looked at", known).await;
    running
}

fn statuses(answers: &[u16], status: u16) -> usize {
    answers.iter().filter(|found| **found == status).count()
}

async fn ask(running: &Running, times: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        statuses.push(running.gate.infer(&[1.0]).await.status);
    }
    statuses
}

#[tokio::test]
async fn each_request_goes_to_the_server_with_the_least_in_flight() {
    let gate = Arc::new(Semaphore::new(0));
    let slow = Backend::start(Act::Hold(Arc::clone(&gate)));
    let quick = Backend::start(Act::Answer);
    let running = pool(&[&slow, &quick], json!({})).await;
    let held = {
        let gate = running.gate.clone();
        tokio::spawn(async move { gate.infer(&[1.0]).await.status })
    };
    // The first may go to either; one of the first two goes to the slow one and stays.
    let first = tokio::spawn({
        let gate = running.gate.clone();
        async move { gate.infer(&[1.0]).await.status }
    });
    until("one is held", || slow.begun() == 1).await;
    assert_eq!(ask(&running, 10).await, [200; 10]);
    assert_eq!(slow.begun(), 1, "whoever is busy gets no more");
    gate.add_permits(1);
    assert_eq!((held.await.unwrap(), first.await.unwrap()), (200, 200));
    running.stop().await;
}

#[tokio::test]
async fn what_one_server_could_not_take_another_gets() {
    let busy = Backend::start(Act::Refuse(Code::Unavailable));
    let free = Backend::start(Act::Answer);
    let without = pool(&[&busy, &free], json!({})).await;
    assert_eq!(statuses(&ask(&without, 10).await, 503), 5, "in turn");
    without.stop().await;
    let running = pool(&[&busy, &free], json!({"retry": {"attempts": 1}})).await;
    assert_eq!(ask(&running, 10).await, [200; 10]);
    let metrics = running.metrics();
    assert!(
        metrics.contains("tensorgate_host_backend_retries_total{backend=\"b\"} 5"),
        "{metrics}"
    );
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_dies_costs_no_request() {
    let mut first = Backend::start(Act::Answer);
    let second = Backend::start(Act::Answer);
    let running = pool(&[&first, &second], json!({"retry": {"attempts": 1}})).await;
    assert_eq!(ask(&running, 4).await, [200; 4]);
    assert_eq!((first.begun(), second.begun()), (2, 2));
    first.die();
    assert_eq!(ask(&running, 20).await, [200; 20]);
    running.stop().await;
}

#[tokio::test]
async fn a_fault_and_a_late_answer_are_not_asked_for_again() {
    for (act, status) in [
        (Act::Refuse(Code::Internal), 502),
        (Act::Refuse(Code::DeadlineExceeded), 504),
        (Act::Never, 504),
    ] {
        let server = Backend::start(act);
        let backend = json!({"retry": {"attempts": 5, "budget_percent": 100}, "timeout_ms": 2000});
        let running = pool(&[&server], backend).await;
        assert_eq!(ask(&running, 1).await, [status]);
        assert_eq!(server.begun(), 1);
        running.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_only_takes_is_left_alone() {
    let hung = Backend::start(Act::Never);
    let good = Backend::start(Act::Answer);
    let outliers = json!({"consecutive_failures": 2, "base_ejection_s": 3600});
    let backend = json!({"timeout_ms": 2000, "outlier_detection": outliers});
    let running = pool(&[&hung, &good], backend).await;
    let answers = ask(&running, 20).await;
    assert_eq!(statuses(&answers, 504), 2, "{answers:?}");
    assert_eq!(statuses(&answers, 200), 18, "{answers:?}");
    assert_eq!(hung.begun(), 2);
    let metrics = running.metrics();
    assert!(
        metrics.contains("tensorgate_host_backend_ejections_total{backend=\"b\"} 1"),
        "{metrics}"
    );
    running.stop().await;
}
