//! Limits that gates share while everything works: exact to one request, over time and across
//! restarts, and reported to clients.

use std::time::{Duration, Instant};

use tensorgate_client::http1::{self, Framing};
use tensorgate_policy::values::Scope;
use tensorgate_policy_compiler::raw::{Budget, ByteSize, Cost, Period};
use tensorgate_tests::ask::{self, PATH, VALID, fields};
use tensorgate_tests::{Lease, Stack, policy, verdict};
use tensorgate_vectors::{Driver, load};
use tokio::task::JoinSet;

use super::{
    CHAINS, Counter, MONTH_S, PATIENT_MS, no_filter_asks, outcome, policy_with, questions,
    questions_since, shared_rate,
};

/// The client.
const OWN: &str = "rate-1";

/// Sends many requests at once over two gates, each on a connection of its own; returns how many
/// pass.
async fn pass(gates: [&Stack; 2], requests: usize) -> usize {
    let fields = fields(&policy::key(OWN));
    let mut asked = JoinSet::new();
    for at in 0..requests {
        let (gate, fields) = (gates[at % 2].gate, fields.clone());
        asked.spawn(async move {
            let body = VALID.as_bytes();
            let reply = http1::send(gate, "POST", PATH, &fields, body, Framing::Length);
            reply.await.unwrap().status
        });
    }
    let statuses = asked.join_all().await;
    assert!(
        statuses.iter().all(|status| [200, 429].contains(status)),
        "{statuses:?}"
    );
    statuses.iter().filter(|status| **status == 200).count()
}

