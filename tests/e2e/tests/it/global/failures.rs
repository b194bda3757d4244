//! When the rate limit service does not answer, each host counts for itself, or rejects everything,
//! as the policy says. Requests are not delayed by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tensorgate_policy::values::ServiceFailure;
use tensorgate_tests::ask::{self, PATIENCE};
use tensorgate_tests::{Lease, Stack};
use tokio::task::JoinSet;

use super::{
    CHAINS, Counter, MONTH_S, PATIENT_MS, answered_again, lines, no_filter_asks, outcome,
    policy_with, questions, questions_since, shared_rate,
};

/// The timeout for the service that policies usually have.
const USUAL_MS: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_redis_under_load_fails_no_request_and_limits_hold() {
    let mut counter = Counter::start("killed").await;
    let many = shared_rate(1_000_000, 60);
    let policy = policy_with(counter.service(USUAL_MS), many, shared_rate(20, MONTH_S));
    let stack = Stack::start_workers("global-killed", policy, "gate", 4).await;
    let (stop, answers) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut load = JoinSet::new();
    for _ in 0..8 {
        let (gate, stop, answers) = (stack.gate, Arc::clone(&stop), Arc::clone(&answers));
        load.spawn(async move {
            let mut seen = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                seen.push(ask::outcome(gate, "rate-1", &[]).await.unwrap());
                answers.fetch_add(1, Ordering::Relaxed);
            }
            seen
        });
    }
    let more = async |count: usize| {
        let before = answers.load(Ordering::Relaxed);
        let end = Instant::now() + PATIENCE;
        while answers.load(Ordering::Relaxed) < before + count {
            assert!(Instant::now() < end, "requests go on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    more(200).await;
    for _ in 0..5 {
        assert_eq!(outcome(&stack, "rate-2").await, "ok");
    }
    // With so short a timeout a busy machine may have missed it before.
    let before = lines(&stack).len();
    counter.redis.kill().await.unwrap();
    more(300).await;
    // Of twenty, five are spent. This gate knows them, whichever gate sent the request.
    for at in 0..30 {
        let expected = if at < 15 { "ok" } else { "rate-limited" };
        assert_eq!(outcome(&stack, "rate-2").await, expected, "{at}");
    }
    let [answered, failed, skipped] = questions(&stack).await;
    assert!(
        failed >= 5 && skipped > failed,
        "{answered} {failed} {skipped}"
    );
    counter.redis.restart().await.unwrap();
    answered_again(&stack, "rate-3", answered).await;
    more(200).await;
    stop.store(true, Ordering::Relaxed);
    let seen = load.join_all().await.concat();
    let wrong: Vec<_> = seen.iter().filter(|outcome| *outcome != "ok").collect();
    assert!(
        wrong.is_empty(),
        "{} of {}: {:?}",
        wrong.len(),
        seen.len(),
        wrong.first()
    );
    // The log has one line for the failure, and one for the recovery.
    let lines = lines(&stack);
    assert!(lines.len() <= before + 4, "{before} before: {lines:#?}");
    assert!(
        lines.iter().any(|line| line.contains("its own limits")),
        "{lines:#?}"
    );
    // The restarted Redis is empty, so a client that its gate alone has limited has its whole quota
    // again.
    ask::until(stack.gate, "rate-2", "ok", "its limit is whole again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_on_failure_deny_requests_without_redis_are_rejected_in_time() {
    let mut counter = Counter::start("deny").await;
    let mut service = counter.service(PATIENT_MS);
    service.on_failure = Some(ServiceFailure::Deny);
    let mut policy = policy_with(service, shared_rate(1_000, 60), shared_rate(1, MONTH_S));
    // A limit that this gate counts for itself still works.
    let mut own = policy.grants[0].clone();
    own.name = Some("own".into());
    own.clients = vec!["rate-8".into()];
    own.rate.as_mut().unwrap().scope = Default::default();
    policy.grants[0].clients.retain(|client| client != "rate-8");
    policy.grants.push(own);
    for chain in CHAINS {
        let stack = Stack::start_chain("global-deny", policy.clone(), chain).await;
        assert_eq!(outcome(&stack, "rate-1").await, "ok");
        counter.redis.kill().await.unwrap();
        let patience = Duration::from_millis(PATIENT_MS);
        for _ in 0..20 {
            let began = Instant::now();
            assert_eq!(outcome(&stack, "rate-1").await, "overloaded", "{chain}");
            assert!(began.elapsed() < patience * 2, "{:?}", began.elapsed());
            assert_eq!(outcome(&stack, "rate-8").await, "ok", "{chain}");
        }
        let series = "tensorgate_host_overloaded_total{cause=\"rate-limit-service\"} 20";
        let page = stack.ask_admin("/metrics").await;
        assert!(page.lines().any(|line| line == series), "{chain}: {page}");
        counter.redis.restart().await.unwrap();
        ask::until(stack.gate, "rate-1", "ok", "redis is back").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_redis_delays_only_a_few_requests() {
    const TIMEOUT_MS: u64 = 200;
    let counter = Counter::start("hangs").await;
    let policy = policy_with(
        counter.service(TIMEOUT_MS),
        shared_rate(1_000, 60),
        shared_rate(1, MONTH_S),
    );
    let stack = Stack::start("global-hangs", policy).await;
    assert_eq!(outcome(&stack, "rate-1").await, "ok");
    let [answered, failed, skipped] = questions(&stack).await;
    counter.redis.freeze().await.unwrap();
    let began = Instant::now();
    for _ in 0..60 {
        assert_eq!(outcome(&stack, "rate-1").await, "ok");
    }
    let took = began.elapsed();
    let now = questions(&stack).await;
    let (waited, went_on) = (now[1] - failed, now[2] - skipped);
    assert_eq!((now[0], waited + went_on), (answered, 60));
    // Five calls in a row, and two probes per second.
    let looks = 2 * (took.as_secs() + 1);
    assert!((1..=5 + looks).contains(&waited), "{waited} in {took:?}");
    counter.redis.thaw().await.unwrap();
    answered_again(&stack, "rate-1", answered).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_charges_a_large_body_at_its_end_and_rejects_it() {
    use tensorgate_client::http1::{self, Framing};
    use tensorgate_policy::values::Scope;
    use tensorgate_policy_compiler::raw::{ByteSize, Cost, Dim};
    use tensorgate_tests::policy;
    use tensorgate_tests::stack::OWN_PATH;
    const FLOATS: usize = 400_000;
    let counter = Counter::start("large").await;
    let mut policy = policy_with(
        counter.service(PATIENT_MS),
        shared_rate(100, MONTH_S),
        shared_rate(1, MONTH_S),
    );
    policy.listen.limits.body_bytes = (4 << 20).into();
    policy.listen.limits.hold_bytes = Some(ByteSize(64 << 10));
    policy.models.get_mut("vec").unwrap().inputs[0].shape = Some(vec![Dim::Bounded {
        name: None,
        min: None,
        max: Some(FLOATS as u64),
    }]);
    // Enough for two and a half requests.
    policy.grants[0].cost = Some(Cost {
        elements: Some(FLOATS as u64 * 5 / 2),
        window_s: Some(MONTH_S.into()),
        scope: Scope::Global,
        ..Cost::default()
    });
    policy.grants.truncate(1);
    let raw = 0.5_f32.to_le_bytes().repeat(FLOATS);
    let json = format!(
        r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[{FLOATS}],"parameters":{{"binary_data_size":{}}}}}]}}"#,
        raw.len()
    );
    let fields = [
        ("x-api-key", policy::key("rate-1")),
        ("inference-header-content-length", json.len().to_string()),
    ];
    let body = [json.as_bytes(), &raw].concat();
    for chain in CHAINS {
        counter.redis.ask("FLUSHALL").await.unwrap();
        let stack = Lease::with_chain(policy.clone(), chain).await;
        let before = questions(&stack).await;
        for expected in [None, None, Some("cost-exceeded"), Some("cost-exceeded")] {
            let sent = http1::send(
                stack.gate,
                "POST",
                ask::PATH,
                &fields,
                &body,
                Framing::Length,
            );
            let reply = sent.await.unwrap();
            assert_eq!(reply.reason().as_deref(), expected, "{chain} {reply:?}");
        }
        // The host charges the rate of each request, and its cost.
        let questions = questions_since(&stack, before).await;
        assert_eq!(questions, [8, 0, 0], "{chain}");
        no_filter_asks(&stack).await;
        let is_of_client = |line: &Value| line["type"] == "decision" && line["path"] != OWN_PATH;
        let lines = stack.met_request_lines(4, is_of_client).await;
        let denied: Vec<_> = lines
            .iter()
            .filter(|line| line["verdict"] == "deny")
            .map(|line| (&line["by"], &line["reason"]))
            .collect();
        let by_host = (&Value::from("host"), &Value::from("cost-exceeded"));
        assert_eq!(denied, [by_host; 2], "{chain}");
    }
}
