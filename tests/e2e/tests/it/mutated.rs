//! Thousands of almost valid requests against a running gate: the vectors of the main policy,
//! changed at random positions by a fixed seed. Whatever their outcome, no worker is lost, none of
//! our processes fails, and memory does not grow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tensorgate_client::{ClientError, Reply};
use tensorgate_tests::{Stack, ask, policy};
use tensorgate_vectors::{Driver, Lowered, RawRequest, is_long, load};

/// The number of requests, and that of the long form.
const REQUESTS: usize = 2_000;
const LONG_REQUESTS: usize = 10_000;
/// Requests at once. The host admits so many of one client however slow the machine is.
const AT_ONCE: usize = 12;
/// The most changes of one request.
const MAX_CHANGES: usize = 4;
/// The gate's time limit for a stream: longer than any request takes.
const STREAM_MS: u64 = 10_000;
/// That for a request and for the backend, which no request may reach on a busy machine either.
const TIMEOUT_MS: u64 = 9_000;
/// How much a process's memory may grow between the middle and the end: a tenth. Allocators keep
/// memory that they once had.
const GROWTH: usize = 10;

/// Pseudo-random numbers, the same every time (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % (end as u64).max(1)) as usize
    }
}

/// One change: of a byte, of a run of bytes, of the length, of a header field.
fn change(random: &mut Random, request: &mut RawRequest) {
    let body = &mut request.body;
    let at = random.below(body.len().max(1));
    match random.below(10) {
        0..=2 if !body.is_empty() => body[at] ^= 1 << random.below(8),
        3 if !body.is_empty() => {
            body[at] = [0, 0xff, b'"', b'{', b']', b',', 0x7f][random.below(7)]
        }
        4 => body.truncate(at),
        5 => {
            let run = body[at.min(body.len())..].iter().take(64).copied();
            let run: Vec<u8> = run.collect();
            body.splice(at.min(body.len())..at.min(body.len()), run);
        }
        6 if !body.is_empty() => {
            let end = (at + random.below(32)).min(body.len());
            body.drain(at..end);
        }
        7 if !request.headers.is_empty() => {
            let place = random.below(request.headers.len());
            let value = &mut request.headers[place].1;
            if !value.is_empty() {
                let at = random.below(value.len());
                value[at] = b"az09-/;=,"[random.below(9)];
            }
        }
        8 if !request.headers.is_empty() => {
            let place = random.below(request.headers.len());
            request.headers.remove(place);
        }
        9 if !request.headers.is_empty() => {
            let place = random.below(request.headers.len());
            let twice = request.headers[place].clone();
            request.headers.push(twice);
        }
        _ => request.chunk_bytes = Some(1 + random.below(64)),
    }
}

fn mutated(vectors: &[Lowered], number: usize) -> RawRequest {
    let mut random = Random(number as u64);
    let mut request = vectors[random.below(vectors.len())].request.clone();
    for _ in 0..=random.below(MAX_CHANGES) {
        change(&mut random, &mut request);
    }
    request
}

/// The outcomes that are allowed: an answer, or a rejection that the request itself caused. No
/// request here may find the gate without memory or slots.
fn expected(reply: &Reply) -> bool {
    match reply.grpc_status() {
        // UNKNOWN, INTERNAL, UNAVAILABLE, DATA_LOSS: no request may cause these.
        Some(status) => !matches!(status, 2 | 13 | 14 | 15),
        None => reply.status < 500,
    }
}

/// Resident memory of each of a gate's processes by name, KiB.
fn memory_kib(stack: &Stack) -> BTreeMap<String, usize> {
    let mut memory = BTreeMap::new();
    for pid in stack.processes() {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let resident = field("VmRSS:");
        let resident = resident.trim_end_matches(" kB").parse().unwrap_or(0);
        *memory.entry(field("Name:")).or_default() += resident;
    }
    memory
}

async fn send_all(
    stack: &Stack,
    vectors: &Arc<Vec<Lowered>>,
    numbers: std::ops::Range<usize>,
) -> BTreeMap<String, usize> {
    let next = Arc::new(AtomicUsize::new(numbers.start));
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let (next, vectors, gate) = (Arc::clone(&next), Arc::clone(vectors), stack.gate);
        senders.spawn(async move {
            let mut seen = BTreeMap::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= numbers.end {
                    return seen;
                }
                let request = mutated(&vectors, number);
                let sent = ask::send(gate, &request);
                let sent = tokio::time::timeout(Duration::from_secs(60), sent).await;
                let sent =
                    sent.unwrap_or_else(|_| panic!("request {number} got no answer: {request:?}"));
                let outcome = outcome(number, &request, sent);
                *seen.entry(outcome).or_insert(0_usize) += 1;
            }
        });
    }
    let mut seen = BTreeMap::new();
    for one in senders.join_all().await {
        for (outcome, count) in one {
            *seen.entry(outcome).or_insert(0) += count;
        }
    }
    seen
}

fn outcome(number: usize, request: &RawRequest, sent: Result<Reply, ClientError>) -> String {
    match sent {
        Ok(reply) => {
            assert!(
                expected(&reply),
                "request {number}: {reply:?} to {request:?}"
            );
            reply.reason().unwrap_or_else(|| "answered".into())
        }
        // Requests that this client cannot express, or that make Envoy close: a wrong length, a
        // field that HTTP/2 forbids.
        Err(_) => "closed".into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn almost_valid_requests_crash_no_worker() {
    let vectors = load().unwrap_or_else(|fault| panic!("{fault}"));
    let of_main = |vector: &Lowered| {
        &*vector.policy_file == "policies/main.json" && vector.runs_on(Driver::Envoy)
    };
    let vectors: Arc<Vec<Lowered>> = Arc::new(vectors.into_iter().filter(of_main).collect());
    let mut main = policy::vectors_policy("main.json");
    main.listen.limits.stream_ms = STREAM_MS.into();
    policy::set_time_limit(&mut main, TIMEOUT_MS);
    let stack = Stack::start("mutated", main).await;
    let processes = stack.processes();

    let requests = if is_long() { LONG_REQUESTS } else { REQUESTS };
    let half = requests / 2;
    let mut seen = send_all(&stack, &vectors, 0..half).await;
    let before = memory_kib(&stack);
    for (outcome, count) in send_all(&stack, &vectors, half..requests).await {
        *seen.entry(outcome).or_insert(0) += count;
    }
    let after = memory_kib(&stack);

    // Most requests were judged, with many different reasons.
    let judged: usize = seen
        .iter()
        .filter(|(outcome, _)| outcome.as_str() != "closed")
        .map(|(_, count)| count)
        .sum();
    assert!(judged * 10 >= requests * 8, "{seen:?}");
    assert!(
        seen.len() >= 12 && seen.contains_key("answered"),
        "{seen:?}"
    );

    assert_eq!(stack.processes(), processes, "no process was started anew");
    for log in ["envoy.log", "host.log"] {
        let log = stack.log(log);
        for sign in [
            "panic",
            "trap",
            "Proxy-Wasm VM failed",
            "gate and host disagree",
        ] {
            let line = log.lines().find(|line| line.contains(sign));
            assert!(line.is_none(), "{line:?}");
        }
    }
    for (name, kib) in &after {
        let most = before[name] + before[name] / GROWTH;
        assert!(*kib <= most, "{name}: {before:?} then {after:?}");
    }
    let good = ask::good(stack.gate, &[]).await.unwrap();
    assert_eq!(good.status, 200, "{good:?}");
}
