//! The same work for each of several things, some of them at once; what comes of them is in their order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Works on each of `all`, on at most `at_once` at once. A thread that cannot be started leaves its part to the others.
pub(super) fn several<T: Sync, R: Send>(
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
            // This thread works too, so that all is done whoever else does.
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
            let made = several(at_once, &all, |one| {
                // Whoever comes waits for the others, as long as there are as many left.
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
