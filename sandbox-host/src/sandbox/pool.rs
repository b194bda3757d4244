//! The threads that run guests. A guest blocks its thread, so it never runs on an async runtime's; and because any
//! handler may loop until its deadline, no handler may have all threads, or the whole of a queue that others share.
//!
//! Each handler has a lane of its own: a bounded queue, a thread that is kept for it, and its share of the threads beyond
//! those, so that it has at most as many as there are cores. Who loops on all that it may have leaves every other handler its
//! thread, and the kernel shares out the cores. Threads take from the lanes in turn.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::bounds::{MAX_KEPT_THREADS, THREAD_STACK_BYTES};
use super::fault::SandboxError;
use super::ticket::Ticket;

/// A piece of work.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// A piece of work that waits, and the ticket of the call that it is for.
struct Queued {
    ticket: Arc<Ticket>,
    job: Job,
}

/// A handler's number in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneId(u64);

/// The threads. They end when this is dropped, each after the job that it runs.
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    lanes: Mutex<Lanes>,
    changed: Condvar,
}

impl Pool {
    /// Threads that run one job of each of `handlers` lanes at once, and up to `width` of one; `queue` jobs of a lane wait.
    pub(super) fn start(width: usize, handlers: usize, queue: usize) -> Result<Self, SandboxError> {
        let shared = Arc::new(Shared {
            lanes: Mutex::new(Lanes::new(width, queue)),
            changed: Condvar::new(),
        });
        // Made first, so that the threads already started end if one cannot be.
        let pool = Self(Arc::clone(&shared));
        for number in 0..threads(width, handlers) {
            let (shared, name) = (Arc::clone(&shared), format!("guest-{number}"));
            thread::Builder::new()
                .name(name.clone())
                .stack_size(THREAD_STACK_BYTES)
                .spawn(move || shared.work())
                .map_err(|source| SandboxError::Thread { name, source })?;
        }
        Ok(pool)
    }

    /// A lane for one more handler.
    pub(super) fn lane(&self) -> LaneId {
        let mut lanes = self.0.lock();
        lanes.next_id = lanes.next_id.saturating_add(1);
        LaneId(lanes.next_id)
    }

    /// Queues a job; `false` if its lane is full.
    pub(super) fn submit(&self, lane: LaneId, ticket: Arc<Ticket>, job: Job) -> bool {
        let queued = self.0.lock().push(lane, Queued { ticket, job });
        if queued {
            self.0.changed.notify_one();
        }
        queued
    }

    /// Takes a call's job out of its lane, if it is still there: its place is free and what it holds is dropped.
    pub(super) fn forget(&self, lane: LaneId, ticket: &Arc<Ticket>) {
        let forgotten = self.0.lock().take(lane, ticket);
        // After the lock: a payload may be large.
        drop(forgotten);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Threads are not joined: the last handle may be dropped by one of them.
        self.0.lock().stopped = true;
        self.0.changed.notify_all();
    }
}

