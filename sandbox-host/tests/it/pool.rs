//! Several servers behind one backend: which one gets a request, which requests are retried, and
//! which servers are ejected.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tensorgate_wire::context::Context;
use tokio::sync::Semaphore;
use tonic::Code;

use crate::support;
use support::backend::{Act, Backend};
use support::{INFER, PATIENCE, Running, context, infer_body, key, policy, start, until};

/// A host in front of servers, all of which have been probed as ready.
async fn pool(servers: &[&Backend], backend: Value) -> Running {
    limited(servers, json!({}), backend).await
}

async fn limited(servers: &[&Backend], limits: Value, backend: Value) -> Running {
    known(servers, policy("", limits, backend)).await
}

/// A host with this policy and these servers, all of which have been probed.
async fn known(servers: &[&Backend], mut policy: Value) -> Running {
    let uris: Vec<_> = servers.iter().map(|server| server.uri()).collect();
    *policy.pointer_mut("/backends/b/endpoints").unwrap() = json!(uris);
    // A server that this host has not probed yet is not chosen.
    let before: Vec<_> = servers.iter().map(|server| server.looked()).collect();
    let running = start(policy).await;
    running.ready().await;
    let looked = |(server, before): (&&Backend, &usize)| server.looked() > *before;
    let known = || servers.iter().zip(&before).all(looked);
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
    // Requests go to either while both have none in flight, and to the quick server alone while the
    // slow one is not connected yet. The first that reaches the slow server stays there.
    let started = Instant::now();
    let held = loop {
        assert!(started.elapsed() < PATIENCE, "the slow server has none");
        let request = tokio::spawn({
            let gate = running.gate.clone();
            async move { gate.infer(&[1.0]).await.status }
        });
        let has_arrived = || slow.begun() == 1 || request.is_finished();
        until("a server has the request", has_arrived).await;
        if !request.is_finished() {
            break request;
        }
        assert_eq!(request.await.unwrap(), 200);
    };
    assert_eq!(ask(&running, 10).await, [200; 10]);
    assert_eq!(slow.begun(), 1, "a busy server gets no more requests");
    gate.add_permits(1);
    assert_eq!(held.await.unwrap(), 200);
    running.stop().await;
}

