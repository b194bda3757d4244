//! Which job comes next. Because any handler may loop until its deadline, no handler may have all threads, or the whole of a queue
//! that others share.
//!
//! Each handler has a lane of its own: a bounded queue, a thread that is kept for it, and its share of the threads beyond
//! those, so that it has at most as many as there are cores. Who loops on all that it may have leaves every other handler its
//! thread. Threads take from the lanes in turn, and leave what has waited in vain.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bounds::{CALLS_WAITED, MAX_KEPT_THREADS};
use super::ticket::Ticket;

/// A piece of work.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// A piece of work that waits, since when, and the ticket of the call that it is for.
pub(super) struct Queued {
    pub(super) ticket: Arc<Ticket>,
    pub(super) job: Job,
    pub(super) since: Instant,
}

/// One in so many of the calls that a lane's mean is of is the latest.
const SHARE: u32 = 8;

fn part(whole: Duration, parts: u32) -> Duration {
    whole.checked_div(parts).unwrap_or(whole)
}

/// When a queue stops being a buffer for bursts and is nothing but a delay (Nichols and Jacobson's controlled delay, in the form in which servers
/// have it): once it has not been empty for `standing`, who has waited for longer than `wait` is shed when its turn comes, so that
/// those behind it are served while somebody still waits for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    standing: Duration,
    wait: Duration,
}

impl Patience {
    /// Of calls that wait for at most so long: half of it may stand, a tenth of it is waited then.
    pub(super) fn of(queue_wait: Duration) -> Self {
        Self {
            standing: part(queue_wait, 2),
            wait: part(queue_wait, 10),
        }
    }
}

/// A handler's number in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneId(u64);

/// Every handler's lane.
pub(super) struct Lanes {
    width: usize,
    queue: usize,
    patience: Patience,
    /// Jobs that waited too long and are withdrawn: whoever holds the lock next drops them without it.
    pub(super) late: Vec<Queued>,
    next_id: u64,
    pub(super) stopped: bool,
    /// Threads that wait to be told of a job.
    pub(super) idle: usize,
    /// Of those, how many have been told and have yet to wake.
    pub(super) told: usize,
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
    /// Since when somebody has been waiting without a break.
    standing: Option<Instant>,
    /// How long its calls take of late.
    run: Option<Duration>,
}

impl Lane {
    /// The oldest job whose turn does not come in vain.
    fn next(&mut self, patience: Patience, now: Instant, late: &mut Vec<Queued>) -> Option<Queued> {
        let stands = self
            .standing
            .is_some_and(|since| now.saturating_duration_since(since) > patience.standing);
        // Calls that take long are waited for long. Before one has ended nobody knows.
        let bound = self
            .run
            .filter(|_| stands)
            .map(|run| patience.wait.max(run.saturating_mul(CALLS_WAITED)));
        let mut next = None;
        while let Some(queued) = self.waiting.pop_front() {
            let waited = now.saturating_duration_since(queued.since);
            if bound.is_none_or(|bound| waited <= bound) {
                next = Some(queued);
                break;
            }
            // One whose caller has left by itself is in nobody's way either.
            queued.ticket.withdraw();
            late.push(queued);
        }
        self.look();
        next
    }

    /// A queue that is empty does not stand.
    fn look(&mut self) {
        if self.waiting.is_empty() {
            self.standing = None;
        }
    }
}

impl Lanes {
    pub(super) const fn new(width: usize, queue: usize, patience: Patience) -> Self {
        Self {
            width,
            queue,
            patience,
            late: Vec::new(),
            next_id: 0,
            stopped: false,
            idle: 0,
            told: 0,
            beside: 0,
            lanes: BTreeMap::new(),
            last: LaneId(0),
        }
    }

    /// A lane for one more handler.
    pub(super) fn lane(&mut self) -> LaneId {
        self.next_id = self.next_id.saturating_add(1);
        LaneId(self.next_id)
    }

    /// Whether one more thread is to be told of a job; if so, it counts as told. Who has a job tells the next, so that no more than there
    /// are cores need be on their way.
    pub(super) fn tell(&mut self) -> bool {
        let tells = self.told < self.idle.min(self.width)
            && self.lanes.values().any(|lane| self.may_run(lane));
        self.told = self.told.saturating_add(usize::from(tells));
        tells
    }

    fn may_run(&self, lane: &Lane) -> bool {
        // What a lane runs beside its first job must leave a thread for every other lane's first.
        let spare = self.beside < self.width.saturating_sub(1);
        (lane.running == 0 || spare) && !lane.waiting.is_empty()
    }

