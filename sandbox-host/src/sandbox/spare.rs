//! Cores for calls that start last. However far back a thread stands, the kernel gives it a turn of a core each time that somebody on that core
//! wakes and sleeps again, until the next tick; so it must not be on all of them. Those calls have all cores but one between them, and one if
//! there is no other: a place each, for which they wait on their threads.
//!
//! Only threads that stand last come here: none of them can keep another from a core while it holds this lock.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ticket::Ticket;

/// How often who waits for a place looks whether somebody waits for it: its thread is its handler's meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// The places.
pub(super) struct SpareCores {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A place, until it is dropped.
pub(super) struct SpareCore<'a>(&'a SpareCores);

impl SpareCores {
    /// Of a host that has so many cores.
    pub(super) fn of(cores: usize) -> Self {
        Self {
            free: Mutex::new(cores.saturating_sub(1).max(1)),
            freed: Condvar::new(),
        }
    }

    /// Waits for a place, as long as somebody waits for the call: nothing if nobody does any more.
    pub(super) fn enter(&self, ticket: &Ticket) -> Option<SpareCore<'_>> {
        let mut free = self.lock();
        while *free == 0 {
            if ticket.is_abandoned() {
                return None;
            }
            // Nobody says so when a caller leaves.
            let (held, _) = self
                .freed
                .wait_timeout(free, LOOK)
                .unwrap_or_else(PoisonError::into_inner);
            free = held;
        }
        *free = free.saturating_sub(1);
        Some(SpareCore(self))
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SpareCore<'_> {
    fn drop(&mut self) {
        let mut free = self.0.lock();
        *free = free.saturating_add(1);
        drop(free);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn one_core_is_left_to_others_and_a_place_comes_free_however_a_call_ends() {
        for (cores, most) in [(0, 1), (1, 1), (2, 1), (4, 3)] {
            let spare = SpareCores::of(cores);
            let (inside, highest) = (AtomicUsize::new(0), AtomicUsize::new(0));
            // As many as may be are inside at once before any leaves.
            let together = Barrier::new(most);
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..most * 5)
                    .map(|number| {
                        let (spare, inside, highest, together) =
                            (&spare, &inside, &highest, &together);
                        scope.spawn(move || {
                            let _core = spare.enter(&Ticket::default()).unwrap();
                            let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                            highest.fetch_max(now, Ordering::SeqCst);
                            together.wait();
                            inside.fetch_sub(1, Ordering::SeqCst);
                            assert_ne!(number % 2, 0, "a test's own");
                        })
                    })
                    .collect();
                for thread in threads {
                    drop(thread.join());
                }
            });
            assert_eq!(highest.into_inner(), most, "of {cores}");
        }
    }

    #[test]
    fn who_is_waited_for_by_nobody_waits_for_no_place() {
        let spare = SpareCores::of(1);
        let ticket = Ticket::default();
        let taken = spare.enter(&ticket);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| spare.enter(&ticket).is_none());
            std::thread::sleep(LOOK * 2);
            assert!(!waits.is_finished(), "somebody waits");
            ticket.abandon();
            assert!(waits.join().unwrap());
        });
        drop(taken);
        assert!(spare.enter(&ticket).is_some(), "a place is a place");
    }
}
