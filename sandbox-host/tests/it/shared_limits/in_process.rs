//! Shared limits that hosts charge themselves in one Redis: exact, refunded once, and counted by
//! each host alone while Redis is away.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use serde_json::{Value, json};
use tensorgate_client::redis::Redis;
use tensorgate_limits::{Clock, LocalLimits, Reservations, SharedCharges, SharedLimits, Spent};
use tensorgate_policy::decision::LimitCharge;
use tensorgate_policy::policy::Unit;
use tensorgate_policy::values::Scope;
use tensorgate_policy::{Charge, ChargeOutcome, Now, Policy};
use tensorgate_policy_compiler::validate::validate;
use tensorgate_telemetry::metrics::Metrics;

use super::support::{PATIENCE, now_unix_s, until};
use super::{MONTH_S, futures, redis, shared};

/// A policy with a Redis: 200 tokens a month, and 300 a day.
fn with_tokens(redis: &Redis) -> Value {
    let mut policy = shared(&json!({"url": redis.url()}), 1_000);
    policy["backends"]["llm"] = json!({"kind": "openai", "endpoints": ["http://127.0.0.1:9"]});
    policy["models"]["llama"] = json!({"backend": "llm", "versions": ["1"], "protocols": ["openai"], "openai": {
        "chat": {"max_messages": 1, "max_message_bytes": 8, "max_prompt_bytes": 8, "max_tokens": 16}
    }});
    let grant = json!({
        "name": "chat", "clients": ["scorer"], "models": ["llama"], "operations": ["infer"],
        "cost": {"tokens": 200, "window_s": MONTH_S, "scope": "global"},
        "budget": {"tokens": 300, "per": "day", "scope": "global"}
    });
    policy["grants"].as_array_mut().unwrap().push(grant);
    policy
}

/// What a host charges with.
struct Charges {
    policy: Arc<Policy>,
    limits: Arc<SharedLimits>,
    shared: SharedCharges,
    metrics: Arc<Metrics>,
}

impl Charges {
    /// The charges of a host with this policy, connected to its Redis.
    async fn of(policy: Value) -> Self {
        let (policy, _) = validate(&serde_json::from_value(policy).unwrap()).unwrap();
        let policy = Arc::new(policy);
        let limits = SharedLimits::from_policy(&policy, Path::new("/"), &[], &Gauge::default());
        let limits = limits.unwrap().unwrap();
        until("connected to redis", || limits.is_up()).await;
        let started = Instant::now();
        let clock: Clock = Box::new(move || Now {
            unix_s: now_unix_s(),
            monotonic_ns: u64::try_from(started.elapsed().as_nanos()).unwrap() + 1_000_000_000,
        });
        let metrics = Arc::new(Metrics::new());
        let local = Arc::new(LocalLimits::new(Spent::Known, clock()));
        Self {
            policy,
            limits,
            shared: SharedCharges::new(local, Arc::clone(&metrics), clock),
            metrics,
        }
    }

    /// Charges an amount to all limits of a grant on a unit.
    async fn charge(
        &self,
        grant: &str,
        (unit, amount): (Unit, u64),
        request_id: &str,
    ) -> (ChargeOutcome, Reservations) {
        let mut grants = self.policy.grants().iter();
        let grant = grants.find(|one| one.name() == grant).unwrap();
        let limits = grant.per_request().chain(grant.per_content());
        let limits = limits.filter(|limit| limit.unit == unit);
        let charge = Charge {
            scope: Scope::Global,
            grant: grant.name().into(),
            client: "scorer".into(),
            limit_charges: limits
                .map(|allowance| LimitCharge { allowance, amount })
                .collect(),
            ..Charge::default()
        };
        let service = self.policy.rate_limit_service().unwrap();
        let limits = Some(&self.limits);
        self.shared
            .charge(limits, service, &charge, request_id)
            .await
    }

    /// Whether one request is allowed.
    async fn is_allowed(&self) -> bool {
        let (outcome, reserved) = self.charge("g", (Unit::Requests, 1), "r").await;
        assert!(reserved.is_empty());
        matches!(outcome, ChargeOutcome::Charged(_))
    }

    /// Reserves tokens.
    async fn reserve(&self, tokens: u64, request_id: &str) -> (ChargeOutcome, Reservations) {
        self.charge("chat", (Unit::Tokens, tokens), request_id)
            .await
    }
}

/// The units that are left, if the charge was made.
fn units_left(outcome: &ChargeOutcome) -> Option<Vec<u64>> {
    match outcome {
        ChargeOutcome::Charged(quotas) => Some(quotas.iter().map(|quota| quota.left).collect()),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_charge_one_limit_exactly() {
    let (redis, files) = redis().await;
    let policy = shared(&json!({"url": redis.url()}), 150);
    let one = Charges::of(policy.clone()).await;
    let other = Charges::of(policy).await;
    let mut allowed = 0;
    for _ in 0..20 {
        let charges = (0..5).flat_map(|_| [one.is_allowed(), other.is_allowed()]);
        let outcomes = futures(charges.collect()).await;
        allowed += outcomes.iter().filter(|is_allowed| **is_allowed).count();
    }
    assert_eq!(allowed, 150, "of 200");
    assert_eq!(redis.keys().await.unwrap().len(), 1);
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unused_tokens_come_back_once_and_only_if_they_are_settled() {
    let (redis, files) = redis().await;
    let one = Charges::of(with_tokens(&redis)).await;
    let other = Charges::of(with_tokens(&redis)).await;
    let (outcome, reserved) = one.reserve(150, "a").await;
    assert_eq!(units_left(&outcome), Some(vec![50, 150]));
    assert_eq!(units_left(&other.reserve(60, "b").await.0), None);
    one.shared.settle(reserved, 10).await;
    let (outcome, dropped) = other.reserve(60, "c").await;
    assert_eq!(units_left(&outcome), Some(vec![130, 230]));
    drop(dropped);
    // A usage of no tokens counts one.
    let (outcome, reserved) = one.reserve(30, "d").await;
    assert_eq!(units_left(&outcome), Some(vec![100, 200]));
    one.shared.settle(reserved, 0).await;
    let (outcome, reserved) = one.reserve(1, "not an ID!").await;
    assert_eq!(units_left(&outcome), Some(vec![128, 228]));
    // Redis keeps no reservation under such a name.
    one.shared.settle(reserved, 9).await;
    let (outcome, _) = other.reserve(1, "e").await;
    assert_eq!(units_left(&outcome), Some(vec![127, 227]));
    let metrics = one.metrics.text().unwrap();
    let settled = "tensorgate_limits_settlements_total{outcome=\"settled\"} 2";
    assert!(metrics.contains(settled), "{metrics}");
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_each_host_counts_from_what_it_has_let_through() {
    let (mut redis, files) = redis().await;
    let policy = shared(&json!({"url": redis.url()}), 5);
    let hosts = [
        Charges::of(policy.clone()).await,
        Charges::of(policy.clone()).await,
    ];
    for _ in 0..3 {
        assert!(hosts[0].is_allowed().await);
    }
    redis.kill().await.unwrap();
    for (host, left) in hosts.iter().zip([2, 5]) {
        until("not connected to redis", || !host.limits.is_up()).await;
        for charge in 0..8 {
            assert_eq!(host.is_allowed().await, charge < left, "{charge}");
        }
    }
    redis.restart().await.unwrap();
    let host = &hosts[0];
    until("connected to redis", || host.limits.is_up()).await;
    // Redis has forgotten everything. It is asked again with the next probe.
    let again = async {
        while !host.is_allowed().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}
