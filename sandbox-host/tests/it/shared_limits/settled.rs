//! Reservations of limits that gateways share: settled once, by name and amount alone, and never
//! after they expired in Redis.

use serde_json::{Value, json};
use tensorgate_client::redis::Redis;
use tensorgate_wire::rate_limit::{Code, Descriptor, RateLimitRequest, RateLimitResponse};

use super::support::{Running, start_with};
use super::{MONTH_S, ask, asked, connected, futures, question, redis, shared};

/// A policy with a Redis: 200 tokens a month, and 300 a day.
pub(super) fn with_tokens(redis: &Redis) -> Value {
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

/// A host with this policy.
async fn over(redis: &Redis) -> Running {
    let running = start_with(with_tokens(redis), &[]).await;
    connected(&running, 1).await;
    running
}

fn with(hits: u64, entries: &[(&str, &str)]) -> RateLimitRequest {
    let descriptor = |limit: &str| {
        let named = [("limit", limit), ("client", "scorer")];
        let entries = named.iter().chain(entries);
        Descriptor {
            entries: entries
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            limit: None,
            hits: Some(hits),
        }
    };
    question(vec![
        descriptor("chat:tokens"),
        descriptor("chat:tokens:day"),
    ])
}

fn reserves(hits: u64, name: &str) -> RateLimitRequest {
    with(hits, &[("reserves", name)])
}

fn settles(hits: u64, name: &str, used: &str) -> RateLimitRequest {
    with(hits, &[("settles", name), ("used", used)])
}

fn settled(answer: &Result<RateLimitResponse, String>) -> Result<Code, &str> {
    answer
        .as_ref()
        .map(|answer| answer.code)
        .map_err(String::as_str)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reservation_is_refunded_once_however_often_it_is_settled() {
    let (redis, files) = redis().await;
    let (one, other) = (over(&redis).await, over(&redis).await);
    assert_eq!(
        asked(&one, &reserves(150, "a")).await,
        (true, vec![50, 150])
    );
    assert!(!asked(&other, &reserves(60, "b")).await.0);
    // Not with another amount or name; nor is anything left of a rejected one.
    for wrong in [
        settles(149, "a", "1"),
        settles(150, "A", "1"),
        settles(60, "b", "1"),
    ] {
        assert_eq!(settled(&ask(&one, &wrong).await), Err("5"));
    }
    // Many at once, on both hosts.
    let right = settles(150, "a", "10");
    let asks = (0..10).flat_map(|_| [ask(&one, &right), ask(&other, &right)]);
    let answers = futures(asks.collect()).await;
    let count =
        |wanted: Result<Code, &str>| answers.iter().filter(|it| settled(it) == wanted).count();
    assert_eq!((count(Ok(Code::Ok)), count(Err("5"))), (1, 19));
    assert_eq!(
        asked(&other, &reserves(60, "b")).await,
        (true, vec![130, 230])
    );
    // A request that uses more than it has reserved.
    assert_eq!(
        settled(&ask(&one, &settles(60, "b", "70")).await),
        Ok(Code::Ok)
    );
    assert_eq!(asked(&one, &with(1, &[])).await, (true, vec![119, 219]));
    // More than the whole quota.
    assert!(asked(&one, &reserves(1, "c")).await.0);
    assert_eq!(
        settled(&ask(&one, &settles(1, "c", "18446744073709551615")).await),
        Ok(Code::Ok)
    );
    assert_eq!(
        ask(&one, &with(1, &[])).await.unwrap().code,
        Code::OverLimit
    );
    let metrics = one.metrics();
    for line in [
        "tensorgate_limits_settlements_total{outcome=\"settled\"}",
        "tensorgate_limits_settlements_total{outcome=\"unknown\"}",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
    one.stop().await;
    other.stop().await;
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reused_reservation_name_reserves_nothing() {
    let (redis, files) = redis().await;
    let host = over(&redis).await;
    assert!(asked(&host, &reserves(50, "a")).await.0);
    assert_eq!(
        asked(&host, &reserves(50, "a")).await,
        (true, vec![100, 200])
    );
    assert_eq!(
        settled(&ask(&host, &settles(50, "a", "1")).await),
        Ok(Code::Ok)
    );
    assert_eq!(settled(&ask(&host, &settles(50, "a", "1")).await), Err("5"));
    assert_eq!(asked(&host, &with(1, &[])).await, (true, vec![148, 248]));
    host.stop().await;
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_data_loss_nothing_is_refunded_and_reservations_expire() {
    let (mut redis, files) = redis().await;
    let host = over(&redis).await;
    assert!(asked(&host, &reserves(150, "a")).await.0);
    let reserved: Vec<_> = redis.keys().await.unwrap();
    let reserved = reserved.iter().filter(|key| key.contains(":reserved:a"));
    for key in reserved.clone() {
        let lapses = redis.ask(&format!("PTTL {key}")).await.unwrap();
        let lapses_ms: u64 = lapses.trim_start_matches(':').parse().unwrap();
        assert!((1..=65_000).contains(&lapses_ms), "{key} {lapses_ms}");
    }
    assert_eq!(reserved.count(), 2);
    redis.kill().await.unwrap();
    connected(&host, 0).await;
    assert_eq!(
        settled(&ask(&host, &settles(150, "a", "1")).await),
        Err("14")
    );
    redis.restart().await.unwrap();
    connected(&host, 1).await;
    assert!(asked(&host, &with(150, &[])).await.0);
    assert_eq!(
        settled(&ask(&host, &settles(150, "a", "1")).await),
        Err("5")
    );
    assert_eq!(asked(&host, &with(1, &[])).await, (true, vec![49, 149]));
    host.stop().await;
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settling_an_unknown_reservation_is_an_error_without_effect() {
    let (redis, files) = redis().await;
    let host = over(&redis).await;
    assert!(asked(&host, &reserves(50, "a")).await.0);
    let before = redis.keys().await.unwrap().len();
    let long = "a".repeat(65);
    let mut mixed = settles(50, "a", "1");
    mixed.descriptors[0].entries.truncate(2);
    let mut requests = reserves(1, "x");
    requests.descriptors.truncate(1);
    requests.descriptors[0].entries[0].1 = "g".into();
    for wrong in [
        with(1, &[("reserves", "")]),
        with(1, &[("reserves", &long)]),
        with(1, &[("reserves", "a:b")]),
        with(1, &[("reserves", "a}")]),
        with(1, &[("reserves", "x"), ("reserves", "y")]),
        with(50, &[("settles", "a")]),
        with(50, &[("used", "1"), ("settles", "a")]),
        settles(50, "a", ""),
        settles(50, "a", "-1"),
        settles(50, "a", "1e1"),
        settles(50, "a", "18446744073709551616"),
        mixed,
        requests,
    ] {
        assert_eq!(settled(&ask(&host, &wrong).await), Err("3"), "{wrong:?}");
    }
    // The key of that name has other contents.
    let keys = redis.keys().await.unwrap();
    let key = keys
        .iter()
        .find(|key| key.contains("}:tokens:reserved:a"))
        .unwrap();
    redis.ask(&format!("SET {key} \"t 50 1\"")).await.unwrap();
    assert_eq!(
        settled(&ask(&host, &settles(50, "a", "1")).await),
        Err("13")
    );
    assert_eq!(redis.keys().await.unwrap().len(), before);
    assert_eq!(asked(&host, &with(1, &[])).await, (true, vec![149, 249]));
    host.stop().await;
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}
