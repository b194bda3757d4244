//! Many requests at once, some of which leave, and the end of the host. No request waits forever,
//! and all resources are released.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use sha2::{Digest, Sha256};
use tensorgate_host::admission::FIRST_LIMIT;
use tensorgate_policy::decision::FilterWork;
use tensorgate_wire::context::{Context, HEADER};
use tokio::sync::Semaphore;

use crate::support;
use support::backend::{Act, Backend};
use support::{
    INFER, Running, WORK, context, guests, infer_body, key, policy, start, start_with, until,
};

fn gauge(running: &Running, name: &str) -> i64 {
    let metrics = running.metrics();
    let line = metrics
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap_or_default()
        .to_owned();
    line.rsplit(' ')
        .next()
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
}

/// The rejections as overloaded with this cause.
fn overloads(running: &Running, cause: &str) -> i64 {
    let name = format!("tensorgate_host_overloaded_total{{cause=\"{cause}\"}}");
    gauge(running, &name)
}

/// The sum of all series that begin like this.
fn sum(metrics: &str, series: &str) -> i64 {
    let lines = metrics.lines().filter(|line| line.starts_with(series));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<i64>().ok())
        .sum()
}

#[tokio::test]
async fn a_full_queue_rejects_and_waiting_requests_are_served() {
    let permits = Arc::new(Semaphore::new(0));
    let backend = Backend::start(Act::Hold(Arc::clone(&permits)));
    let running = start(policy(
        &backend.uri(),
        json!({"timeout_ms": 20000}),
        json!({"max_in_flight": 2, "queue": 3}),
    ))
    .await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let gate = running.gate.clone();
        waiting.spawn(async move { gate.infer(&[1.0]).await });
    }
    until("two are at the backend", || {
        backend.seen.inside.load(Ordering::SeqCst) == 2
    })
    .await;
    until("three wait", || {
        gauge(&running, "tensorgate_host_backend_queue{") == 3
    })
    .await;
    let shed = running.gate.infer(&[1.0]).await;
    assert_eq!((shed.status, shed.reason().as_str()), (503, "overloaded"));
    assert_eq!(gauge(&running, "tensorgate_host_shed_total{"), 1);
    assert_eq!(overloads(&running, "shed"), 1);
    assert_eq!(
        backend.seen.begun.load(Ordering::SeqCst),
        2,
        "the bound holds"
    );

    permits.add_permits(5);
    while let Some(answer) = waiting.join_next().await {
        assert_eq!(answer.unwrap().status, 200);
    }
    for name in [
        "tensorgate_host_backend_queue{",
        "tensorgate_host_backend_in_flight{",
    ] {
        assert_eq!(gauge(&running, name), 0, "{name}");
    }
    running.stop().await;
}

#[tokio::test]
async fn the_wait_for_a_slot_counts_against_the_deadline() {
    let backend = Backend::start(Act::Never);
    let running = start(policy(
        &backend.uri(),
        json!({}),
        json!({"max_in_flight": 1, "queue": 1, "timeout_ms": 150}),
    ))
    .await;
    let (first, second) = tokio::join!(running.gate.infer(&[1.0]), running.gate.infer(&[1.0]));
    for answer in [first, second] {
        assert_eq!(
            (answer.status, answer.reason().as_str()),
            (504, "backend-timeout")
        );
    }
    running.stop().await;
}

