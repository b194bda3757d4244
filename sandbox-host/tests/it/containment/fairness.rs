//! One client that floods a handler, and another that calls it now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// With a raw body it never ends; with tensors it answers at once.
const SLOW: &str = "(if (local.get $kind) (then (loop $l (br $l))))
    (call $ok (i32.const 0) (i32.const 0))";

/// Threads that the handler may have, and calls that may wait.
const THREADS: usize = 2;
const QUEUE: usize = 8;
/// How often the other client calls while the queue is full, and how many calls it makes at once.
const ROUNDS: usize = 15;
const AT_ONCE: usize = 3;

#[derive(Default)]
struct Flood {
    ended: AtomicUsize,
    gave_way: AtomicUsize,
}

impl Flood {
    /// One call after the other, whatever their outcome.
    async fn call(&self, handler: LoadedHandler) {
        loop {
            let outcome = handler.preprocess("flood", raw()).await;
            let counter = match outcome {
                Err(HandlerError::Overloaded(_)) => &self.gave_way,
                _ => &self.ended,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    }
}

/// No call of the flood ends while the other client calls. So this does not depend on how fast the
/// machine is: a call that waited for one of them would wait in vain.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_floods_a_handler_neither_delays_nor_displaces_other_clients_calls() {
    let handler = crowded("slow", SLOW, THREADS, QUEUE);
    let (many, few) = (
        handler.for_client(Some("many")),
        handler.for_client(Some("few")),
    );
    assert!(few.preprocess("alone", tensors()).await.is_ok());

    // As many as may run and wait, all the time.
    let flood = Arc::new(Flood::default());
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..THREADS + QUEUE {
        let (flood, many) = (Arc::clone(&flood), many.clone());
        calls.spawn(async move { flood.call(many).await });
    }

    let gave_way = || flood.gave_way.load(Ordering::Relaxed);
    let patience = Instant::now() + Duration::from_secs(30);
    let mut full_rounds = 0;
    while full_rounds < ROUNDS {
        assert!(Instant::now() < patience, "the queue is not full");
        let before = gave_way();
        let [one, two, three] = [0; AT_ONCE].map(|_| few.preprocess("few", tensors()));
        let (one, two, three) = tokio::join!(one, two, three);
        for outcome in [one, two, three] {
            assert!(outcome.is_ok(), "round {full_rounds}: {outcome:?}");
        }
        // In a full queue a call of the flood gives way.
        full_rounds += usize::from(gave_way() > before);
    }
    assert_eq!(flood.ended.load(Ordering::Relaxed), 0, "calls of the flood");
    calls.abort_all();
}
