//! Which job comes next. Because any handler may loop until its deadline, and any client have it loop, no handler may have all threads, and no client
//! all of a handler's, or of the queue that others share.
//!
//! Each handler has a lane of its own: a bounded queue, a thread that is kept for it, and its share of the threads beyond
//! those, so that it has at most as many as there are cores. Who loops on all that it may have leaves every other handler its
//! thread. Threads take from the lanes in turn, and leave what has waited in vain.
//!
//! Within a lane clients are served in turn ([`Turns`]): whoever has the fewest calls running comes next, and a full queue makes room for who has less in it. So one that floods a
//! handler waits behind itself. Beyond what one handler may have there are threads for clients of which it runs nothing: they need not wait until another's
//! calls end.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::thread::{Thread, ThreadId};
use std::time::{Duration, Instant};

use super::bounds::{CALLS_WAITED, MAX_KEPT_THREADS};
use super::outcome::Overload;
use super::priority::Rank;
use super::ticket::Ticket;
use crate::dispatch::Whose;
use crate::turns::{Joined, Turns, Waits};

/// A piece of work.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// A piece of work that waits, since when, and the ticket of the call that it is for.
pub(super) struct Queued {
    ticket: Arc<Ticket>,
    job: Job,
    since: Instant,
    /// Since when some job of its client's has been waiting without a break.
    standing: Instant,
    /// Where it will start.
    rank: Rank,
}

impl Queued {
    /// From now on.
    pub(super) fn new(ticket: Arc<Ticket>, rank: Rank, job: Job, since: Instant) -> Self {
        Self {
            rank,
            ticket,
            job,
            since,
            standing: since,
        }
    }
}

/// One in so many of the calls that a lane's mean is of is the latest.
const SHARE: u32 = 8;

/// Beside a handler's own width, one in so many of it is for clients that have nothing running there.
const KEPT: usize = 8;

fn part(whole: Duration, parts: u32) -> Duration {
    whole.checked_div(parts).unwrap_or(whole)
}

/// When a queue stops being a buffer for bursts and is nothing but a delay (Nichols and Jacobson's controlled delay, in the form in which servers
/// have it): once it has not been empty for `standing`, who has waited for longer than `wait` is shed when its turn comes, so that
/// those behind it are served while somebody still waits for them. Where several clients wait each has its part of that time: one that has just come is not
/// shed for a queue that stands because of another.
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

/// A job that waits in its lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    lane: LaneId,
    waits: Waits,
}

/// A job that runs: in which lane, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    lane: LaneId,
    whose: Whose,
}

/// Which threads a lane's next job may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Needs {
    /// The lane's own: it runs nothing.
    Own,
    /// Any but other lanes' own: the lane runs nothing of its client's.
    Kept,
    /// Those that a lane may have beside its own.
    Spare,
}

/// Every handler's lane.
pub(super) struct Lanes {
    width: usize,
    queue: usize,
    patience: Patience,
    /// Jobs that waited too long and are withdrawn: whoever holds the lock next drops them without it.
    pub(super) late: Vec<Queued>,
    next_id: u64,
    stopped: bool,
    /// Threads that wait to be told of a job, the one that has waited the shortest last.
    idle: Vec<Thread>,
    /// How many have been told and have yet to wake.
    told: usize,
    /// Jobs that run beside another of their own lane.
    beside: usize,
    lanes: BTreeMap<LaneId, Lane>,
    /// Lanes in which somebody waits, by what the next one needs.
    waiting: BTreeMap<Needs, BTreeSet<LaneId>>,
    /// The lane that was served last.
    last: LaneId,
}

#[derive(Default)]
struct Lane {
    turns: Turns<Queued>,
    /// Since when somebody has been waiting without a break.
    standing: Option<Instant>,
    /// How long its calls take of late.
    run: Option<Duration>,
    /// Where it is found in [`Lanes::waiting`].
    listed: Option<Needs>,
}

impl Lane {
    fn needs(&self) -> Option<Needs> {
        self.turns.next().map(|(taken, _)| {
            if self.turns.taken() == 0 {
                Needs::Own
            } else if taken == 0 {
                Needs::Kept
            } else {
                Needs::Spare
            }
        })
    }

