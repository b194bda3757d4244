//! Limits that gateways share, counted by real hosts in a real Redis: exact, all or none, and
//! bounded in time and memory whatever happens to that Redis.

mod blocked;
mod in_process;
mod memory;
mod others;
mod reload;
mod requests;
mod streams;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tensorgate_client::redis::Redis;
use tensorgate_limits::PATH;
use tensorgate_wire::rate_limit::{Code, Descriptor, RateLimitRequest, RateLimitResponse};
use tokio::net::UnixStream;

use crate::support;
use support::{PATIENCE, Running, folder, mode, policy, start_with, until};

/// The timeout of a call here: longer than any call takes on a busy machine.
const TIMEOUT_MS: u64 = 1_000;
/// A window so long that no unit comes back within a test: one takes hours.
const MONTH_S: u64 = 2_678_400;

/// A rate of `quota` a month, and 1,000 elements a day, shared over a Redis.
fn shared(redis: &Value, quota: u64) -> Value {
    let mut policy = policy("http://127.0.0.1:9", json!({}), json!({}));
    policy["rate_limit_service"] = json!({"redis": redis, "timeout_ms": TIMEOUT_MS});
    let grant = &mut policy["grants"][0];
    grant["rate"] = json!({"quota": quota, "window_s": MONTH_S, "scope": "global"});
    grant["budget"] = json!({"elements": 1_000, "per": "day", "scope": "global"});
    grant["cost"] = json!({"bytes": 4_000_000, "window_s": 60, "scope": "global"});
    policy
}

async fn redis() -> (Redis, PathBuf) {
    let folder = folder();
    (Redis::start(&folder).await.unwrap(), folder)
}

/// A host that is connected to a Redis.
async fn over(redis: &Redis, quota: u64) -> Running {
    let running = start_with(shared(&json!({"url": redis.url()}), quota), &[]).await;
    connected(&running, 1).await;
    running
}

async fn connected(running: &Running, up: u64) {
    let line = format!("tensorgate_limits_redis_up {up}");
    until(&line, || running.metrics().contains(&line)).await;
}

fn descriptor(limit: &str, client: &str, hits: u64) -> Descriptor {
    Descriptor {
        entries: vec![
            ("limit".into(), limit.into()),
            ("client".into(), client.into()),
        ],
        limit: None,
        hits: Some(hits),
    }
}

fn question(descriptors: Vec<Descriptor>) -> RateLimitRequest {
    RateLimitRequest {
        domain: "tensorgate".into(),
        descriptors,
        hits: 1,
    }
}

/// One request of `scorer`.
fn request() -> RateLimitRequest {
    question(vec![descriptor("g", "scorer", 1)])
}

/// A charge of so many elements and bytes.
fn content(elements: u64, bytes: u64) -> RateLimitRequest {
    question(vec![
        descriptor("g:elements:day", "scorer", elements),
        descriptor("g:bytes", "scorer", bytes),
    ])
}

/// Calls a host's service; gRPC's status if there is no answer.
async fn ask(running: &Running, question: &RateLimitRequest) -> Result<RateLimitResponse, String> {
    let body = tensorgate_client::grpc::frame(&question.to_bytes());
    send(running, PATH, body).await
}

async fn send(running: &Running, path: &str, body: Vec<u8>) -> Result<RateLimitResponse, String> {
    let socket = running.gate.socket.with_file_name("limits.sock");
    let stream = UnixStream::connect(socket).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("http://limits{path}"))
        .header("content-type", "application/grpc")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = |headers: &http::HeaderMap| {
        let status = headers.get("grpc-status")?;
        Some(status.to_str().unwrap().to_owned())
    };
    if let Some(status) = status(response.headers()) {
        return Err(status);
    }
    let body = response.into_body().collect().await.unwrap();
    assert_eq!(body.trailers().and_then(status).as_deref(), Some("0"));
    let bytes = body.to_bytes();
    Ok(RateLimitResponse::from_bytes(&bytes[5..]).unwrap())
}

