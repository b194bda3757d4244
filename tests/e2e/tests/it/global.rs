//! Limits that several real gates share. Each gate is an Envoy of several workers and a sandbox
//! host, which charges the limits. The Redis behind them is killed, suspended, emptied and
//! restarted. And the protocol itself, with Envoy's own client, server and filter.

mod failures;
mod loaded;
mod protocol;
mod shared;
mod streams;
mod tokens;

use std::path::PathBuf;

use tensorgate_client::redis::Redis;
use tensorgate_policy::values::Scope;
use tensorgate_policy_compiler::raw::{self, Policy, Rate, RateLimitService};
use tensorgate_tests::programs::target;
use tensorgate_tests::{Stack, ask, policy};

/// A window so long that no unit comes back within a test: one takes hours.
pub const MONTH_S: u64 = 2_678_400;
/// Longer than any call to the service takes on a busy machine: the test must count in the service,
/// and not in a gate's fallback.
pub const PATIENT_MS: u64 = 1_000;
/// The gate, and its parts in a chain.
pub const CHAINS: [&str; 2] = ["gate", "auth,rate-limit,tensor-guard"];

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
            timeout_ms: timeout_ms.into(),
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
        quota: Some(quota.into()),
        window_s: Some(window_s.into()),
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

/// Charges of shared limits by a gate's host since its start, by outcome: answered, failed and
/// skipped.
pub async fn questions(stack: &Stack) -> [u64; 3] {
    let page = stack.ask_admin("/metrics").await;
    let outcomes: [&[&str]; 3] = [&["ok", "over-limit"], &["failed", "unknown"], &["skipped"]];
    outcomes.map(|outcomes| {
        let counts = outcomes.iter().filter_map(|outcome| {
            let series = format!("tensorgate_limits_questions_total{{outcome=\"{outcome}\"}} ");
            let count = page.lines().find_map(|line| line.strip_prefix(&series));
            count?.trim().parse::<u64>().ok()
        });
        counts.sum()
    })
}

/// The same since an earlier look: a borrowed gate has counted for other tests.
pub async fn questions_since(stack: &Stack, before: [u64; 3]) -> [u64; 3] {
    let now = questions(stack).await;
    std::array::from_fn(|at| now[at] - before[at])
}

/// Checks that a gate's filters have asked the service nothing: with a host behind them, the host
/// makes all charges of shared limits.
pub async fn no_filter_asks(stack: &Stack) {
    let stats = stack.envoy_stats("tensorgate_rate_limit_service").await;
    let counted = stats.lines().filter(|line| !line.ends_with(": 0"));
    let calls: Vec<_> = counted.filter(|line| line.contains("outcome=")).collect();
    assert!(calls.is_empty(), "{calls:?}");
}

/// Waits until a gate's host has had more than `before` answers.
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

/// The host's log lines about the service.
pub fn lines(stack: &Stack) -> Vec<String> {
    let log = stack.log("host.log");
    let lines = log
        .lines()
        .filter(|line| line.contains("the rate-limit service "));
    lines.map(str::to_owned).collect()
}