    /// The next client's oldest job, if its turn comes in vain.
    fn late(&mut self, patience: Patience, now: Instant) -> Option<Queued> {
        let stands = |since, most| now.saturating_duration_since(since) > most;
        self.standing
            .filter(|since| stands(*since, patience.standing))?;
        // Calls that take long are waited for long. Before one has ended nobody knows.
        let bound = patience.wait.max(self.run?.saturating_mul(CALLS_WAITED));
        let clients = u32::try_from(self.turns.clients_waiting()).unwrap_or(u32::MAX);
        let own = part(patience.standing, clients);
        self.turns
            .dismiss_if(|queued| stands(queued.standing, own) && stands(queued.since, bound))
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
            idle: Vec::new(),
            told: 0,
            beside: 0,
            lanes: BTreeMap::new(),
            waiting: BTreeMap::new(),
            last: LaneId(0),
        }
    }

    /// A lane for one more handler.
    pub(super) fn lane(&mut self) -> LaneId {
        self.next_id = self.next_id.saturating_add(1);
        LaneId(self.next_id)
    }

    /// A thread that is to be told of a job, if there is one for it. Who has a job tells the next, so that no more than there are cores need be on
    /// their way. The one that has waited the shortest: what its last call had in a cache is there still.
    pub(super) fn tell(&mut self) -> Option<Thread> {
        let wanted = self.told < self.width && self.next().is_some();
        let told = self.idle.pop_if(|_| wanted);
        self.told = self.told.saturating_add(usize::from(told.is_some()));
        told
    }

    /// Whether no more jobs will come.
    pub(super) const fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// A thread waits from now on.
    pub(super) fn wait(&mut self, thread: Thread) {
        self.idle.push(thread);
    }

    /// Whether a thread that waited has been told, and is awake now.
    pub(super) fn wakes(&mut self, thread: ThreadId) -> bool {
        let told = self.idle.iter().all(|idle| idle.id() != thread);
        self.told = self.told.saturating_sub(usize::from(told));
        told
    }

    /// No more jobs will come: who is to be told of that.
    pub(super) fn stop(&mut self) -> Vec<Thread> {
        self.stopped = true;
        self.told = self.told.saturating_add(self.idle.len());
        std::mem::take(&mut self.idle)
    }

    /// Queues a client's job, and withdraws whoever gives way for it. Where its lane is full, of its own or of clients that have no more, it comes back.
    pub(super) fn push(
        &mut self,
        id: LaneId,
        whose: Whose,
        mut job: Queued,
    ) -> Result<(Place, Option<Queued>), Queued> {
        let since = job.since;
        let lane = self.lanes.entry(id).or_default();
        if let Some(before) = lane.turns.newest(whose) {
            job.standing = before.standing;
        }
        let Joined { waits, gave_way } = lane.turns.wait(whose, self.queue, job)?;
        lane.standing.get_or_insert(since);
        if let Some(other) = &gave_way {
            // One whose caller has left by itself is in nobody's way either.
            other.ticket.withdraw(Overload::GaveWay);
        }
        self.list(id);
        Ok((Place { lane: id, waits }, gave_way))
    }

    /// The next job of the next lane, in turn, that may run one, if it starts no further forward than this; those that have waited in vain before it
    /// are withdrawn.
    pub(super) fn pop(&mut self, now: Instant, rank: Rank) -> Option<(Seat, Job)> {
        loop {
            let id = self.next()?;
            let lane = self.lanes.get_mut(&id)?;
            let late = lane.late(self.patience, now);
            let queued = if late.is_some() {
                None
            } else if lane.turns.peek()?.rank >= rank {
                lane.turns.grant()
            } else {
                return None;
            };
            let beside = lane.turns.taken() > 1;
            self.list(id);
            if let Some(queued) = late {
                queued.ticket.withdraw(Overload::Shed);
                self.late.push(queued);
            } else {
                let (whose, Queued { job, .. }) = queued?;
                self.beside = self.beside.saturating_add(usize::from(beside));
                self.last = id;
                return Some((Seat { lane: id, whose }, job));
            }
        }
    }

    /// The lane whose turn it is, of those whose next job finds a thread.
    fn next(&self) -> Option<LaneId> {
        let spare = self.width.saturating_sub(1);
        let finds = |needs| match needs {
            Needs::Own => true,
            // What a lane runs beside its first job must leave a thread for every other lane's first.
            Needs::Kept => self.beside < spare.saturating_add(kept(self.width)),
            Needs::Spare => self.beside < spare,
        };
        let first = |lanes: &BTreeSet<LaneId>| {
            let mut after = lanes.range((Bound::Excluded(self.last), Bound::Unbounded));
            after.next().or_else(|| lanes.first()).copied()
        };
        self.waiting
            .iter()
            .filter(|(needs, _)| finds(**needs))
            .filter_map(|(_, lanes)| first(lanes))
            .min_by_key(|id| (*id <= self.last, *id))
    }

    /// Takes a job out, if it still waits.
    pub(super) fn take(&mut self, Place { lane, waits }: Place) -> Option<Queued> {
        let taken = self.lanes.get_mut(&lane)?.turns.leave(waits);
        self.list(lane);
        taken
    }

    /// A job has ended, after so long.
    pub(super) fn done(&mut self, Seat { lane: id, whose }: Seat, took: Duration) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.run = Some(lane.run.map_or(took, |run| {
                part(
                    run.saturating_mul(SHARE.saturating_sub(1))
                        .saturating_add(took),
                    SHARE,
                )
            }));
            lane.turns.give_back(whose);
            if lane.turns.taken() > 0 {
                self.beside = self.beside.saturating_sub(1);
            }
        }
        self.list(id);
    }

    /// Has a lane found by what it needs now, and forgets one that has no work.
    fn list(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        let needs = lane.needs();
        if needs.is_none() {
            // A queue that is empty does not stand.
            lane.standing = None;
        }
        let was = std::mem::replace(&mut lane.listed, needs);
        if needs.is_none() && lane.turns.taken() == 0 {
            self.lanes.remove(&id);
        }
        if was == needs {
            return;
        }
        if let Some(was) = was
            && let Some(lanes) = self.waiting.get_mut(&was)
        {
            lanes.remove(&id);
            if lanes.is_empty() {
                self.waiting.remove(&was);
            }
        }
        if let Some(needs) = needs {
            self.waiting.entry(needs).or_default().insert(id);
        }
    }
}

/// Threads for clients that have nothing running where others have all that they may. One thread is one: who asks for that wants no two calls at once.
fn kept(width: usize) -> usize {
    if width > 1 { width.div_ceil(KEPT) } else { 0 }
}

/// How many threads a pool has: one kept for each handler, those that a busy one may have beside its own, and those for clients that it keeps waiting.
pub(super) fn threads(width: usize, handlers: usize) -> usize {
    handlers
        .clamp(1, MAX_KEPT_THREADS)
        .saturating_add(width.saturating_sub(1))
        .saturating_add(kept(width))
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