/// Whether it passes, and the remaining quota of each limit.
async fn asked(running: &Running, question: &RateLimitRequest) -> (bool, Vec<u32>) {
    let answer = ask(running, question).await.unwrap();
    let left = answer.statuses.iter().map(|status| status.left).collect();
    (answer.code == Code::Ok, left)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_share_one_limit_exactly() {
    let (redis, files) = redis().await;
    let (one, other) = (over(&redis, 150).await, over(&redis, 150).await);
    let mut passed = 0;
    for _ in 0..20 {
        let question = request();
        let asks = (0..5).flat_map(|_| [ask(&one, &question), ask(&other, &question)]);
        let answers = futures(asks.collect()).await;
        let ok =
            |answer: &Result<RateLimitResponse, String>| answer.as_ref().unwrap().code == Code::Ok;
        passed += answers.iter().filter(|answer| ok(answer)).count();
    }
    assert_eq!(passed, 150, "of 200");
    // Another client's limit is separate; a client without a grant has none.
    let keys = redis.keys().await.unwrap();
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(!keys[0].contains("scorer"), "{keys:?}");
    one.stop().await;
    other.stop().await;
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}

/// Runs all of them at once.
async fn futures<F: Future>(all: Vec<F>) -> Vec<F::Output> {
    let mut pinned: Vec<_> = all.into_iter().map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = pinned.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, output) in pinned.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *output = Some(ready);
            }
        }
        if outputs.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_limits_are_charged_all_or_none_and_their_keys_expire() {
    let (redis, files) = redis().await;
    let host = over(&redis, 10).await;
    assert_eq!(
        asked(&host, &content(900, 1_000_000)).await,
        (true, vec![100, 3_000_000])
    );
    // There are enough bytes.
    assert!(!asked(&host, &content(101, 8)).await.0);
    assert!(asked(&host, &content(100, 3_000_000)).await.0);
    let refused = ask(&host, &content(1, 1)).await.unwrap();
    assert_eq!(refused.code, Code::OverLimit);
    let (elements, bytes) = (refused.statuses[0], refused.statuses[1]);
    assert_eq!((elements.code, elements.left), (Code::OverLimit, 0));
    let day_ns = 86_400_000_000_000;
    assert!(
        (1..=day_ns).contains(&elements.reset_ns.unwrap()),
        "{elements:?}"
    );
    // Some have come back since.
    assert_eq!(bytes.code, Code::Ok);
    // More than the limit's whole quota.
    let never = ask(&host, &content(1_001, 1)).await.unwrap();
    assert_eq!(never.code, Code::OverLimit);
    for key in redis.keys().await.unwrap() {
        let lapses = redis.ask(&format!("PTTL {key}")).await.unwrap();
        let lapses_ms: u64 = lapses.trim_start_matches(':').parse().unwrap();
        assert!((1..=86_401_000).contains(&lapses_ms), "{key} {lapses_ms}");
    }
    host.stop().await;
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalid_request_is_an_error_and_charges_no_client() {
    let (redis, files) = redis().await;
    let host = over(&redis, 10).await;
    let socket = host.gate.socket.with_file_name("limits.sock");
    assert_eq!(mode(&socket), 0o600);
    let with = |change: &dyn Fn(&mut RateLimitRequest)| {
        let mut question = request();
        change(&mut question);
        question
    };
    let entry = |key: &str| (key.to_owned(), "g".to_owned());
    for (question, status, what) in [
        (with(&|it| it.domain = "other".into()), "5", "a domain"),
        (question(vec![descriptor("h", "scorer", 1)]), "5", "a limit"),
        (
            question(vec![descriptor("g", "unknown", 1)]),
            "5",
            "a client",
        ),
        (
            question(vec![descriptor("g:tokens", "scorer", 1)]),
            "5",
            "a unit",
        ),
        (question(vec![]), "3", "nothing"),
        (
            question(vec![
                descriptor("g", "scorer", 1),
                descriptor("g", "scorer", 2),
            ]),
            "3",
            "one limit twice",
        ),
        (
            with(&|it| it.descriptors[0].entries.truncate(1)),
            "3",
            "no client",
        ),
        (
            with(&|it| it.descriptors[0].entries.swap(0, 1)),
            "3",
            "in another order",
        ),
        (
            with(&|it| it.descriptors[0].entries.push(entry("more"))),
            "3",
            "more entries",
        ),
    ] {
        assert_eq!(
            ask(&host, &question).await,
            Err(status.to_owned()),
            "{what}"
        );
    }
    let message = request().to_bytes();
    let frame = tensorgate_client::grpc::frame(&message);
    let compressed = [&[1][..], &frame[1..]].concat();
    let long = tensorgate_client::grpc::frame(&vec![0x0a; 17 << 10]);
    for (path, body, status) in [
        (
            "/envoy.service.ratelimit.v3.RateLimitService/Other",
            frame.clone(),
            "12",
        ),
        (PATH, vec![], "3"),
        (PATH, message, "3"),
        (PATH, compressed, "3"),
        (PATH, [&frame[..], &frame[..]].concat(), "3"),
        (PATH, frame[..frame.len() - 1].to_vec(), "3"),
        (PATH, tensorgate_client::grpc::frame(b"\xff"), "3"),
        (PATH, long, "3"),
    ] {
        assert_eq!(send(&host, path, body).await, Err(status.to_owned()));
    }
    assert_eq!(redis.keys().await.unwrap(), Vec::<String>::new());
    // A descriptor without an amount of its own uses the request's, and without either it is one.
    let mut bare = request();
    bare.descriptors[0].hits = None;
    bare.hits = 3;
    assert_eq!(asked(&host, &bare).await, (true, vec![7]));
    bare.hits = 0;
    assert_eq!(asked(&host, &bare).await, (true, vec![6]));
    host.stop().await;
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_down_calls_fail_at_once_and_it_restarts_empty() {
    let (mut redis, files) = redis().await;
    let host = over(&redis, 3).await;
    assert_eq!(asked(&host, &request()).await, (true, vec![2]));
    redis.kill().await.unwrap();
    connected(&host, 0).await;
    for _ in 0..20 {
        let began = Instant::now();
        assert_eq!(ask(&host, &request()).await, Err("14".into()));
        assert!(began.elapsed() < Duration::from_millis(TIMEOUT_MS));
    }
    redis.restart().await.unwrap();
    connected(&host, 1).await;
    assert_eq!(
        asked(&host, &request()).await,
        (true, vec![2]),
        "nothing is remembered"
    );
    // Its data and its scripts are lost while the connection stays open.
    redis.ask("FLUSHALL").await.unwrap();
    assert_eq!(asked(&host, &request()).await, (true, vec![2]));
    redis.ask("SCRIPT FLUSH").await.unwrap();
    assert_eq!(ask(&host, &request()).await, Err("14".into()));
    let again = async {
        while ask(&host, &request()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    host.stop().await;
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_hanging_calls_end_at_their_timeout() {
    let (redis, files) = redis().await;
    let mut policy = shared(&json!({"url": redis.url()}), 1_000);
    // Well before the connection is given up, which is after a second without a reply.
    let timeout = Duration::from_millis(300);
    policy["rate_limit_service"]["timeout_ms"] = json!(300);
    let host = start_with(policy, &[]).await;
    connected(&host, 1).await;
    redis.freeze().await.unwrap();
    let began = Instant::now();
    assert_eq!(ask(&host, &request()).await, Err("4".into()));
    let took = began.elapsed();
    assert!((timeout..timeout * 4).contains(&took), "{took:?}");
    // Given up after a second, and no call waits for it any more.
    connected(&host, 0).await;
    let began = Instant::now();
    assert_eq!(ask(&host, &request()).await, Err("14".into()));
    assert!(began.elapsed() < timeout);
    redis.thaw().await.unwrap();
    connected(&host, 1).await;
    assert!(asked(&host, &request()).await.0);
    host.stop().await;
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_data_under_a_key_affects_only_that_limit() {
    let (redis, files) = redis().await;
    let host = over(&redis, 10).await;
    assert!(asked(&host, &request()).await.0);
    let key = redis.keys().await.unwrap().remove(0);
    for spoilt in [
        format!("SET {key} full"),
        format!("SET {key} \"b 1 2 3\""),
        format!("SET {key} \"d 1 2\""),
        format!("LPUSH {key} 1"),
    ] {
        redis.ask(&format!("DEL {key}")).await.unwrap();
        redis.ask(&spoilt).await.unwrap();
        assert_eq!(ask(&host, &request()).await, Err("13".into()), "{spoilt}");
        assert!(asked(&host, &content(1, 1)).await.0, "{spoilt}");
    }
    // A bucket that is full in a thousand years, as after a clock went back. A client waits at most
    // as long as the bucket takes to fill.
    let pace = MONTH_S * 1_000_000 / 10;
    redis.ask(&format!("DEL {key}")).await.unwrap();
    let far = format!("SET {key} \"b {pace} 1 8000000000000000 0\"");
    redis.ask(&far).await.unwrap();
    let refused = ask(&host, &request()).await.unwrap();
    assert_eq!(
        (refused.code, refused.statuses[0].left),
        (Code::OverLimit, 0)
    );
    let unit_ns = pace * 1_000;
    let reset_ns = refused.statuses[0].reset_ns.unwrap();
    assert!(
        (unit_ns - 1_000_000..=unit_ns).contains(&reset_ns),
        "{reset_ns}"
    );
    host.stop().await;
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_limit_keeps_the_used_quota() {
    let (redis, files) = redis().await;
    let (ten, twenty) = (over(&redis, 10).await, over(&redis, 20).await);
    for left in (5..10).rev() {
        assert_eq!(asked(&ten, &request()).await, (true, vec![left]));
    }
    // Five are used, whatever the rate; at most a fraction of a unit is lost to rounding.
    let (passes, left) = asked(&twenty, &request()).await;
    assert!(passes && (13..=14).contains(&left[0]), "{left:?}");
    let (passes, left) = asked(&ten, &request()).await;
    assert!(passes && (2..=3).contains(&left[0]), "{left:?}");
    ten.stop().await;
    twenty.stop().await;
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}
