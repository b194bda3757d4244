//! Slots for calls at the lowest priority: they use all cores but one, or the one if there is no
//! other.
//!
//! Even a thread with the lowest priority gets a turn of up to a tick each time that another thread
//! on its core sleeps. So such threads must not be on all cores. A call waits for its slot on its
//! own thread.
//!
//! Only threads with the lowest priority use this lock, so none of them can delay another thread
//! with it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::job_handle::JobHandle;

/// How often a call that waits for a slot checks whether its caller has left. It occupies a thread
/// of its handler meanwhile.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The slots.
pub(super) struct LowPrioritySlots {
    free: Mutex<usize>,
    freed: Condvar,
}

/// A slot. It is released when dropped.
pub(super) struct LowPrioritySlot<'a>(&'a LowPrioritySlots);

impl LowPrioritySlots {
    /// Creates the slots of a host with this many cores.
    pub(super) fn new(cores: usize) -> Self {
        Self {
            free: Mutex::new(cores.saturating_sub(1).max(1)),
            freed: Condvar::new(),
        }
    }

    /// Waits for a slot. Returns `None` when the caller has left.
    pub(super) fn acquire(&self, ticket: &JobHandle) -> Option<LowPrioritySlot<'_>> {
        let mut free = self.lock();
        while *free == 0 {
            if ticket.is_abandoned() {
                return None;
            }
            // A caller that leaves sends no notification.
            let (held, _) = self
                .freed
                .wait_timeout(free, CHECK_INTERVAL)
                .unwrap_or_else(PoisonError::into_inner);
            free = held;
        }
        *free = free.saturating_sub(1);
        Some(LowPrioritySlot(self))
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LowPrioritySlot<'_> {
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
    use std::thread;

    use super::*;

    #[test]
    fn one_core_is_left_to_others_and_a_place_comes_free_however_a_call_ends() {
        for (cores, most) in [(0, 1), (1, 1), (2, 1), (4, 3)] {
            let spare = LowPrioritySlots::new(cores);
            let (inside, highest) = (AtomicUsize::new(0), AtomicUsize::new(0));
            // All slots are in use at once before any is released.
            let together = Barrier::new(most);
            thread::scope(|scope| {
                let threads: Vec<_> = (0..most * 5)
                    .map(|number| {
                        let (spare, inside, highest, together) =
                            (&spare, &inside, &highest, &together);
                        scope.spawn(move || {
                            let _core = spare.acquire(&JobHandle::default()).unwrap();
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
    fn a_job_without_a_waiting_caller_waits_for_no_slot() {
        let spare = LowPrioritySlots::new(1);
        let ticket = JobHandle::default();
        let taken = spare.acquire(&ticket);
        thread::scope(|scope| {
            let waits = scope.spawn(|| spare.acquire(&ticket).is_none());
            thread::sleep(CHECK_INTERVAL * 2);
            assert!(!waits.is_finished(), "one call waits");
            ticket.abandon();
            assert!(waits.join().unwrap());
        });
        drop(taken);
        assert!(spare.acquire(&ticket).is_some(), "a place is a place");
    }
}