#[tokio::test]
async fn a_request_that_one_server_could_not_accept_is_retried_at_another() {
    let busy = Backend::start(Act::Refuse(Code::Unavailable));
    let free = Backend::start(Act::Answer);
    let without = pool(&[&busy, &free], json!({})).await;
    let refused = statuses(&ask(&without, 10).await, 503);
    assert_eq!(refused, 1, "a server that refuses gets no fewer requests");
    without.stop().await;
    let running = pool(&[&busy, &free], json!({"retry": {"attempts": 1}})).await;
    assert_eq!(ask(&running, 10).await, [200; 10]);
    let metrics = running.metrics();
    assert!(
        metrics.contains("tensorgate_host_backend_retries_total{backend=\"b\"} 1"),
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
async fn faults_timeouts_and_client_errors_are_not_retried() {
    for (act, status, times) in [
        (Act::Refuse(Code::Internal), 502, 1),
        (Act::Refuse(Code::DeadlineExceeded), 504, 1),
        (Act::Refuse(Code::InvalidArgument), 400, 1),
        (Act::Refuse(Code::NotFound), 404, 1),
        // A busy server may have time for it.
        (Act::Refuse(Code::ResourceExhausted), 429, 6),
        (Act::Never, 504, 1),
    ] {
        let server = Backend::start(act);
        let backend = json!({"retry": {"attempts": 5, "budget_percent": 100}, "timeout_ms": 2000});
        let running = pool(&[&server], backend).await;
        assert_eq!(ask(&running, 1).await, [status]);
        assert_eq!(server.begun(), times);
        running.stop().await;
    }
}

#[tokio::test]
async fn a_servers_client_error_opens_no_circuit_and_ejects_no_server() {
    let server = Backend::start(Act::Refuse(Code::InvalidArgument));
    let backend = json!({
        "circuit_breaker": {"consecutive_failures": 1, "open_s": 30},
        "outlier_detection": {"consecutive_failures": 1, "max_ejection_percent": 100},
    });
    let running = pool(&[&server], backend).await;
    assert_eq!(ask(&running, 5).await, [400; 5]);
    server.set(Act::Answer);
    assert_eq!(ask(&running, 1).await, [200]);
    running.stop().await;
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_ejected_however_the_wait_ends() {
    for (listener_ms, backend_ms) in [(20_000, 2_000), (1_500, 60_000), (2_000, 2_000)] {
        let hung = Backend::start(Act::Never);
        let good = Backend::start(Act::Answer);
        let outliers = json!({"consecutive_failures": 1, "base_ejection_s": 3600});
        let backend = json!({"timeout_ms": backend_ms, "outlier_detection": outliers});
        let limits = json!({"timeout_ms": listener_ms});
        let running = limited(&[&hung, &good], limits, backend).await;
        let answers = ask(&running, 20).await;
        assert_eq!(statuses(&answers, 504), 1, "{answers:?}");
        assert_eq!(statuses(&answers, 200), 19, "{answers:?}");
        assert_eq!(hung.begun(), 1);
        let metrics = running.metrics();
        assert!(
            metrics.contains("tensorgate_host_backend_ejections_total{backend=\"b\"} 1"),
            "{listener_ms} {backend_ms}: {metrics}"
        );
        running.stop().await;
    }
}

#[tokio::test]
async fn only_requests_that_waited_long_enough_count_against_a_server() {
    let hung = Backend::start(Act::Never);
    let outliers = json!({"consecutive_failures": 1, "max_ejection_percent": 100});
    let backend = json!({"timeout_ms": 60_000, "outlier_detection": outliers});
    let running = limited(&[&hung], json!({"timeout_ms": 1_000}), backend).await;
    let ejections = "tensorgate_host_backend_ejections_total{backend=\"b\"} 1";
    // The client's own short deadline, and a client that leaves early.
    let impatient = running.gate.infer_within("100m", &[1.0]).await;
    assert_eq!(impatient, Code::DeadlineExceeded);
    let gate = running.gate.clone();
    // On a busy machine the first one's time may have been over before it got there.
    let before = hung.begun();
    let leaving = tokio::spawn(async move { gate.infer(&[1.0]).await.status });
    until("the call is there", || hung.begun() > before).await;
    leaving.abort();
    until("it has left", || {
        hung.seen.inside.load(Ordering::SeqCst) == 0
    })
    .await;
    assert!(!running.metrics().contains(ejections));
    // The proxy's timer expires first.
    let gate = running.gate.clone();
    let leaving = tokio::spawn(async move { gate.infer(&[1.0]).await.status });
    until("the call is there", || hung.begun() > before + 1).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    leaving.abort();
    until("the server is blamed", || {
        running.metrics().contains(ejections)
    })
    .await;
    running.stop().await;
}

/// Servers that two clients may call: `other`, and the client of all gates here.
async fn shared(servers: &[&Backend], settings: Value) -> Running {
    let mut policy = policy("", json!({}), settings);
    policy["clients"]["other"] = json!({"api_keys": [{"sha256": "04".repeat(32)}]});
    policy["grants"][0]["clients"] = json!(["scorer", "other"]);
    known(servers, policy).await
}

/// A request of `other`.
async fn by_other(running: &Running) -> u16 {
    let other = Context {
        client: Some("other".to_owned()),
        credential: Some("key:0404040404040404".to_owned()),
        ..context("POST", INFER)
    };
    let contexts = [other.sign(&key())];
    let body = infer_body(&[1.0]);
    running
        .gate
        .send("POST", INFER, &contexts, body)
        .await
        .status
}

#[tokio::test]
async fn one_client_ejects_a_server_for_itself_alone() {
    let (first, second) = (Backend::start(Act::Never), Backend::start(Act::Never));
    let settings = json!({
        "timeout_ms": 1_000, "outlier_detection": {"consecutive_failures": 2, "base_ejection_s": 3600},
        "circuit_breaker": {"consecutive_failures": 1000}
    });
    let running = shared(&[&first, &second], settings).await;
    let ejections = |count: usize| {
        let line = format!("tensorgate_host_backend_ejections_total{{backend=\"b\"}} {count}\n");
        running.metrics().contains(&line)
    };
    // The server with the second failure is ejected for this client. The other one is the last, and
    // may not be.
    assert_eq!(ask(&running, 8).await, [504; 8]);
    assert!(ejections(1), "{}", running.metrics());
    let (out, left) = if first.begun() < second.begun() {
        (&first, &second)
    } else {
        (&second, &first)
    };
    assert_eq!((out.begun(), left.begun()), (2, 6));
    for server in [&first, &second] {
        server.set(Act::Answer);
    }
    assert_eq!(ask(&running, 4).await, [200; 4]);
    assert_eq!((out.begun(), left.begun()), (2, 10));
    // No other client has lost it.
    assert_eq!(by_other(&running).await, 200);
    assert_eq!(out.begun(), 3, "the one with the fewest failures of late");
    running.stop().await;
}

#[tokio::test]
async fn a_hanging_endpoint_does_not_delay_probes_of_others() {
    let good = Backend::start(Act::Answer);
    let hung = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut policy = policy("", json!({}), json!({}));
    let hung_uri = format!("http://{}", hung.local_addr().unwrap());
    *policy.pointer_mut("/backends/b/endpoints").unwrap() = json!([hung_uri, good.uri()]);
    // One model is not ready, so that probes follow one another quickly.
    *policy.pointer_mut("/models/vec/versions").unwrap() = json!(["7", "8"]);
    let running = start(policy).await;
    let tried = Arc::new(AtomicUsize::new(0));
    let trying = Arc::clone(&tried);
    let taking = tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((stream, _)) = hung.accept().await {
            taken.push(stream);
            trying.fetch_add(1, Ordering::SeqCst);
        }
    });
    until("the good one was looked at often", || good.looked() >= 5).await;
    let (tried, looked) = (tried.load(Ordering::SeqCst), good.looked());
    assert!(
        tried <= looked / 2,
        "{tried} looks at the one that hangs during {looked} at the other"
    );
    taking.abort();
    running.stop().await;
}

#[tokio::test]
async fn probes_of_a_server_with_many_models_are_limited_in_number() {
    let server = Backend::start(Act::Answer);
    *server.seen.thinks.lock().unwrap() = Some(Duration::from_millis(5));
    let mut policy = policy(&server.uri(), json!({}), json!({}));
    for number in 0..40 {
        let mut other = policy["models"]["vec"].clone();
        other["backend_model"] = json!(format!("vec-at-backend-{number}"));
        policy["models"][format!("vec-{number}")] = other;
    }
    let running = start(policy).await;
    until("each was looked at", || server.looked() >= 41).await;
    let at_once = server.seen.asked_at_once.load(Ordering::SeqCst);
    assert!((2..=8).contains(&at_once), "{at_once} at once");
    running.stop().await;
}

#[tokio::test]
async fn a_model_that_does_not_answer_the_prober_is_unready_alone() {
    let server = Backend::start(Act::Answer);
    *server.seen.mute_of.lock().unwrap() = Some("vec-at-backend-mute");
    server.says(Err(Code::Unimplemented));
    let mut policy = policy(&server.uri(), json!({}), json!({}));
    let mut more = |name: String| {
        let mut other = policy["models"]["vec"].clone();
        other["backend_model"] = json!(format!("vec-at-backend-{name}"));
        policy["models"][&name] = other;
    };
    // More than are probed at once, and one after them.
    (0..20).for_each(|number| more(format!("mute-{number}")));
    more("well".to_owned());
    policy["grants"][0]["models"] = json!(["vec", "well", "mute-0"]);
    let running = start(policy).await;
    for (model, status) in [("vec", 200), ("well", 200), ("mute-0", 503), ("vec", 200)] {
        let path = format!("/v2/models/{model}/infer");
        let answer = running.gate.call("POST", &path, infer_body(&[1.0])).await;
        assert_eq!(answer.status, status, "{model}: {answer:?}");
    }
    running.stop().await;
}

#[tokio::test]
async fn consecutive_failures_open_a_backends_circuit_and_one_request_probes() {
    let server = Backend::start(Act::Never);
    let breaker = json!({"consecutive_failures": 3, "open_s": 3});
    let running = pool(
        &[&server],
        json!({"timeout_ms": 1_000, "circuit_breaker": breaker}),
    )
    .await;
    assert_eq!(ask(&running, 3).await, [504; 3]);
    // No request waits for a server that does not answer.
    assert_eq!(ask(&running, 10).await, [503; 10]);
    assert_eq!(server.begun(), 3);
    let metrics = running.metrics();
    for line in [
        "circuit_open{backend=\"b\"} 1",
        "circuit_openings_total{backend=\"b\"} 1",
    ] {
        assert!(
            metrics.contains(&format!("tensorgate_host_backend_{line}")),
            "{metrics}"
        );
    }
    // When the circuit may close again, one request probes for all.
    let crowd = async || {
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let gate = running.gate.clone();
                tokio::spawn(async move { gate.infer(&[1.0]).await.status })
            })
            .collect();
        let mut statuses = Vec::new();
        for call in calls {
            statuses.push(call.await.unwrap());
        }
        statuses
    };
    let found = async |status: u16| {
        loop {
            let answers = crowd().await;
            if answers.contains(&status) {
                return answers;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let answers = found(504).await;
    assert_eq!(statuses(&answers, 504), 1, "{answers:?}");
    assert_eq!(server.begun(), 4);
    server.set(Act::Answer);
    found(200).await;
    assert_eq!(ask(&running, 10).await, [200; 10]);
    assert!(running.metrics().contains("circuit_open{backend=\"b\"} 0"));
    running.stop().await;
}

#[tokio::test]
async fn timeouts_of_one_client_open_the_circuit_for_that_client_only() {
    let server = Backend::start(Act::Never);
    let settings = json!({"timeout_ms": 1_000, "circuit_breaker": {"open_s": 600}});
    let running = shared(&[&server], settings).await;
    let late = ask(&running, 12).await;
    assert_eq!(statuses(&late, 504), 10, "{late:?}");
    assert_eq!(late[10..], [503; 2]);
    server.set(Act::Answer);
    for _ in 0..3 {
        assert_eq!(by_other(&running).await, 200);
    }
    // Answers to other clients do not close this client's circuit.
    assert_eq!(ask(&running, 2).await, [503; 2]);
    assert_eq!(server.begun(), 13);
    running.stop().await;
}

#[tokio::test]
async fn the_adaptive_concurrency_limit_follows_the_backend() {
    let server = Backend::start(Act::Never);
    let settings = json!({
        "max_in_flight": 10, "timeout_ms": 2_000, "adaptive_concurrency": {"min_in_flight": 6},
        "circuit_breaker": {"consecutive_failures": 1000}
    });
    let running = pool(&[&server], settings).await;
    let limit = |limit: usize| {
        let line = format!("tensorgate_host_backend_limit{{backend=\"b\"}} {limit}\n");
        running.metrics().contains(&line)
    };
    assert!(limit(10), "{}", running.metrics());
    // Each late answer lowers the limit by one step, down to its minimum.
    for expected in [8, 7, 6, 6] {
        assert_eq!(ask(&running, 1).await, [504]);
        assert!(limit(expected), "{expected}: {}", running.metrics());
    }
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let gate = running.gate.clone();
            tokio::spawn(async move { gate.infer(&[1.0]).await.status })
        })
        .collect();
    until("as many are there as may be, and the others wait", || {
        let waiting = "tensorgate_host_backend_queue{backend=\"b\"} 2\n";
        server.inside() == 6 && running.metrics().contains(waiting)
    })
    .await;
    for call in calls {
        assert_eq!(call.await.unwrap(), 504);
    }
    running.stop().await;
}