/// How many threads a pool has: one kept for each handler, and those that a busy one may have beside its own.
pub(super) fn threads(width: usize, handlers: usize) -> usize {
    handlers
        .clamp(1, MAX_KEPT_THREADS)
        .saturating_add(width.saturating_sub(1))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lanes> {
        // A panic under the lock would be in the few lines of `Lanes`, which leave no half-made state.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut lanes = self.lock();
        loop {
            if let Some((lane, job)) = lanes.pop() {
                drop(lanes);
                // A job answers through a channel of its own: a panic drops it, and its caller sees that.
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!(
                        "a guest thread panicked: this is a bug of the host, the thread goes on"
                    );
                }
                lanes = self.lock();
                lanes.done(lane);
                // A lane that was at its width may have work for a thread that found none.
                self.changed.notify_one();
            } else if lanes.stopped {
                return;
            } else {
                lanes = self
                    .changed
                    .wait(lanes)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// Which job comes next.
struct Lanes {
    width: usize,
    queue: usize,
    next_id: u64,
    stopped: bool,
    /// Jobs that run beside another of their own lane.
    beside: usize,
    lanes: BTreeMap<LaneId, Lane>,
    /// The lane that was served last.
    last: LaneId,
}

#[derive(Default)]
struct Lane {
    waiting: VecDeque<Queued>,
    running: usize,
}

impl Lanes {
    const fn new(width: usize, queue: usize) -> Self {
        Self {
            width,
            queue,
            next_id: 0,
            stopped: false,
            beside: 0,
            lanes: BTreeMap::new(),
            last: LaneId(0),
        }
    }

    fn push(&mut self, lane: LaneId, job: Queued) -> bool {
        let lane = self.lanes.entry(lane).or_default();
        let room = lane.waiting.len() < self.queue;
        if room {
            lane.waiting.push_back(job);
        }
        room
    }

    /// The oldest job of the next lane, in turn, that may run one.
    fn pop(&mut self) -> Option<(LaneId, Job)> {
        // What a lane runs beside its first job must leave a thread for every other lane's first.
        let spare = self.beside < self.width.saturating_sub(1);
        let ready = |lane: &Lane| (lane.running == 0 || spare) && !lane.waiting.is_empty();
        let after = (
            std::ops::Bound::Excluded(self.last),
            std::ops::Bound::Unbounded,
        );
        let next = self
            .lanes
            .range(after)
            .chain(self.lanes.range(..=self.last))
            .find(|(_, lane)| ready(lane))
            .map(|(id, _)| *id)?;
        let lane = self.lanes.get_mut(&next)?;
        let Queued { job, .. } = lane.waiting.pop_front()?;
        if lane.running > 0 {
            self.beside = self.beside.saturating_add(1);
        }
        lane.running = lane.running.saturating_add(1);
        self.last = next;
        Some((next, job))
    }

    fn take(&mut self, id: LaneId, ticket: &Arc<Ticket>) -> Option<Queued> {
        let lane = self.lanes.get_mut(&id)?;
        let place = lane
            .waiting
            .iter()
            .position(|queued| Arc::ptr_eq(&queued.ticket, ticket))?;
        let taken = lane.waiting.remove(place);
        self.tidy(id);
        taken
    }

    fn done(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.running = lane.running.saturating_sub(1);
            if lane.running > 0 {
                self.beside = self.beside.saturating_sub(1);
            }
        }
        self.tidy(id);
    }

    /// Forgets a lane that has no work.
    fn tidy(&mut self, id: LaneId) {
        let idle = |lane: &Lane| lane.running == 0 && lane.waiting.is_empty();
        if self.lanes.get(&id).is_some_and(idle) {
            self.lanes.remove(&id);
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn idle() -> Queued {
        Queued {
            ticket: Arc::default(),
            job: Box::new(|| {}),
        }
    }

    fn next(lanes: &mut Lanes) -> Option<u64> {
        lanes.pop().map(|(lane, _)| lane.0)
    }

    #[test]
    fn lanes_are_served_in_turn_whatever_they_queue() {
        let mut lanes = Lanes::new(9, 9);
        for lane in [1, 1, 1, 1, 2, 3, 3] {
            assert!(lanes.push(LaneId(lane), idle()));
        }
        let order: Vec<_> = std::iter::from_fn(|| next(&mut lanes)).collect();
        assert_eq!(order, [1, 2, 3, 1, 3, 1, 1]);
    }

    #[test]
    fn a_lane_at_its_width_leaves_the_last_thread_to_others() {
        let mut lanes = Lanes::new(2, 9);
        for _ in 0..5 {
            assert!(lanes.push(LaneId(1), idle()));
        }
        assert_eq!(
            (next(&mut lanes), next(&mut lanes), next(&mut lanes)),
            (Some(1), Some(1), None)
        );
        assert!(lanes.push(LaneId(2), idle()));
        assert_eq!(next(&mut lanes), Some(2));
        lanes.done(LaneId(1));
        assert_eq!((next(&mut lanes), next(&mut lanes)), (Some(1), None));
    }

    #[test]
    fn every_lane_has_its_thread_while_others_run_all_that_they_may() {
        let mut lanes = Lanes::new(3, 9);
        for lane in [1, 1, 1, 1, 2, 2, 2, 3, 4] {
            assert!(lanes.push(LaneId(lane), idle()));
        }
        // Two beside their own lane's first, and one of each lane: as many threads as there are for four handlers.
        let order: Vec<_> = std::iter::from_fn(|| next(&mut lanes)).collect();
        assert_eq!(order, [1, 2, 3, 4, 1, 2]);
        assert_eq!(order.len(), threads(3, 4));
        lanes.done(LaneId(3));
        assert_eq!(
            next(&mut lanes),
            None,
            "the kept thread of lane 3 stays free"
        );
        lanes.done(LaneId(2));
        assert_eq!((next(&mut lanes), next(&mut lanes)), (Some(1), None));
        for (handlers, expected) in [(0, 3), (1, 3), (4, 6), (10_000, MAX_KEPT_THREADS + 2)] {
            assert_eq!(threads(3, handlers), expected);
        }
    }

    #[test]
    fn a_full_lane_refuses_its_own_jobs_only() {
        let mut lanes = Lanes::new(1, 2);
        for (lane, taken) in [(1, true), (1, true), (1, false), (2, true)] {
            assert_eq!(lanes.push(LaneId(lane), idle()), taken);
        }
    }

    #[test]
    fn a_lane_without_work_is_forgotten() {
        let mut lanes = Lanes::new(1, 1);
        assert!(lanes.push(LaneId(7), idle()));
        assert_eq!(next(&mut lanes), Some(7));
        lanes.done(LaneId(7));
        assert!(lanes.lanes.is_empty());
    }

    #[test]
    fn a_job_that_is_forgotten_frees_its_place_and_leaves_the_others() {
        let mut lanes = Lanes::new(1, 2);
        let (first, second) = (idle(), idle());
        let tickets = [Arc::clone(&first.ticket), Arc::clone(&second.ticket)];
        assert!(lanes.push(LaneId(1), first) && lanes.push(LaneId(1), second));
        assert!(lanes.take(LaneId(2), &tickets[0]).is_none(), "not its lane");
        assert!(lanes.take(LaneId(1), &tickets[0]).is_some());
        assert!(lanes.take(LaneId(1), &tickets[0]).is_none(), "it is gone");
        assert!(lanes.push(LaneId(1), idle()), "its place is free");
        assert!(lanes.take(LaneId(1), &tickets[1]).is_some());
        assert_eq!((next(&mut lanes), next(&mut lanes)), (Some(1), None));
        lanes.done(LaneId(1));
        assert!(lanes.lanes.is_empty());

        let only = idle();
        let ticket = Arc::clone(&only.ticket);
        assert!(lanes.push(LaneId(1), only));
        assert!(lanes.take(LaneId(1), &ticket).is_some());
        assert!(lanes.lanes.is_empty(), "a lane without work is forgotten");
    }

    #[test]
    fn a_job_that_panics_leaves_its_thread() {
        let pool = Pool::start(1, 1, 16).unwrap();
        let lane = pool.lane();
        let (answer, answers) = mpsc::channel();
        for number in 0..10 {
            let answer = answer.clone();
            assert!(pool.submit(
                lane,
                Arc::default(),
                Box::new(move || if number % 2 == 0 {
                    panic!("a test's own")
                } else {
                    answer.send(number).unwrap()
                })
            ));
        }
        drop(answer);
        assert_eq!(answers.iter().collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
    }
}
