//! A host at saturation for `SOAK_SECONDS`, with requests that are valid, rejected, hostile or
//! broken off, and with policy changes. Its memory does not grow. `make soak` runs it for a quarter
//! of an hour, the tests for a few seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tensorgate_wire::context::Context;
use tokio::io::AsyncWriteExt as _;

use crate::support;
use crate::support::guests;
use crate::support::spawned;
use spawned::Spawned;
use support::backend::{Act, Backend};
use support::{GENERATION, Gate, INFER, context, folder, infer_body, key, policy};

/// The duration in a test run.
const SHORT_S: u64 = 8;
/// The run has so many parts. The first warms up: threads, pools and caches reach their size.
const PARTS: u64 = 4;
/// The longest time between samples.
const SAMPLE: Duration = Duration::from_secs(60);
/// How far resident memory may grow after the warm-up, in bytes: an allocator's fluctuation. A leak
/// of a hundred bytes per request exceeds it within seconds.
const MAX_GROWTH_BYTES: u64 = 24 << 20;
/// The other policy, and how long each policy is in force.
const OTHER: &str = "1111111111111111";
const RELOAD_EVERY: Duration = Duration::from_secs(1);
/// Callers that send one good request after another.
const CALLERS: usize = 12;

/// The outcomes of requests.
#[derive(Default)]
struct Told {
    served: AtomicU64,
    refused: AtomicU64,
    /// Neither: valid requests that were not served.
    wrong: AtomicU64,
}

/// A guest that traps at a number above 50, and answers two others to anything else.
fn guest() -> Vec<u8> {
    guests::preprocess(
        "(if (f32.gt (f32.load (i32.load offset=20 (local.get 1))) (f32.const 50)) (then (unreachable)))
        (i64.store (i32.const 3000) (i64.const 2))
        (call $tensor (i32.const 2048) (i32.const 11) (i32.const 4096) (i32.const 8))
        (i32.store8 (i32.const 0) (i32.const 120))
        (i32.store offset=12 (i32.const 2048) (i32.const 3000)) (i32.store offset=16 (i32.const 2048) (i32.const 1))
        (call $ok (i32.const 2048) (i32.const 1))",
    )
}

fn bundle(uri: &str, component: &[u8], fuel: u64) -> Value {
    let sha256 = tensorgate_policy::hex(&Sha256::digest(component));
    let limits = json!({"stream_ms": 20_000, "timeout_ms": 10_000});
    let mut policy = policy(
        uri,
        limits,
        json!({"max_in_flight": 64, "queue": 1024, "timeout_ms": 10_000}),
    );
    policy["clients"]["mallory"] = json!({"api_keys": [{"sha256": "04".repeat(32)}]});
    policy["grants"][0]["clients"] = json!(["scorer", "mallory"]);
    policy["handlers"] = json!({"h": {"component": "h.wasm", "sha256": sha256, "fuel": fuel, "memory_bytes": 1 << 20, "timeout_ms": 10_000}});
    let model = policy["models"]["vec"].as_object_mut().unwrap();
    model.insert("preprocess".to_owned(), json!("h"));
    model.insert("accepts".to_owned(), json!({"inputs": model["inputs"]}));
    policy
}

