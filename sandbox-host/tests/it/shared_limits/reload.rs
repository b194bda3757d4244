//! Limits that change while gates still have the previous policy. Each request is answered by a
//! held policy that allows no more than its own.

use serde_json::json;
use tensorgate_client::redis::Redis;
use tensorgate_wire::rate_limit::{
    Code, LimitOverride, RateLimitRequest, RateLimitResponse, TimeUnit,
};

use super::support::Running;
use super::{MONTH_S, ask, descriptor, over, question, redis, shared};

const NEXT: &str = "fedcba9876543210";
const THIRD: &str = "00000000aaaaaaaa";

/// One request of a gate whose policy allows so many a month.
fn stated(quota: u32) -> RateLimitRequest {
    let mut one = descriptor("g", "scorer", 1);
    let limit = LimitOverride {
        quota,
        unit: TimeUnit::Day,
        multiplier: u32::try_from(MONTH_S / 86_400).unwrap(),
    };
    one.limit = Some(limit);
    question(vec![one])
}

async fn reload(host: &Running, redis: &Redis, name: &str, quota: u64) {
    let policy = shared(&json!({"url": redis.url()}), quota);
    let attempt = host.reload(name, &policy).await;
    assert!(attempt.faults.is_empty(), "{:?}", attempt.faults);
}

/// The limit that an answer is based on, and whether it passes.
fn read(answer: &Result<RateLimitResponse, String>) -> (u32, bool) {
    let answer = answer.as_ref().unwrap();
    let limit = answer.statuses[0].limit.unwrap();
    (limit.quota, answer.code == Code::Ok)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raising_a_limit_fails_no_call_of_gates_with_the_old_limit() {
    let (redis, files) = redis().await;
    let host = over(&redis, 5).await;
    reload(&host, &redis, NEXT, 10).await;
    for (said, by) in [(5, 5), (10, 10), (11, 10), (7, 5)] {
        let answer = ask(&host, &stated(said)).await;
        assert_eq!(read(&answer), (by, true), "{said}");
    }
    // A request without a policy version gets the newest one.
    let silent = question(vec![descriptor("g", "scorer", 1)]);
    assert_eq!(read(&ask(&host, &silent).await), (10, true));
    // This one is stricter than any in force, and no gate has it.
    assert_eq!(ask(&host, &stated(4)).await, Err("5".into()));
    // They share one limit: five are used.
    assert_eq!(read(&ask(&host, &stated(5)).await), (5, false));
    let mut passed = 0;
    for _ in 0..10 {
        passed += u32::from(read(&ask(&host, &stated(10)).await).1);
        assert_eq!(read(&ask(&host, &stated(5)).await), (5, false));
    }
    // A unit may be lost when usage is converted to another rate, but none is gained.
    assert!((4..=5).contains(&passed), "{passed}");
    assert_eq!(read(&ask(&host, &stated(10)).await), (10, false));
    host.stop().await;
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lowered_limit_holds_for_every_gate_at_once() {
    let (redis, files) = redis().await;
    let host = over(&redis, 10).await;
    reload(&host, &redis, NEXT, 4).await;
    for (said, passes) in [(10, true), (4, true), (10, true), (4, true), (10, false)] {
        let answer = ask(&host, &stated(said)).await;
        assert_eq!(read(&answer), (4, passes), "{said}");
    }
    // The limit is raised again. Of the held policies the newest counts that is no looser.
    reload(&host, &redis, THIRD, 20).await;
    for (said, by) in [(20, 20), (19, 4), (10, 4), (4, 4)] {
        let answer = ask(&host, &stated(said)).await;
        assert_eq!(read(&answer).0, by, "{said}");
    }
    host.stop().await;
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}