fn request() -> Request<Full<Bytes>> {
    Request::builder()
        .method("POST")
        .uri(format!("http://tensorgate{INFER}"))
        .header("content-type", "application/json")
        .header(HEADER, context("POST", INFER).sign(&key()))
        .body(Full::new(Bytes::from(infer_body(&[1.0]))))
        .unwrap()
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_backend_call() {
    let backend = Backend::start(Act::Never);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    let inside = |count| {
        let seen = Arc::clone(&backend.seen);
        move || seen.inside.load(Ordering::SeqCst) == count
    };

    // HTTP/2: one stream is reset, the connection stays open.
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        TokioExecutor::new(),
        TokioIo::new(running.gate.connect().await),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    let pending = tokio::spawn(sender.send_request(request()));
    until("the call is there", inside(1)).await;
    pending.abort();
    until("the call is gone with its stream", inside(0)).await;

    // HTTP/1.1: the connection closes.
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(running.gate.connect().await))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let mut first = request();
    *first.uri_mut() = INFER.parse().unwrap();
    first
        .headers_mut()
        .insert("host", "tensorgate".parse().unwrap());
    let pending = tokio::spawn(async move { sender.send_request(first).await.map(drop) });
    until("the call is there", inside(1)).await;
    connection.abort();
    pending.abort();
    until("the call is gone with its connection", inside(0)).await;

    until("both are counted", || {
        running
            .metrics()
            .contains("verdict=\"aborted\",reason=\"\"} 2")
    })
    .await;
    until("every byte was given back", || {
        running.host.app().budget.used() == 0
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_drain_finishes_requests_in_flight_and_accepts_no_new_ones() {
    let permits = Arc::new(Semaphore::new(0));
    let backend = Backend::start(Act::Hold(Arc::clone(&permits)));
    let running = start(policy(
        &backend.uri(),
        json!({"timeout_ms": 20000}),
        json!({}),
    ))
    .await;
    running.ready().await;
    let gate = running.gate.clone();
    let inside = tokio::spawn(async move { gate.infer(&[1.0]).await });
    until("the call is there", || {
        backend.seen.inside.load(Ordering::SeqCst) == 1
    })
    .await;

    let (socket, app) = (running.gate.socket.clone(), Arc::clone(running.host.app()));
    let stopping = tokio::spawn(running.stop());
    until("the socket is gone", || !socket.exists()).await;
    assert!(!app.ready(), "not ready while it drains");
    assert!(!stopping.is_finished(), "it waits for the call");
    permits.add_permits(1);
    assert_eq!(inside.await.unwrap().status, 200);
    stopping.await.unwrap();
}

type Nothing = tokio_stream::Pending<Result<Frame<Bytes>, std::io::Error>>;

/// A request whose body never comes.
fn endless() -> Request<StreamBody<Nothing>> {
    request().map(|_| StreamBody::new(tokio_stream::pending()))
}

#[tokio::test]
async fn over_the_admission_limit_requests_are_rejected_and_slow_ones_once_they_are_complete() {
    let backend = Backend::start(Act::Answer);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    running.ready().await;
    let admission = Arc::clone(&running.host.app().admission);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        TokioExecutor::new(),
        TokioIo::new(running.gate.connect().await),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    // The gate has not held its body.
    let unheld = Context {
        work: FilterWork {
            buffered: false,
            ..WORK
        },
        ..context("POST", INFER)
    };
    let unheld = unheld.sign(&key());
    let mut slow = endless();
    slow.headers_mut().insert(HEADER, unheld.parse().unwrap());
    let slow = tokio::spawn(sender.send_request(slow));
    let mut inside: Vec<_> = (0..FIRST_LIMIT)
        .map(|_| tokio::spawn(sender.send_request(endless())))
        .collect();
    until("all of them are in", || admission.inside() == FIRST_LIMIT).await;

    // Its body never arrives either, and the host does not wait for it.
    let refused = sender.send_request(endless()).await.unwrap();
    assert_eq!(refused.status(), 503);
    let refused = running.gate.infer(&[1.0]).await;
    assert_eq!(
        (refused.status, refused.reason().as_str()),
        (503, "overloaded")
    );
    let complete = running
        .gate
        .send("POST", INFER, &[unheld], infer_body(&[1.0]))
        .await;
    assert_eq!(complete.status, 503, "{complete:?}");
    assert!(!slow.is_finished(), "its body has not arrived yet");
    assert_eq!(
        gauge(&running, "tensorgate_host_admission_refused_total"),
        3
    );
    assert_eq!(overloads(&running, "admission"), 3);

    inside.pop().unwrap().abort();
    until("one has left", || admission.inside() < FIRST_LIMIT).await;
    assert_eq!(running.gate.infer(&[1.0]).await.status, 200);
    for one in inside {
        one.abort();
    }
    slow.abort();
    until("all have left", || admission.inside() == 0).await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handler_calls_that_find_no_thread_are_counted_by_handler_and_cause() {
    let backend = Backend::start(Act::Answer);
    let component = guests::preprocess(guests::SPIN);
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    // A call waits for at most a second, and one that runs has its thread for longer.
    policy["handlers"] = json!({"h": {
        "component": "h.wasm",
        "sha256": tensorgate_policy::hex(&Sha256::digest(&component)),
        "fuel": guests::BUDGET.fuel,
        "memory_bytes": 1 << 20,
        "timeout_ms": 1_500
    }});
    let inputs = policy["models"]["vec"]["inputs"].clone();
    policy["models"]["vec"]["accepts"] = json!({"inputs": inputs});
    policy["models"]["vec"]["preprocess"] = json!("h");
    let running = start_with(policy, &[("h.wasm", component.as_slice())]).await;
    running.ready().await;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let mut calls = tokio::task::JoinSet::new();
    // More than there are threads.
    for _ in 0..3 * cores + 8 {
        let gate = running.gate.clone();
        calls.spawn(async move { gate.infer(&[1.0]).await });
    }
    let mut rejected = 0;
    while let Some(answer) = calls.join_next().await {
        rejected += i64::from(answer.unwrap().reason() == "overloaded");
    }
    let metrics = running.metrics();
    let shed = sum(&metrics, "tensorgate_host_handler_shed_total{handler=\"h\"");
    assert!(shed > 0, "{metrics}");
    assert_eq!(overloads(&running, "handler"), shed, "{metrics}");
    let all = sum(&metrics, "tensorgate_host_overloaded_total{");
    assert_eq!(all, rejected, "{metrics}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn excess_requests_are_rejected_at_once_and_accepted_ones_are_answered() {
    let backend = Backend::start(Act::Slow(Duration::from_millis(60)));
    // Two at once, each ten times as long: most of forty-eight that wait in turn would time out. A
    // machine that stalls for a moment makes several late in a row; the circuit breaker is not what
    // this test is about.
    let settings = json!({
        "max_in_flight": 2,
        "queue": 64,
        "timeout_ms": 600,
        "circuit_breaker": {"consecutive_failures": 1000}
    });
    let running = start(policy(
        &backend.uri(),
        json!({"timeout_ms": 5_000}),
        settings,
    ))
    .await;
    running.ready().await;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..48 {
        let (gate, answered) = (running.gate.clone(), Arc::clone(&answered));
        crowd.spawn(async move {
            let (mut late, mut shed) = (0, 0);
            while answered.load(Ordering::SeqCst) < 150 {
                let answer = gate.infer(&[1.0]).await;
                match answer.status {
                    200 => drop(answered.fetch_add(1, Ordering::SeqCst)),
                    504 => late += 1,
                    _ => {
                        // A server that was late is probed. If the probe is late as well, the
                        // server counts as gone until the next one.
                        let reason = answer.reason();
                        let refused = ["overloaded", "backend-unavailable"];
                        assert!(refused.contains(&reason.as_str()), "{answer:?}");
                        shed += 1;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
            (late, shed)
        });
    }
    let (mut late, mut shed) = (0, 0);
    while let Some(counts) = crowd.join_next().await {
        let (more, turned_away) = counts.unwrap();
        late += more;
        shed += turned_away;
    }
    let answered = answered.load(Ordering::SeqCst);
    println!("{answered} answered, {late} late, {shed} refused");
    assert!(late * 2 <= answered, "{late} late of {answered}");
    assert!(shed > answered, "{shed} refused, {answered} answered");
    running.stop().await;
}
