//! Permits for requests in flight on a real Envoy with two workers, and when they are returned:
//! stalled bodies, streams that are reset, a VM that traps, a policy that changes meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use h2::Reason;
use tensorgate_policy_compiler::raw::{ByteSize, Dim, ModelLimits, Policy};
use tensorgate_tests::ask::{PATH, PATIENCE, VALID, outcome};
use tensorgate_tests::backend::Mode;
use tensorgate_tests::held::{Held, exact};
use tensorgate_tests::stack::threads::until_active;
use tensorgate_tests::{Lease, Stack, policy};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// The client that holds permits, and its neighbour.
const OWN: &str = "rate-1";
const NEIGHBOUR: &str = "rate-2";
/// How many requests may be in flight under every kind of limit in these tests.
const PLACES: usize = 8;

/// The vectors' policy about rates, without its rate. Its streams may last as long as a busy
/// machine takes.
fn policy_with(change: impl Fn(&mut Policy)) -> Policy {
    let mut policy = policy::vectors_policy("rates.json");
    policy.grants[0].rate = None;
    policy.listen.limits.timeout_ms = 60_000.into();
    policy.listen.limits.stream_ms = 120_000.into();
    change(&mut policy);
    policy
}

/// Sets every concurrency limit to eight.
fn eight(policy: &mut Policy) {
    policy.clients.get_mut(OWN).unwrap().concurrency = Some(8.into());
    policy.grants[0].concurrency = Some(8.into());
    policy.models.get_mut("vec").unwrap().limits = Some(ModelLimits {
        concurrency: Some(8.into()),
        in_flight_bytes: Some(65_536.into()),
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reset_streams_return_every_permit() {
    let policy = policy_with(|policy| {
        eight(policy);
        policy.backends.get_mut("backend").unwrap().timeout_ms = 5_000.into();
    });
    for chain in ["gate", "auth,rate-limit,tensor-guard"] {
        let stack = Lease::with_chain(policy.clone(), chain).await;
        for (at, mode, body, end) in [
            ("its headers", Mode::Zeros, "", false),
            ("half its body", Mode::Zeros, &VALID[..20], false),
            ("its answer", Mode::Hangs, VALID, true),
        ] {
            stack.backend.set(mode);
            for _ in 0..10 {
                let mut held = Held::none(stack.gate, OWN).await;
                for _ in 0..PLACES {
                    held.begin(body, end).await;
                }
                held.judged().await;
                held.reset();
                held.judged().await;
            }
            stack.backend.set(Mode::Zeros);
            let what = format!("{chain}: reset before {at}");
            exact(stack.gate, OWN, PLACES, &what).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permits_held_during_a_policy_change_are_returned_once() {
    let mut stack = Lease::of(policy_with(eight)).await;
    for change in 1..=4_u64 {
        let mut held = Held::none(stack.gate, OWN).await;
        for _ in 0..PLACES {
            held.begin("", false).await;
        }
        held.judged().await;
        let next = policy_with(|policy| {
            eight(policy);
            // First the filter alone changes, and then the listener as well.
            policy.grants[0].name = Some(format!("changed-{change}"));
            if change.is_multiple_of(2) {
                policy.listen.limits.header_bytes = (8192 + change).into();
            }
            // Another grant has its own count; those of the client and of the model continue.
        });
        stack.reload(next).await;
        for _ in 0..3 {
            let seen = outcome(stack.gate, OWN, &[]).await.unwrap();
            assert_eq!(seen, "concurrency", "change {change}: all are held");
        }
        // Some streams are reset, the others end normally, under the policy that accepted them. The
        // answers prove that the gate has read the resets too. The connection may be closing and
        // accept no further request.
        let mut held = held.take();
        for (_, mut body) in held.split_off(PLACES / 2) {
            body.send_reset(Reason::CANCEL);
        }
        for (answer, mut body) in held {
            body.send_data(VALID.into(), true).unwrap();
            assert_eq!(answer.await.unwrap().status(), 200, "change {change}");
        }
        exact(stack.gate, OWN, PLACES, &format!("change {change}")).await;
    }
}

/// A body of slightly more than 8 KiB in the binary data extension, over HTTP/1.1: its head, and
/// `sent` bytes of its tensor.
fn large(client: &str, sent: usize) -> Vec<u8> {
    const BYTES: usize = 8192;
    let json = format!(
        r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[{}],"parameters":{{"binary_data_size":{BYTES}}}}}]}}"#,
        BYTES / 4
    );
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: gate\r\nx-api-key: {}\r\ninference-header-content-length: {}\r\ncontent-length: {}\r\n\r\n{json}",
        policy::key(client),
        json.len(),
        json.len() + BYTES
    );
    [head.as_bytes(), &vec![0; sent]].concat()
}