    /// Queues a job; `false` if its lane is full.
    pub(super) fn push(&mut self, lane: LaneId, job: Queued) -> bool {
        let lane = self.lanes.entry(lane).or_default();
        let room = lane.waiting.len() < self.queue;
        if room {
            lane.standing.get_or_insert(job.since);
            lane.waiting.push_back(job);
        }
        room
    }

    /// The oldest job of the next lane, in turn, that may run one; those that have waited in vain before it are withdrawn.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(LaneId, Job)> {
        loop {
            let after = (
                std::ops::Bound::Excluded(self.last),
                std::ops::Bound::Unbounded,
            );
            let next = self
                .lanes
                .range(after)
                .chain(self.lanes.range(..=self.last))
                .find(|(_, lane)| self.may_run(lane))
                .map(|(id, _)| *id)?;
            let lane = self.lanes.get_mut(&next)?;
            let queued = lane.next(self.patience, now, &mut self.late);
            if let Some(Queued { job, .. }) = queued {
                if lane.running > 0 {
                    self.beside = self.beside.saturating_add(1);
                }
                lane.running = lane.running.saturating_add(1);
                self.last = next;
                return Some((next, job));
            }
            self.tidy(next);
        }
    }

    /// Takes a call's job out, if it still waits.
    pub(super) fn take(&mut self, id: LaneId, ticket: &Arc<Ticket>) -> Option<Queued> {
        let lane = self.lanes.get_mut(&id)?;
        let place = lane
            .waiting
            .iter()
            .position(|queued| Arc::ptr_eq(&queued.ticket, ticket))?;
        let taken = lane.waiting.remove(place);
        lane.look();
        self.tidy(id);
        taken
    }

    /// One of its jobs has ended, after so long.
    pub(super) fn done(&mut self, id: LaneId, took: Duration) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.run = Some(lane.run.map_or(took, |run| {
                part(
                    run.saturating_mul(SHARE.saturating_sub(1))
                        .saturating_add(took),
                    SHARE,
                )
            }));
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

/// How many threads a pool has: one kept for each handler, and those that a busy one may have beside its own.
pub(super) fn threads(width: usize, handlers: usize) -> usize {
    handlers
        .clamp(1, MAX_KEPT_THREADS)
        .saturating_add(width.saturating_sub(1))
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]
mod tests {
    use super::*;

    /// Nobody waits for longer than this here.
    fn patient() -> Patience {
        Patience::of(Duration::from_secs(3_600))
    }

    fn idle() -> Queued {
        Queued {
            ticket: Arc::default(),
            job: Box::new(|| {}),
            since: Instant::now(),
        }
    }

    fn next(lanes: &mut Lanes) -> Option<u64> {
        lanes.pop(Instant::now()).map(|(lane, _)| lane.0)
    }

    fn done(lanes: &mut Lanes, lane: u64) {
        lanes.done(LaneId(lane), Duration::from_millis(1));
    }

    #[test]
    fn lanes_are_served_in_turn_whatever_they_queue() {
        let mut lanes = Lanes::new(9, 9, patient());
        for lane in [1, 1, 1, 1, 2, 3, 3] {
            assert!(lanes.push(LaneId(lane), idle()));
        }
        let order: Vec<_> = std::iter::from_fn(|| next(&mut lanes)).collect();
        assert_eq!(order, [1, 2, 3, 1, 3, 1, 1]);
    }

    #[test]
    fn a_lane_at_its_width_leaves_the_last_thread_to_others() {
        let mut lanes = Lanes::new(2, 9, patient());
        for _ in 0..5 {
            assert!(lanes.push(LaneId(1), idle()));
        }
        assert_eq!(
            (next(&mut lanes), next(&mut lanes), next(&mut lanes)),
            (Some(1), Some(1), None)
        );
        assert!(lanes.push(LaneId(2), idle()));
        assert_eq!(next(&mut lanes), Some(2));
        done(&mut lanes, 1);
        assert_eq!((next(&mut lanes), next(&mut lanes)), (Some(1), None));
    }