/// Since an earlier look at [`questions`], the service has answered every call: nothing was counted
/// by a gate itself.
async fn nothing_fell_back(gate: &Stack, before: [u64; 3]) {
    let [answered, failed, skipped] = questions_since(gate, before).await;
    assert!(
        answered > 0 && failed + skipped == 0,
        "{answered} {failed} {skipped}"
    );
    no_filter_asks(gate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gates_share_rates_costs_and_budgets_exactly() {
    for chain in CHAINS {
        let counter = Counter::start("exactly").await;
        let service = counter.service(PATIENT_MS);
        let rate = policy_with(
            service.clone(),
            shared_rate(60, MONTH_S),
            shared_rate(1, MONTH_S),
        );
        let mut gates = Lease::two(rate.clone(), chain).await;
        let before = [questions(&gates[0]).await, questions(&gates[1]).await];
        assert_eq!(pass([&gates[0], &gates[1]], 200).await, 60, "{chain}");
        for (gate, before) in gates.iter().zip(before) {
            nothing_fell_back(gate, before).await;
        }
        // Each request has two elements of eight bytes in all. There are enough elements for 60
        // requests, and enough bytes for 70.
        let mut carried = rate.clone();
        carried.grants[0].rate = None;
        carried.grants[0].cost = Some(Cost {
            bytes: Some(ByteSize(563)),
            window_s: Some(MONTH_S.into()),
            scope: Scope::Global,
            ..Cost::default()
        });
        carried.grants[0].budget = Some(Budget {
            elements: Some(121),
            per: Some(Period::Day),
            scope: Scope::Global,
            ..Budget::default()
        });
        for gate in &mut gates {
            gate.change(carried.clone()).await;
        }
        let before = [questions(&gates[0]).await, questions(&gates[1]).await];
        assert_eq!(pass([&gates[0], &gates[1]], 200).await, 60, "{chain}");
        for (gate, before) in gates.iter().zip(before) {
            nothing_fell_back(gate, before).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_time_two_gates_together_allow_what_one_limit_allows() {
    const A_SECOND: u64 = 20;
    let counter = Counter::start("over-time").await;
    let rate = shared_rate(A_SECOND, 1);
    let policy = policy_with(counter.service(PATIENT_MS), rate, shared_rate(1, MONTH_S));
    let gates = Lease::two(policy, "gate").await;
    let before = [questions(&gates[0]).await, questions(&gates[1]).await];
    // Sends requests faster than the rate, on both gates.
    let began = Instant::now();
    let (mut passed, mut last, mut pause) = (0, began, Duration::ZERO);
    while began.elapsed().as_secs() < 5 {
        passed += pass([&gates[0], &gates[1]], 16).await;
        let now = Instant::now();
        pause = pause.max(now.duration_since(last));
        last = now;
    }
    for (gate, before) in gates.iter().zip(before) {
        nothing_fell_back(gate, before).await;
    }
    let took_s = last.duration_since(began).as_secs_f64();
    let most = A_SECOND as f64 * (1.0 + took_s);
    let passed = passed as f64;
    assert!(passed <= most + 1.0, "{passed} of {most}");
    // Units that came back after the last requests were not used. On a busy machine more units may
    // come back during a round than it has requests.
    assert!(
        passed >= 0.99 * (most - A_SECOND as f64) - 1.0 || pause > Duration::from_millis(400),
        "{passed} of {most}, {pause:?} between requests"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_gate_keeps_the_shared_usage_and_answers_report_it() {
    let counter = Counter::start("anew").await;
    let rate = shared_rate(5, MONTH_S);
    let policy = policy_with(counter.service(PATIENT_MS), rate, shared_rate(1, MONTH_S));
    let gate = Stack::start("global-anew", policy.clone()).await;
    for _ in 0..2 {
        assert_eq!(outcome(&gate, OWN).await, "ok");
    }
    assert!(gate.stop().await.success());
    let gate = Stack::start("global-anew", policy).await;
    let key = fields(&policy::key(OWN));
    let reply = http1::send(
        gate.gate,
        "POST",
        PATH,
        &key,
        VALID.as_bytes(),
        Framing::Length,
    )
    .await
    .unwrap();
    assert_eq!(reply.status, 200);
    let told = reply.header("ratelimit").unwrap_or_default();
    assert!(told.starts_with("\"three\";r=2;t="), "{told}");
    // With Redis emptied the gate has its whole quota again.
    for expected in ["ok", "ok", "rate-limited"] {
        assert_eq!(outcome(&gate, OWN).await, expected);
    }
    counter.redis.ask("FLUSHALL").await.unwrap();
    // The gate's own count limits nothing while the service answers.
    for expected in ["ok", "ok", "ok", "ok", "ok", "rate-limited"] {
        assert_eq!(outcome(&gate, OWN).await, expected);
    }
    nothing_fell_back(&gate, [0; 3]).await;
}

/// Every limit of a policy gives the same results when it is counted for all gates as when each
/// gate counts for itself, as long as there is one gate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_vector_about_limits_gets_the_same_decision() {
    let vectors = load().unwrap();
    for chain in CHAINS {
        let counter = Counter::start("vectors").await;
        for name in ["rates.json", "costs.json", "shadow.json"] {
            let mut policy = policy::vectors_policy(name);
            policy.rate_limit_service = Some(counter.service(PATIENT_MS));
            for grant in &mut policy.grants {
                let rate = grant.rate.as_mut().map(|limit| &mut limit.scope);
                let cost = grant.cost.as_mut().map(|limit| &mut limit.scope);
                let budget = grant.budget.as_mut().map(|limit| &mut limit.scope);
                for scope in [rate, cost, budget].into_iter().flatten() {
                    *scope = Scope::Global;
                }
            }
            let stack = Lease::with_chain(policy, chain).await;
            let before = questions(&stack).await;
            let file = format!("policies/{name}");
            let mut wrong = Vec::new();
            for vector in vectors.iter().filter(|it| *it.policy_file == file) {
                // A shared counter refunds no reservation.
                if !vector.runs_on(Driver::Envoy) || vector.used.is_some() {
                    continue;
                }
                let mut last = None;
                for _ in 0..vector.repeat {
                    last = Some(ask::send(stack.gate, &vector.request).await.unwrap());
                }
                wrong.extend(verdict::compare(vector, &last.unwrap()).err());
            }
            assert!(wrong.is_empty(), "{chain}, {name}:\n{}", wrong.join("\n"));
            nothing_fell_back(&stack, before).await;
        }
    }
}
