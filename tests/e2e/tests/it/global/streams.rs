//! Messages of streams under a limit that gates share, on real Envoys with a real Redis. The hosts
//! charge them, whichever filters are in front. The limit is exact over parallel streams of several
//! gates. Messages stay whole and in order however they are split, and are answered while the
//! stream is open. And what happens when Redis is killed meanwhile.

use std::time::{Duration, Instant};

use tensorgate_client::{Open, grpc};
use tensorgate_policy::values::ServiceFailure;
use tensorgate_policy_compiler::raw::{ByteSize, Dim, Policy, Rate, RateLimitService};
use tensorgate_tests::ask::{self, PATIENCE};
use tensorgate_tests::stack::threads::until_active;
use tensorgate_tests::streams::{Streamed, messages};
use tensorgate_tests::{Lease, Setup, Stack, policy};
use tensorgate_wire::proto::ModelInferRequest;
use tokio::task::JoinSet;

use super::{Counter, MONTH_S, PATIENT_MS, no_filter_asks, policy_with, shared_rate};

const PATH: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
/// How the filters are loaded: with held headers, and with forwarded headers and a buffer of
/// 32 KiB.
const LOADED: [(Option<&str>, &str); 3] = [
    (None, "gate"),
    (Some("plain"), "auth,rate-limit,tensor-guard"),
    (Some("envoy-gateway"), "gate"),
];
/// How many messages are sent one at a time.
const ALONE: usize = 40;
/// Elements of a large message.
const LARGE: usize = 400_000;

/// A policy for streams under a rate that gates share.
fn streaming(service: RateLimitService, rate: Rate) -> Policy {
    let mut policy = policy_with(service, rate, shared_rate(1, MONTH_S));
    policy.listen.limits.body_bytes = (4 << 20).into();
    policy.listen.limits.hold_bytes = Some(ByteSize(4 << 20));
    policy.grants[0].operations.push("stream".to_owned());
    policy.models.get_mut("vec").unwrap().inputs[0].shape = Some(vec![Dim::Bounded {
        name: None,
        min: None,
        max: Some(LARGE as u64),
    }]);
    policy
}

/// A message of so many elements.
fn of_size(elements: usize) -> Vec<u8> {
    let mut request: ModelInferRequest = prost::Message::decode(&*ask::message("x")).unwrap();
    request.inputs[0].shape = vec![i64::try_from(elements).unwrap()];
    request.raw_input_contents[0] = vec![0; elements * 4].into();
    grpc::frame(&prost::Message::encode_to_vec(&request))
}

fn good() -> Vec<u8> {
    of_size(2)
}

/// A gate as this control plane loads these filters.
async fn lease_as((control_plane, chain): (Option<&str>, &str), policy: Policy) -> Lease {
    let setup = Setup {
        control_plane,
        chain,
        ..Setup::default()
    };
    Lease::with_setup(policy, setup).await
}

async fn open(stack: &Stack, client: &str) -> Open {
    let fields = vec![(b"x-api-key".to_vec(), policy::key(client).into_bytes())];
    Open::new(stack.gate, PATH, &fields).await.unwrap()
}

/// The outcomes, once there are so many answers.
async fn outcomes(open: &mut Open, count: usize) -> Vec<String> {
    let enough = |reply: &tensorgate_client::Reply| messages(&reply.body).unwrap().len() >= count;
    let got = open.until(enough).await.unwrap();
    assert!(got, "the stream ended: {:?}", open.reply());
    let came = messages(&open.reply().body).unwrap();
    came.iter().map(Streamed::outcome).collect()
}

