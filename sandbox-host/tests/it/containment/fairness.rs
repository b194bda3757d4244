//! One client that floods a handler, and another that calls it now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// With a raw body it counts for a long time and ends; with tensors it answers at once.
const SLOW: &str = "(if (local.get $kind) (then
    (local.set $i (i32.const 300000000))
    (loop $l (br_if $l (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))))
    (call $ok (i32.const 0) (i32.const 0))";

/// Threads that the handler may have, and calls that may wait.
const THREADS: usize = 2;
const QUEUE: usize = 8;
/// How often the other client calls, and how many calls it makes at once.
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
            match handler.preprocess("flood", raw()).await {
                Ok(_) => self.ended.fetch_add(1, Ordering::Relaxed),
                Err(HandlerError::Overloaded(_)) => self.gave_way.fetch_add(1, Ordering::Relaxed),
                Err(error) => panic!("{error:?}"),
            };
            tokio::task::yield_now().await;
        }
    }

    fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }
}

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
    let patience = Instant::now() + Duration::from_secs(180);
    while flood.ended() < THREADS {
        assert!(Instant::now() < patience, "none of its calls ends");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    let mut ended_meanwhile = 0;
    for round in 0..ROUNDS {
        let before = flood.ended();
        let call = |_| few.preprocess("few", tensors());
        let outcomes = [0; AT_ONCE].map(call);
        let [one, two, three] = outcomes;
        let (one, two, three) = tokio::join!(one, two, three);
        for outcome in [one, two, three] {
            assert!(outcome.is_ok(), "round {round}: {outcome:?}");
        }
        ended_meanwhile += flood.ended() - before;
        // The next round finds another call of the flood running.
        while flood.ended() == before {
            assert!(Instant::now() < patience, "the flood is not served");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    calls.abort_all();
    // If each call had waited for one call of the flood to end, at least one would end per round.
    assert!(ended_meanwhile < ROUNDS / 2, "{ended_meanwhile}");
    let gave_way = flood.gave_way.load(Ordering::Relaxed);
    assert!(gave_way > 0, "the queue was never full");
}
