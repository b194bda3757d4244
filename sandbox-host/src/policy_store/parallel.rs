//! Runs the same work for several items, some of them in parallel. The results are in the items'
//! order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Works on each of `all`, on at most `at_once` threads. If a thread cannot be started, the others
/// do its part.
pub(super) fn parallel_map<T: Sync, R: Send>(
    at_once: usize,
    all: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(all.len()));
    let worker = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = all.get(at) else { break };
            let made = work(one);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push((at, made));
        }
    };
    thread::scope(|scope| {
        for _ in 1..at_once.min(all.len()) {
            // This thread works too, so all work is done even if no thread can be started.
            let _ = thread::Builder::new().spawn_scoped(scope, worker);
        }
        worker();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, made)| made).collect()
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn several_are_at_work_at_once_and_what_they_make_is_in_order() {
        for (at_once, all) in [(1, 0), (1, 5), (4, 1), (4, 40)] {
            let all: Vec<_> = (0..all).collect();
            let both = Barrier::new(at_once.min(all.len()).max(1));
            let made = parallel_map(at_once, &all, |one| {
                // Each worker waits for the others, as long as enough items are left.
                if all.len() % at_once == 0 {
                    both.wait();
                }
                one * 2
            });
            let expected: Vec<_> = all.iter().map(|one| one * 2).collect();
            assert_eq!(made, expected, "{at_once}");
        }
    }
}
