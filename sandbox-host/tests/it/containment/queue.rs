//! Callers that leave, and queues that are full.

use super::*;

/// Spins with a raw body, answers with tensors.
const MOODY: &str =
    "(if (local.get $kind) (then (loop $l (br $l)))) (call $ok (i32.const 0) (i32.const 0))";

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_leaves_frees_its_thread() {
    let sandbox = Sandbox::new(SandboxConfig {
        threads: 1,
        queue_wait_ms: 20_000,
        ..SandboxConfig::default()
    })
    .unwrap();
    let minute = Budget {
        timeout_ms: 60_000,
        ..BUDGET
    };
    let guest = load(
        &sandbox,
        "moody",
        &preprocess(MOODY),
        Role::Preprocess,
        minute,
        &[],
    )
    .unwrap();
    for _ in 0..3 {
        let abandoned = tokio::time::timeout(
            Duration::from_millis(20),
            guest.preprocess("abandoned", raw()),
        )
        .await;
        assert!(abandoned.is_err(), "it spins for a minute");
    }
    // Its queue has one thread: if that were still spinning, this call would be rejected.
    assert!(guest.preprocess("request", tensors()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_and_a_long_wait_reject_calls() {
    let spinning = preprocess(SPIN);
    let half = Budget {
        timeout_ms: 500,
        ..BUDGET
    };

    let sandbox = Sandbox::new(SandboxConfig {
        threads: 1,
        queue: 1,
        queue_wait_ms: 60_000,
        ..SandboxConfig::default()
    })
    .unwrap();
    let guest = load(&sandbox, "spinning", &spinning, Role::Preprocess, half, &[]).unwrap();
    let (a, b, c) = tokio::join!(
        guest.preprocess("a", tensors()),
        guest.preprocess("b", tensors()),
        guest.preprocess("c", tensors())
    );
    let outcomes = [a, b, c];
    let full = |outcome| overload(outcome) == Some(Overload::Full);
    assert!(outcomes.iter().any(full), "{outcomes:?}");
    assert!(
        outcomes
            .iter()
            .any(|outcome| cause(outcome) == Some(FaultCause::Deadline)),
        "{outcomes:?}"
    );

    let sandbox = Sandbox::new(SandboxConfig {
        threads: 1,
        queue_wait_ms: 1_000,
        ..SandboxConfig::default()
    })
    .unwrap();
    let longer = Budget {
        timeout_ms: 4_000,
        ..BUDGET
    };
    let role = Role::Preprocess;
    let guest = load(&sandbox, "spinning", &spinning, role, longer, &[]).unwrap();
    let (a, b) = tokio::join!(
        guest.preprocess("a", tensors()),
        guest.preprocess("b", tensors())
    );
    let late = [overload(&a), overload(&b)];
    assert!(
        late.contains(&None) && late.contains(&Some(Overload::NoThread)),
        "one runs, one waits too long: {a:?} {b:?}"
    );
}

/// A payload that shows whether it is still referenced.
fn watched() -> (Payload, std::sync::Weak<()>) {
    struct Watched(#[expect(dead_code, reason = "it is there to be dropped")] std::sync::Arc<()>);
    impl AsRef<[u8]> for Watched {
        fn as_ref(&self) -> &[u8] {
            b"watched"
        }
    }
    let alive = std::sync::Arc::new(());
    let weak = std::sync::Arc::downgrade(&alive);
    let payload = Payload::Raw {
        content_type: "image/png".into(),
        data: Bytes::from_owner(Watched(alive)),
    };
    (payload, weak)
}

/// Handler `moody` with one thread, a queue of one and a long wait.
fn narrow() -> LoadedHandler {
    crowded("moody", MOODY, 1, 1)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_caller_that_leaves_is_removed_from_the_queue() {
    let guest = narrow();
    let mut running = std::pin::pin!(guest.preprocess("spins", raw()));
    assert!(
        tokio::time::timeout(Duration::from_millis(20), running.as_mut())
            .await
            .is_err(),
        "it spins for a minute"
    );
    // The queue is full until the first call is on its thread.
    let patience = Instant::now() + Duration::from_secs(30);
    let soon = Duration::from_millis(20);
    while let Ok(full) = tokio::time::timeout(soon, guest.preprocess("waits", raw())).await {
        assert_eq!(overload(&full), Some(Overload::Full), "{full:?}");
        assert!(Instant::now() < patience, "the first call does not start");
    }
    // Each call would find the queue full if the one before were still in it.
    for number in 0..3 {
        let (payload, alive) = watched();
        let waited = tokio::time::timeout(soon, guest.preprocess("waits", payload)).await;
        assert!(waited.is_err(), "number {number} waits: {waited:?}");
        assert!(
            alive.upgrade().is_none(),
            "number {number} left its payload"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_request_is_rejected_in_the_queue_and_stopped_while_running() {
    // Two may wait. If the first were not on its thread yet, the other would not find the queue
    // full.
    let guest = crowded("moody", MOODY, 1, 2);
    let soon = || tokio::time::Instant::now() + Duration::from_millis(50);
    let mut stopped = guest.with_deadline(soon()).preprocess("runs", raw()).await;
    for _ in 0..20 {
        // On a busy machine the thread may wake too late.
        if overload(&stopped) == Some(Overload::RequestOver) {
            stopped = guest.with_deadline(soon()).preprocess("runs", raw()).await;
        }
    }
    assert_eq!(
        cause(&stopped),
        Some(FaultCause::RequestDeadline),
        "{stopped:?}"
    );

    let mut running = std::pin::pin!(guest.preprocess("spins", raw()));
    let spins = tokio::time::timeout(Duration::from_millis(50), running.as_mut()).await;
    assert!(spins.is_err(), "it spins for a minute");
    let (payload, alive) = watched();
    let shed = guest
        .with_deadline(soon())
        .preprocess("waits", payload)
        .await;
    assert_eq!(overload(&shed), Some(Overload::RequestOver), "{shed:?}");
    assert!(alive.upgrade().is_none(), "it left its payload");
}