    #[test]
    fn every_lane_has_its_thread_while_others_run_all_that_they_may() {
        let mut lanes = Lanes::new(3, 9, patient());
        for lane in [1, 1, 1, 1, 2, 2, 2, 3, 4] {
            assert!(lanes.push(LaneId(lane), idle()));
        }
        // Two beside their own lane's first, and one of each lane: as many threads as there are for four handlers.
        let order: Vec<_> = std::iter::from_fn(|| next(&mut lanes)).collect();
        assert_eq!(order, [1, 2, 3, 4, 1, 2]);
        assert_eq!(order.len(), threads(3, 4));
        done(&mut lanes, 3);
        assert_eq!(
            next(&mut lanes),
            None,
            "the kept thread of lane 3 stays free"
        );
        done(&mut lanes, 2);
        assert_eq!((next(&mut lanes), next(&mut lanes)), (Some(1), None));
        for (handlers, expected) in [(0, 3), (1, 3), (4, 6), (10_000, MAX_KEPT_THREADS + 2)] {
            assert_eq!(threads(3, handlers), expected);
        }
    }

    #[test]
    fn a_full_lane_refuses_its_own_jobs_only() {
        let mut lanes = Lanes::new(1, 2, patient());
        for (lane, taken) in [(1, true), (1, true), (1, false), (2, true)] {
            assert_eq!(lanes.push(LaneId(lane), idle()), taken);
        }
    }

    #[test]
    fn a_queue_that_stands_sheds_who_has_waited_in_vain_and_serves_who_came_late() {
        let ms = Duration::from_millis;
        let start = Instant::now();
        // Up to a second is waited: a queue may stand for half of it, and then a tenth of it is waited.
        for (what, run, at, expected) in [
            ("it does not stand yet", Some(ms(1)), ms(500), 1),
            ("it stands", Some(ms(1)), ms(501), 3),
            ("its calls take long", Some(ms(80)), ms(501), 2),
            ("no call has ended", None, ms(501), 1),
            ("all came too early", Some(ms(1)), ms(700), 0),
        ] {
            let mut lanes = Lanes::new(1, 9, Patience::of(ms(1_000)));
            let came = |after| Queued {
                since: start + after,
                ..idle()
            };
            let mut tickets = Vec::new();
            for after in [ms(0), ms(200), ms(410)] {
                let queued = came(after);
                tickets.push(Arc::clone(&queued.ticket));
                assert!(lanes.push(LaneId(1), queued));
            }
            lanes.lanes.get_mut(&LaneId(1)).unwrap().run = run;
            let served = lanes.pop(start + at).is_some();
            let late = lanes.late.len();
            assert_eq!(if served { late + 1 } else { 0 }, expected, "{what}");
            for (place, ticket) in tickets.iter().enumerate() {
                assert_eq!(ticket.is_abandoned(), place < late, "{what}: {place}");
            }
        }
    }

    #[test]
    fn a_queue_that_was_empty_in_between_does_not_stand() {
        let ms = Duration::from_millis;
        let start = Instant::now();
        let mut lanes = Lanes::new(1, 9, Patience::of(ms(1_000)));
        let came = |after| Queued {
            since: start + after,
            ..idle()
        };
        for after in [ms(0), ms(600)] {
            assert!(lanes.push(LaneId(1), came(after)));
            assert!(lanes.pop(start + after + ms(300)).is_some(), "{after:?}");
            done(&mut lanes, 1);
        }
    }

    #[test]
    fn a_lane_without_work_is_forgotten() {
        let mut lanes = Lanes::new(1, 1, patient());
        assert!(lanes.push(LaneId(7), idle()));
        assert_eq!(next(&mut lanes), Some(7));
        done(&mut lanes, 7);
        assert!(lanes.lanes.is_empty());
    }

    #[test]
    fn a_job_that_is_forgotten_frees_its_place_and_leaves_the_others() {
        let mut lanes = Lanes::new(1, 2, patient());
        let (first, second) = (idle(), idle());
        let tickets = [Arc::clone(&first.ticket), Arc::clone(&second.ticket)];
        assert!(lanes.push(LaneId(1), first) && lanes.push(LaneId(1), second));
        assert!(lanes.take(LaneId(2), &tickets[0]).is_none(), "not its lane");
        assert!(lanes.take(LaneId(1), &tickets[0]).is_some());
        assert!(lanes.take(LaneId(1), &tickets[0]).is_none(), "it is gone");
        assert!(lanes.push(LaneId(1), idle()), "its place is free");
        assert!(lanes.take(LaneId(1), &tickets[1]).is_some());
        assert_eq!((next(&mut lanes), next(&mut lanes)), (Some(1), None));
        done(&mut lanes, 1);
        assert!(lanes.lanes.is_empty());

        let only = idle();
        let ticket = Arc::clone(&only.ticket);
        assert!(lanes.push(LaneId(1), only));
        assert!(lanes.take(LaneId(1), &ticket).is_some());
        assert!(lanes.lanes.is_empty(), "a lane without work is forgotten");
    }
}