/// Sends valid requests, one after the other.
async fn good(gate: Gate, told: Arc<Told>) {
    loop {
        let answer = gate.infer(&[1.0, 2.0]).await;
        let count = match answer.status {
            200 => &told.served,
            // Only overload rejects valid requests.
            503 => &told.refused,
            _ => &told.wrong,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Requests that must be rejected, each of another kind.
async fn bad(gate: Gate, told: Arc<Told>) {
    let context = Context {
        client: Some("mallory".to_owned()),
        ..context("POST", INFER)
    };
    for number in 0_u64.. {
        let context = Context {
            issued_unix_s: support::now_unix_s(),
            ..context.clone()
        }
        .sign(&key());
        let answer = match number % 4 {
            // The number at which the handler traps.
            0 => {
                gate.send("POST", INFER, &[context], infer_body(&[99.0]))
                    .await
            }
            1 => {
                gate.send("POST", INFER, &[context], "{\"inputs\": [".repeat(1_000))
                    .await
            }
            2 => {
                gate.send(
                    "POST",
                    INFER,
                    &["v7.forged.forged".to_owned()],
                    infer_body(&[1.0]),
                )
                .await
            }
            _ => {
                // A head and half a body; then the client leaves.
                let mut stream = gate.connect().await;
                let half = format!(
                    "POST {INFER} HTTP/1.1\r\nhost: tensorgate\r\nx-request-id: r\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n{}: {context}\r\n\r\n{{\"inputs\": [",
                    tensorgate_wire::context::HEADER
                );
                let _ = stream.write_all(half.as_bytes()).await;
                continue;
            }
        };
        let count = if answer.status >= 400 {
            &told.refused
        } else {
            &told.wrong
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Resident memory of a process, bytes.
fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_at_saturation_keeps_its_memory() {
    let seconds = std::env::var("SOAK_SECONDS").map_or(SHORT_S, |seconds| seconds.parse().unwrap());
    let (whole, warm) = (
        Duration::from_secs(seconds),
        Duration::from_secs(seconds.div_ceil(PARTS)),
    );
    let backend = Backend::start(Act::Answer);
    let there = folder();
    for name in ["root", "run"] {
        std::fs::create_dir(there.join(name)).unwrap();
    }
    let component = guest();
    std::fs::write(there.join("root/h.wasm"), &component).unwrap();
    let policies = [
        (GENERATION, bundle(&backend.uri(), &component, 10_000_000)),
        (OTHER, bundle(&backend.uri(), &component, 20_000_000)),
    ];
    Spawned::bundle(&there, policies[0].0, &policies[0].1);
    let mut host = Spawned::start(there.clone(), "best-effort");
    host.line("tensorgate-host is ready");
    host.comes_to(200).await;
    let (gate, process) = (host.gate(), host.child.id());
    // Its log is drained, as a service manager would.
    let reader = std::thread::spawn({
        let mut lines = host.take_log();
        move || while lines.next().is_some_and(|line| line.is_ok()) {}
    });

    let told = Arc::new(Told::default());
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        load.spawn(good(gate.clone(), Arc::clone(&told)));
    }
    for _ in 0..2 {
        load.spawn(bad(gate.clone(), Arc::clone(&told)));
    }
    load.spawn(async move {
        for (generation, policy) in policies.iter().cycle().skip(1) {
            tokio::time::sleep(RELOAD_EVERY).await;
            Spawned::bundle(&there, generation, policy);
        }
    });

    let started = Instant::now();
    let mut samples: Vec<(Duration, u64)> = Vec::new();
    println!(
        "{:>8} {:>12} {:>10} {:>10} {:>8}",
        "seconds", "resident", "served", "refused", "wrong"
    );
    while started.elapsed() < whole {
        tokio::time::sleep(SAMPLE.min(whole / 16)).await;
        let (at, bytes) = (started.elapsed(), resident(process));
        samples.push((at, bytes));
        let [served, refused, wrong] =
            [&told.served, &told.refused, &told.wrong].map(|count| count.load(Ordering::Relaxed));
        println!(
            "{:>8.1} {:>8.1} MiB {served:>10} {refused:>10} {wrong:>8}",
            at.as_secs_f64(),
            bytes as f64 / f64::from(1 << 20)
        );
    }
    load.abort_all();
    while load.join_next().await.is_some() {}
    let before = samples
        .iter()
        .filter(|(at, _)| *at <= warm)
        .map(|(_, bytes)| *bytes)
        .max()
        .unwrap();
    let after = samples.last().unwrap().1;
    println!(
        "resident after the warm-up {before}, at the end {after}: {} at most",
        before + MAX_GROWTH_BYTES
    );
    assert!(
        after <= before + MAX_GROWTH_BYTES,
        "it grew from {before} to {after} bytes"
    );
    assert!(
        told.served.load(Ordering::Relaxed) > seconds * 10,
        "it served"
    );
    assert_eq!(
        told.wrong.load(Ordering::Relaxed),
        0,
        "good requests are served or too many, bad ones are refused"
    );
    // All resources are released after the last request.
    host.comes_to(200).await;
    drop(host);
    reader.join().unwrap();
}
