//! The memory that clients use in Redis: one key per limit with used quota, until it has refilled.

use std::time::Duration;

use serde_json::json;
use tensorgate_client::redis::Redis;
use tensorgate_wire::rate_limit::{Code, MAX_DESCRIPTORS};

use super::support::{policy, start_with};
use super::{PATIENCE, TIMEOUT_MS, ask, connected, descriptor, question, redis};

/// Clients that use quota.
const CLIENTS: usize = 8_192;
/// A client's share of Redis's memory in bytes: 256 MB for a million. The documentation says 200.
const CLIENT_BYTES: usize = 256;
/// The time until a used unit is back and its key is gone.
const WINDOW_S: u64 = 2;

async fn keys(redis: &Redis) -> usize {
    let size = redis.ask("DBSIZE").await.unwrap();
    size.trim_start_matches(':').parse().unwrap()
}

async fn used(redis: &Redis) -> usize {
    let told = redis.ask("INFO memory").await.unwrap();
    let used = told
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    used.unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_uses_bounded_redis_memory_until_its_quota_refills() {
    let (redis, files) = redis().await;
    let name = |at: usize| format!("c{at:05}");
    let mut policy = policy("http://127.0.0.1:9", json!({}), json!({}));
    policy["rate_limit_service"] = json!({"redis": {"url": redis.url()}, "timeout_ms": TIMEOUT_MS});
    for at in 0..CLIENTS {
        let key = json!({"api_keys": [{"sha256": format!("{at:064x}")}]});
        policy["clients"][name(at)] = key;
    }
    let grant = &mut policy["grants"][0];
    grant["clients"] = (0..CLIENTS).map(name).collect();
    // What the first phase uses comes back after a day, so that no key expires meanwhile.
    grant["rate"] = json!({"quota": 1, "window_s": 86_400, "scope": "global"});
    let mut brief = policy.clone();
    brief["grants"][0]["rate"] = json!({"quota": 1, "window_s": WINDOW_S, "scope": "global"});

    let host = start_with(policy, &[]).await;
    connected(&host, 1).await;
    let strangers = (0..MAX_DESCRIPTORS).map(|at| descriptor("g", &format!("stranger-{at}"), 1));
    let refused = ask(&host, &question(strangers.collect())).await;
    assert_eq!(refused, Err("5".into()));
    assert_eq!(keys(&redis).await, 0);
    let before = used(&redis).await;
    for first in (0..CLIENTS).step_by(MAX_DESCRIPTORS) {
        let clients = first..first + MAX_DESCRIPTORS;
        let asked = question(clients.map(|at| descriptor("g", &name(at), 1)).collect());
        assert_eq!(ask(&host, &asked).await.unwrap().code, Code::Ok);
    }
    assert_eq!(keys(&redis).await, CLIENTS);
    let each = (used(&redis).await - before) / CLIENTS;
    assert!(each <= CLIENT_BYTES, "{each} bytes a client");
    host.stop().await;

    // The same clients under a limit that refills soon.
    redis.ask("FLUSHALL").await.unwrap();
    let host = start_with(brief, &[]).await;
    connected(&host, 1).await;
    for first in (0..64).step_by(MAX_DESCRIPTORS) {
        let clients = first..first + MAX_DESCRIPTORS;
        let asked = question(clients.map(|at| descriptor("g", &name(at), 1)).collect());
        assert_eq!(ask(&host, &asked).await.unwrap().code, Code::Ok);
    }
    assert!(keys(&redis).await > 0);
    let gone = async {
        while keys(&redis).await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    host.stop().await;
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}
