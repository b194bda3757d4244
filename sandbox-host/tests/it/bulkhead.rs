//! Clients that share a backend. If one client floods it, the requests of others are still
//! answered. The permits and queue positions of a client that leaves are released.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tensorgate_wire::context::Context;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::support;
use support::backend::{Act, Backend};
use support::{Answer, Gate, INFER, Running, context, infer_body, key, policy, start, until};

/// A model that two clients may call.
fn two(backend: &Backend, limits: Value, settings: Value) -> Value {
    let mut policy = policy(&backend.uri(), limits, settings);
    policy["clients"]["other"] = json!({"api_keys": [{"sha256": "04".repeat(32)}]});
    policy["grants"][0]["clients"] = json!(["scorer", "other"]);
    policy
}

/// An inference by the second client.
async fn by_other(gate: &Gate, x: &[f32]) -> Answer {
    let other = Context {
        client: Some("other".to_owned()),
        credential: Some("key:0404040404040404".to_owned()),
        ..context("POST", INFER)
    };
    let contexts = [other.sign(&key())];
    gate.send("POST", INFER, &contexts, infer_body(x)).await
}

fn calls(running: &Running, count: usize) -> Vec<JoinHandle<Answer>> {
    let call = |_| {
        let gate = running.gate.clone();
        tokio::spawn(async move { gate.infer(&[1.0]).await })
    };
    (0..count).map(call).collect()
}

fn shows(running: &Running, name: &str, value: usize) -> bool {
    let line = format!("tensorgate_host_{name}{{backend=\"b\"}} {value}\n");
    running.metrics().contains(&line)
}

/// The number in the last request to the backend.
fn last(backend: &Backend) -> f32 {
    let last = backend.seen.last.lock().unwrap();
    let bytes = &last.as_ref().unwrap().0.raw_input_contents[0];
    f32::from_le_bytes(bytes[..4].try_into().unwrap())
}

#[tokio::test]
async fn a_full_queue_preempts_for_a_client_with_fewer_requests_and_serves_it_next() {
    let permits = Arc::new(Semaphore::new(0));
    let backend = Backend::start(Act::Hold(Arc::clone(&permits)));
    let settings = json!({"max_in_flight": 4, "queue": 6});
    let running = start(two(&backend, json!({"timeout_ms": 20_000}), settings)).await;
    running.ready().await;
    let flood = calls(&running, 10);
    until("four are at the backend", || backend.inside() == 4).await;
    until("six wait", || shows(&running, "backend_queue", 6)).await;
    assert_eq!(running.gate.infer(&[1.0]).await.reason(), "overloaded");
    assert!(shows(&running, "gave_way_total", 0));

    let gate = running.gate.clone();
    let other = tokio::spawn(async move { by_other(&gate, &[2.0]).await });
    until("one gave way", || shows(&running, "gave_way_total", 1)).await;
    assert!(shows(&running, "backend_queue_clients", 2));
    permits.add_permits(1);
    until("the next one is there", || backend.begun() == 5).await;
    assert!(
        (last(&backend) - 2.0).abs() < 0.5,
        "the one that had nothing"
    );

    permits.add_permits(100);
    assert_eq!(other.await.unwrap().status, 200);
    let mut refused = 0;
    for call in flood {
        let answer = call.await.unwrap();
        refused += usize::from(answer.status == 503 && answer.reason() == "overloaded");
        assert!(answer.status == 200 || answer.status == 503, "{answer:?}");
    }
    assert_eq!(refused, 1);
    for cause in ["shed", "gave-way"] {
        let line = format!("tensorgate_host_overloaded_total{{cause=\"{cause}\"}} 1\n");
        assert!(running.metrics().contains(&line), "{cause}");
    }
    for name in [
        "backend_queue",
        "backend_queue_clients",
        "backend_in_flight",
    ] {
        assert!(shows(&running, name, 0), "{name}");
    }
    running.stop().await;
}

#[tokio::test]
async fn hanging_requests_leave_slots_to_other_clients_and_cancelled_ones_free_theirs() {
    let backend = Backend::start(Act::Never);
    let settings =
        json!({"max_in_flight": 8, "queue": 8, "circuit_breaker": {"consecutive_failures": 1000}});
    let running = start(two(&backend, json!({"timeout_ms": 20_000}), settings)).await;
    running.ready().await;
    // It has sent its request, and is gone.
    let gate = running.gate.clone();
    let asked = tokio::spawn(async move { by_other(&gate, &[2.0]).await });
    until("it is there", || backend.inside() == 1).await;
    asked.abort();
    until("it is gone", || backend.inside() == 0).await;
    let flood = calls(&running, 15);
    until("all but seven wait", || shows(&running, "backend_queue", 8)).await;
    until("seven are there", || backend.inside() == 7).await;
    backend.set(Act::Answer);
    for _ in 0..10 {
        assert_eq!(by_other(&running.gate, &[2.0]).await.status, 200);
    }
    assert!(shows(&running, "gave_way_total", 0), "no request waited");
    for call in flood {
        call.abort();
    }
    until("none waits", || shows(&running, "backend_queue", 0)).await;
    until("none is there", || backend.inside() == 0).await;
    assert!(shows(&running, "backend_queue_clients", 0));
    until("every byte was given back", || {
        running.host.app().budget.used() == 0
    })
    .await;
    assert_eq!(running.gate.infer(&[1.0]).await.status, 200);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_floods_a_slow_backend_delays_others_only_within_a_bound() {
    let takes = Duration::from_millis(500);
    let backend = Backend::start(Act::Slow(takes));
    let settings = json!({"max_in_flight": 4, "queue": 16, "timeout_ms": 5_000});
    let running = start(two(&backend, json!({"timeout_ms": 10_000}), settings)).await;
    running.ready().await;
    let over = Arc::new(AtomicBool::new(false));
    let mut flood = JoinSet::new();
    for _ in 0..40 {
        let (gate, over) = (running.gate.clone(), Arc::clone(&over));
        flood.spawn(async move {
            let mut answered = 0_usize;
            while !over.load(Ordering::SeqCst) {
                let answer = gate.infer(&[1.0]).await;
                if answer.status == 200 {
                    answered += 1;
                } else {
                    assert_eq!(answer.reason(), "overloaded", "{answer:?}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            answered
        });
    }
    until("it floods", || shows(&running, "backend_queue", 16)).await;
    let mut waits = Vec::new();
    for _ in 0..10 {
        let came = Instant::now();
        let answer = by_other(&running.gate, &[2.0]).await;
        assert_eq!(answer.status, 200, "{answer:?} after {waits:?}");
        waits.push(came.elapsed().saturating_sub(takes));
    }
    over.store(true, Ordering::SeqCst);
    let mut answered = 0;
    while let Some(one) = flood.join_next().await {
        answered += one.unwrap();
    }
    waits.sort_unstable();
    println!("waits {waits:?}, {answered} answers for the one that floods");
    // Behind sixteen requests it would be four times the time of one; a busy machine adds some.
    let median = waits.get(5).copied().unwrap_or_default();
    assert!(median < takes * 2, "{waits:?}");
    assert!(answered > 10, "what is free is used: {answered}");
    running.stop().await;
}
