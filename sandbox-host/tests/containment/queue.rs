//! Callers who go away, queues that are full.

use super::*;

/// Spins for a raw body, answers tensors.
const MOODY: &str =
    "(if (local.get $kind) (then (loop $l (br $l)))) (call $ok (i32.const 0) (i32.const 0))";

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_goes_away_frees_its_thread() {
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
    // Its lane has one thread: were that still spinning, this would be shed.
    assert!(guest.preprocess("request", tensors()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_and_a_long_wait_are_shed() {
    let spinning = preprocess(SPIN);
    let shed =
        |outcome: &Result<Called, HandlerError>| matches!(outcome, Err(HandlerError::Overloaded));
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
    assert!(outcomes.iter().any(shed), "{outcomes:?}");
    assert!(
        outcomes
            .iter()
            .any(|outcome| cause(outcome) == Some(FaultCause::Deadline)),
        "{outcomes:?}"
    );

    let sandbox = Sandbox::new(SandboxConfig {
        threads: 1,
        queue_wait_ms: 50,
        ..SandboxConfig::default()
    })
    .unwrap();
    let guest = load(&sandbox, "spinning", &spinning, Role::Preprocess, half, &[]).unwrap();
    let (a, b) = tokio::join!(
        guest.preprocess("a", tensors()),
        guest.preprocess("b", tensors())
    );
    assert!(
        shed(&a) != shed(&b),
        "one runs, one waits too long: {a:?} {b:?}"
    );
}
