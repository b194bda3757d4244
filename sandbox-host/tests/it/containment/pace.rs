//! A client with long calls starts at a lower priority until its calls are short again.

use tensorgate_vectors::alone::is_alone;

use super::*;

/// Spins with a raw body, answers with tensors.
const MOODY: &str =
    "(if (local.get $kind) (then (loop $l (br $l)))) (call $ok (i32.const 0) (i32.const 0))";

/// The id of the one thread that runs guests here, once there is one and no other is still ending.
async fn thread() -> String {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let guests: Vec<_> = tasks
            .filter_map(|task| {
                let task = task.ok()?;
                let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
                (name.trim() == "guest-0").then(|| task.file_name().into_string().unwrap())
            })
            .collect();
        if let [thread] = guests.as_slice() {
            return thread.clone();
        }
        assert!(Instant::now() < patience, "{guests:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The thread that has run a short call of another handler. A thread that lowered its priority in
/// the call before has been replaced.
async fn thread_after(other: &LoadedHandler) -> String {
    assert!(other.preprocess("another's", tensors()).await.is_ok());
    thread().await
}

/// Whether a short call of the handler ran on a thread with lowered priority.
async fn stepped_back(handler: &LoadedHandler, other: &LoadedHandler) -> bool {
    let before = thread_after(other).await;
    assert!(handler.preprocess("short", tensors()).await.is_ok());
    thread_after(other).await != before
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_after_long_ones_start_at_low_priority_until_calls_are_short_again() {
    if !is_alone(
        "containment::pace::calls_after_long_ones_start_at_low_priority_until_calls_are_short_again",
    ) {
        return;
    }
    // One thread in all.
    let sandbox = Sandbox::new(SandboxConfig {
        threads: 1,
        handlers: 1,
        queue_wait_ms: 30_000,
        ..SandboxConfig::default()
    })
    .unwrap();
    let wat = preprocess(MOODY);
    // A thread with lowered priority may wait for others on a busy machine.
    let budget = Budget {
        timeout_ms: 3_000,
        ..BUDGET
    };
    let load = |name| load(&sandbox, name, &wat, Role::Preprocess, budget, &[]).unwrap();
    let (handler, neighbour) = (load("moody"), load("neighbour"));
    let client = handler.for_client(Some("another"));

    assert!(
        !stepped_back(&handler, &neighbour).await,
        "nothing is known"
    );
    for _ in 0..2 {
        let outcome = handler.preprocess("long", raw()).await;
        assert_eq!(cause(&outcome), Some(FaultCause::Deadline), "{outcome:?}");
    }
    assert!(
        !stepped_back(&neighbour, &neighbour).await,
        "another handler"
    );
    assert!(!stepped_back(&client, &neighbour).await, "another client");
    for short in 0..7 {
        assert!(stepped_back(&handler, &neighbour).await, "after {short}");
    }
    assert!(!stepped_back(&handler, &neighbour).await, "it has shown");
}
