//! Limits that several real gates share. Each gate is an Envoy of several workers and a sandbox
//! host. The Redis behind them is killed, suspended, emptied and restarted. And the protocol
//! itself, with Envoy's own client, server and filter.

mod failures;
mod loaded;
mod protocol;
mod shared;
mod streams;
mod tokens;

use std::path::PathBuf;

use tensorgate_client::redis::Redis;
use tensorgate_policy::raw::{self, Policy, Rate, RateLimitService, Scope};
use tensorgate_tests::programs::target;
use tensorgate_tests::{Stack, ask, policy};

/// A window so long that no unit comes back within a test: one takes hours.
pub const MONTH_S: u64 = 2_678_400;
/// Longer than any call to the service takes on a busy machine: the test must count in the service,
/// and not in a gate's fallback.
pub const PATIENT_MS: u64 = 1_000;

/// A Redis, and the folder of its files; both end with the test.
pub struct Counter {
    /// The server.
    pub redis: Redis,
    folder: PathBuf,
}

impl Counter {
    /// Starts a server for a test of this name.
    pub async fn start(name: &str) -> Self {
        let folder = target().join(format!("e2e/redis-{name}-{}", std::process::id()));
        let redis = Redis::start(&folder).await.unwrap();
        Self { redis, folder }
    }

    /// A rate limit service that counts in this Redis.
    pub fn service(&self, timeout_ms: u64) -> RateLimitService {
        RateLimitService {
            redis: Some(raw::Redis {
                url: Some(self.redis.url()),
                ..raw::Redis::default()
            }),
            timeout_ms: Some(timeout_ms),
            ..RateLimitService::default()
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A rate that gates share.
pub fn shared_rate(quota: u64, window_s: u64) -> Rate {
    Rate {
        quota: Some(quota),
        window_s: Some(window_s),
        burst: None,
        local_share: None,
        scope: Scope::Global,
    }
}

/// The vectors' policy about rates. Its one grant has this rate, and a further grant of `rate-2`
/// has the other.
pub fn policy_with(service: RateLimitService, rate: Rate, other: Rate) -> Policy {
    let mut policy = policy::vectors_policy("rates.json");
    policy.grants[0].operations = vec!["infer".to_owned()];
    policy.rate_limit_service = Some(service);
    let mut grant = policy.grants[0].clone();
    grant.name = Some("other".into());
    grant.clients = vec!["rate-2".into()];
    grant.rate = Some(other);
    policy.grants[0].clients.retain(|client| client != "rate-2");
    policy.grants[0].rate = Some(rate);
    policy.grants.push(grant);
    policy
}

/// The outcome of a client's request.
pub async fn outcome(stack: &Stack, client: &str) -> String {
    ask::outcome(stack.gate, client, &[]).await.unwrap()
}

/// Calls of a gate's filter to the service, by outcome: answered, failed, skipped.
pub async fn questions(stack: &Stack) -> [u64; 3] {
    let stats = stack.envoy_stats("tensorgate_rate_limit_service").await;
    ["answered", "failed", "skipped"].map(|outcome| {
        let named = format!("outcome={outcome};");
        let counted = stats.lines().filter(|line| line.contains(&named));
        let count = |line: &str| line.rsplit(' ').next()?.trim().parse::<u64>().ok();
        counted.filter_map(count).sum()
    })
}

/// Waits until a gate's filter has had more than `before` answers.
pub async fn answered_again(stack: &Stack, client: &str, before: u64) {
    let end = std::time::Instant::now() + ask::PATIENCE;
    while questions(stack).await[0] <= before {
        outcome(stack, client).await;
        assert!(
            std::time::Instant::now() < end,
            "the service is not asked again"
        );
    }
}

/// The log's lines about the service.
pub fn lines(stack: &Stack) -> Vec<String> {
    let log = stack.log("envoy.log");
    let lines = log
        .lines()
        .filter(|line| line.contains("rate limit service:"));
    lines.map(str::to_owned).collect()
}