/// A model's permits are acquired for complete bodies, so bodies that stall hold none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_with_stalled_bodies_does_not_block_other_clients() {
    const STALLS: usize = 20;
    let policy = policy_with(|policy| {
        policy.listen.limits.hold_bytes = Some(ByteSize(1024));
        let vec = policy.models.get_mut("vec").unwrap();
        vec.inputs[0].shape = Some(vec![Dim::Bounded {
            name: None,
            min: None,
            max: Some(4096),
        }]);
        vec.limits = Some(ModelLimits {
            concurrency: Some(6.into()),
            in_flight_bytes: Some(60_000.into()),
        });
    });
    for chain in ["gate", "auth,rate-limit,tensor-guard"] {
        let stack = Lease::with_chain(policy.clone(), chain).await;
        for _ in 0..2 {
            let mut stalled = Vec::new();
            for _ in 0..STALLS {
                let mut stream = TcpStream::connect(stack.gate).await.unwrap();
                stream.write_all(&large(OWN, 2048)).await.unwrap();
                stalled.push(stream);
            }
            until_active(&stack, STALLS).await;
            for _ in 0..5 {
                let seen = outcome(stack.gate, NEIGHBOUR, &[]).await.unwrap();
                assert_eq!(seen, "ok", "{chain}: the neighbour is served");
                // The client has large bodies as well.
                let mut stream = TcpStream::connect(stack.gate).await.unwrap();
                stream.write_all(&large(NEIGHBOUR, 8192)).await.unwrap();
                let mut status = [0; 12];
                tokio::io::AsyncReadExt::read_exact(&mut stream, &mut status)
                    .await
                    .unwrap();
                assert_eq!(&status, b"HTTP/1.1 200", "{chain}");
            }
            // They leave, and others stall.
            drop(stalled);
            until_active(&stack, 0).await;
        }
    }
}

/// Permits of a trapped VM are not returned. They expire when no stream of it can be left, and not
/// before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permits_of_a_trapped_vm_expire_and_other_clients_are_served() {
    const STREAM: Duration = Duration::from_secs(2);
    /// How late a timer may be; the filter adds this to the expiry.
    const LATE: Duration = Duration::from_secs(5);
    let policy = policy_with(|policy| {
        policy.listen.limits.timeout_ms = 2_000.into();
        policy.listen.limits.stream_ms = 2_000.into();
        policy.clients.get_mut(OWN).unwrap().concurrency = Some(1.into());
        policy.models.get_mut("vec").unwrap().limits = Some(ModelLimits {
            concurrency: Some(2.into()),
            in_flight_bytes: None,
        });
    });
    let stack = Stack::start_faulty("places-trapped", policy).await;
    assert_eq!(outcome(stack.gate, OWN, &[]).await.unwrap(), "ok");
    let trapped = Instant::now();
    let seen = outcome(stack.gate, OWN, &[("x-test-trap", "1")])
        .await
        .unwrap();
    assert_eq!(seen, "overloaded", "Envoy answers 503 for its filter");
    let log = stack.log("envoy.log");
    assert!(log.contains("tensorgate: panic"), "{log}");
    let (mut own, mut neighbours) = (BTreeMap::new(), BTreeMap::new());
    loop {
        let seen = outcome(stack.gate, OWN, &[]).await.unwrap();
        if seen == "ok" {
            break;
        }
        *own.entry(seen).or_insert(0_u32) += 1;
        let seen = outcome(stack.gate, NEIGHBOUR, &[]).await.unwrap();
        *neighbours.entry(seen).or_insert(0_u32) += 1;
        assert!(trapped.elapsed() < PATIENCE, "{own:?} {neighbours:?}");
    }
    let lapsed = trapped.elapsed();
    println!("free again after {lapsed:?}; meanwhile {own:?}, neighbours {neighbours:?}");
    assert!(lapsed >= STREAM + LATE, "{lapsed:?}: {own:?}");
    assert!(own["concurrency"] > 0);
    // Both workers serve, including the one with the new VM.
    assert!(
        neighbours["ok"] > neighbours.values().sum::<u32>() / 2,
        "{neighbours:?}"
    );
    for _ in 0..20 {
        assert_eq!(outcome(stack.gate, NEIGHBOUR, &[]).await.unwrap(), "ok");
        assert_eq!(outcome(stack.gate, OWN, &[]).await.unwrap(), "ok");
    }
}