fn count(outcomes: &[String], wanted: &str) -> usize {
    outcomes.iter().filter(|outcome| *outcome == wanted).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_streams_of_two_gates_share_one_limit_exactly() {
    const QUOTA: usize = 60;
    let counter = Counter::start("streams").await;
    let policy = streaming(
        counter.service(PATIENT_MS),
        shared_rate(QUOTA as u64, MONTH_S),
    );
    let gates = Lease::two(policy, "gate").await;
    let mut asked = JoinSet::new();
    for at in 0..8 {
        let mut stream = open(&gates[at % 2], "rate-1").await;
        asked.spawn(async move {
            // Some in one piece, some one by one.
            for sent in 0..3 {
                assert!(stream.send(&good().repeat(4), false).await);
                outcomes(&mut stream, (sent + 1) * 4).await;
            }
            for _ in 0..3 {
                assert!(stream.send(&good(), false).await);
            }
            assert!(stream.send(b"", true).await);
            let all = outcomes(&mut stream, 15).await;
            let reply = stream.ended().await.unwrap();
            assert_eq!(reply.grpc_status(), Some(0), "{reply:?}");
            all
        });
    }
    let all = asked.join_all().await.concat();
    assert_eq!(all.len(), 8 * 15);
    let refused = count(&all, "rate-limited");
    assert_eq!(
        (count(&all, "ok"), refused),
        (QUOTA, 120 - QUOTA),
        "{all:?}"
    );
    let seen: usize = gates.iter().map(|gate| gate.backend.seen().len()).sum();
    assert_eq!(seen, QUOTA, "no rejected message reached the backend");
    for gate in &gates {
        no_filter_asks(gate).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_message_is_answered_while_the_stream_is_open_however_it_is_split() {
    for loaded in LOADED {
        let counter = Counter::start("streams-cut").await;
        let policy = streaming(counter.service(PATIENT_MS), shared_rate(1_000_000, MONTH_S));
        let stack = lease_as(loaded, policy).await;
        // One at a time.
        let mut stream = open(&stack, "rate-1").await;
        for number in 1..=20 {
            assert!(stream.send(&good(), false).await);
            assert_eq!(outcomes(&mut stream, number).await.len(), number);
        }
        assert!(stream.send(b"", true).await);
        assert_eq!(stream.ended().await.unwrap().grpc_status(), Some(0));
        // Two pieces, split at every byte. One arrives while a message before it may still wait.
        let whole = good().repeat(3);
        for cut in 0..=whole.len() {
            let mut stream = open(&stack, "rate-1").await;
            let (first, second) = whole.split_at(cut);
            assert!(stream.send(first, false).await);
            if cut % 3 == 0 {
                tokio::task::yield_now().await;
            }
            if cut % 7 == 0 {
                outcomes(&mut stream, cut / good().len()).await;
            }
            assert!(stream.send(second, true).await);
            let reply = stream.ended().await.unwrap();
            assert_eq!(reply.grpc_status(), Some(0), "cut at {cut}: {reply:?}");
            assert_eq!(messages(&reply.body).unwrap().len(), 3, "cut at {cut}");
        }
        // Byte by byte.
        let mut stream = open(&stack, "rate-1").await;
        for byte in &whole {
            assert!(stream.send(&[*byte], false).await);
        }
        assert_eq!(outcomes(&mut stream, 3).await, ["ok"; 3]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_among_small_ones_arrive_whole_and_in_order() {
    for loaded in LOADED {
        let counter = Counter::start("streams-large").await;
        let policy = streaming(counter.service(PATIENT_MS), shared_rate(1_000_000, MONTH_S));
        let stack = lease_as(loaded, policy).await;
        let mut stream = open(&stack, "rate-1").await;
        let sizes = [2, LARGE, 2, 70_000, 2, 2, LARGE / 2, 2];
        // One at a time: the client sends nothing while it waits.
        for number in 1..=ALONE {
            assert!(
                stream
                    .send(&of_size(4_000 + number * 7_919 % 60_000), false)
                    .await
            );
            let all = outcomes(&mut stream, number).await;
            assert_eq!(count(&all, "ok"), number, "{loaded:?} {all:?}");
        }
        for round in 1..=3 {
            for size in sizes {
                assert!(stream.send(&of_size(size), false).await);
            }
            let all = outcomes(&mut stream, ALONE + round * sizes.len()).await;
            assert_eq!(count(&all, "ok"), all.len(), "{loaded:?} {all:?}");
        }
        let seen: Vec<usize> = stack
            .backend
            .seen()
            .iter()
            .map(|it| it.message.raw_input_contents[0].len() / 4)
            .collect();
        assert_eq!(seen[ALONE..], sizes.repeat(3));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_redis_during_a_stream_keeps_it_open_and_its_limit_holds() {
    for (on_failure, expected) in [
        (ServiceFailure::Local, [("ok", 3), ("rate-limited", 2)]),
        (ServiceFailure::Deny, [("overloaded", 5), ("ok", 0)]),
    ] {
        let mut counter = Counter::start("streams-killed").await;
        let mut service = counter.service(PATIENT_MS);
        service.on_failure = Some(on_failure);
        let policy = streaming(service, shared_rate(5, MONTH_S));
        let stack = Stack::start("global-streams-killed", policy).await;
        let mut stream = open(&stack, "rate-1").await;
        assert!(stream.send(&good().repeat(2), false).await);
        assert_eq!(outcomes(&mut stream, 2).await, ["ok"; 2]);
        counter.redis.kill().await.unwrap();
        let began = Instant::now();
        assert!(stream.send(&good().repeat(5), false).await);
        let all = outcomes(&mut stream, 7).await;
        assert!(began.elapsed() < Duration::from_millis(5 * PATIENT_MS));
        for (outcome, times) in expected {
            assert_eq!(count(&all[2..], outcome), times, "{all:?}");
        }
        // Redis is back and empty; the same stream goes on.
        counter.redis.restart().await.unwrap();
        let (mut sent, end) = (7, Instant::now() + PATIENCE);
        loop {
            assert!(stream.send(&good(), false).await, "{:?}", stream.reply());
            sent += 1;
            let all = outcomes(&mut stream, sent).await;
            if all.last().is_some_and(|last| last == "ok") {
                break;
            }
            assert!(Instant::now() < end, "{all:?}");
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_reset_while_a_message_waits_leave_nothing_behind() {
    let counter = Counter::start("streams-left").await;
    let policy = streaming(counter.service(PATIENT_MS), shared_rate(1_000_000, MONTH_S));
    let stack = Stack::start("global-streams-left", policy).await;
    let mut warm = open(&stack, "rate-1").await;
    assert!(warm.send(&good(), true).await);
    warm.ended().await.unwrap();
    counter.redis.freeze().await.unwrap();
    for _ in 0..20 {
        let mut stream = open(&stack, "rate-1").await;
        assert!(stream.send(&good().repeat(3), false).await);
        stream.reset();
        assert!(stream.ended().await.is_err());
    }
    until_active(&stack, 0).await;
    counter.redis.thaw().await.unwrap();
    ask::until(stack.gate, "rate-3", "ok", "the gate goes on").await;
    let mut stream = open(&stack, "rate-1").await;
    assert!(stream.send(&good().repeat(3), true).await);
    assert_eq!(outcomes(&mut stream, 3).await, ["ok"; 3]);
    assert_eq!(
        stack
            .backend
            .seen()
            .iter()
            .filter(|it| it.message.raw_input_contents[0].len() == 8)
            .count(),
        4 + 1
    );
}
