//! Per-handler job queues with fair scheduling.
//!
//! A guest may run until its deadline. So one handler must not occupy every worker thread, and one
//! client must not occupy every slot of a handler. Each handler has:
//! - a bounded queue,
//! - one reserved thread,
//! - a share of the remaining threads, at most one per core in total.
//!
//! Threads take jobs from the handlers' queues in turn, and skip jobs that waited for too long.
//!
//! Within a queue, clients take turns ([`Turns`]): the client with the fewest running calls comes
//! next. When a queue is full, the newest job of the client with the most jobs is preempted. Some
//! extra threads serve clients without a running call, so that they need not wait for another
//! client's calls.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::thread::{Thread, ThreadId};
use std::time::{Duration, Instant};

use tensorgate_base::client_key::ClientKey;
use tensorgate_base::turns::{Enqueued, Ticket, Turns};
use tensorgate_settings::handler_threads::{MAX_RESERVED_THREADS, extra_threads, shared_threads};

use crate::fixed_limits::MAX_WAIT_IN_CALLS;
use crate::job_handle::JobHandle;
use crate::outcome::Overload;
use crate::priority::Priority;

/// A unit of work.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// A queued job, with the handle of its call.
pub(super) struct QueuedJob {
    handle: Arc<JobHandle>,
    job: Job,
    queued_at: Instant,
    /// Since when its client has had a waiting job without interruption.
    client_waiting_since: Instant,
    /// The priority with which it will start.
    priority: Priority,
}

impl QueuedJob {
    /// Creates a job that waits from now on.
    pub(super) fn new(
        job_handle: Arc<JobHandle>,
        rank: Priority,
        job: Job,
        since: Instant,
    ) -> Self {
        Self {
            priority: rank,
            handle: job_handle,
            job,
            queued_at: since,
            client_waiting_since: since,
        }
    }
}

/// The weight of the latest call in the moving average is one in this many.
const AVERAGE_WEIGHT: u32 = 8;

fn fraction(whole: Duration, parts: u32) -> Duration {
    whole.checked_div(parts).unwrap_or(whole)
}

/// When a queue counts as overloaded, as in controlled delay (CoDel, Nichols and Jacobson) for
/// servers. Once the queue has not been empty for `standing`, a job that has waited longer than
/// `wait` is rejected when its turn comes. Jobs behind it are then served while their callers still
/// wait. The limit applies to each client's share of the queue, so a new client's jobs are not
/// rejected because of another client.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueDelayLimits {
    max_busy: Duration,
    max_wait: Duration,
}

impl QueueDelayLimits {
    /// The limits for calls that wait at most this long: half of it for the queue, a tenth of it
    /// for a job.
    pub(super) fn from_queue_wait(queue_wait: Duration) -> Self {
        Self {
            max_busy: fraction(queue_wait, 2),
            max_wait: fraction(queue_wait, 10),
        }
    }
}

/// The ID of a handler's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HandlerId(u64);

/// The position of a job in its queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueuePosition {
    handler: HandlerId,
    position: Ticket,
}

/// A running job: its handler's queue and its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunningJob {
    handler: HandlerId,
    client_key: ClientKey,
}

/// The kinds of threads that a handler's next job may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ThreadKind {
    /// The handler's reserved thread: no job of the handler runs.
    Reserved,
    /// Any thread that is not reserved for another handler: no job of the client runs there.
    Extra,
    /// The shared threads.
    Shared,
}

/// The job queues of all handlers.
pub(super) struct HandlerQueues {
    width: usize,
    queue: usize,
    delay_limits: QueueDelayLimits,
    /// Jobs that waited too long and are withdrawn. They are dropped after the lock is released.
    pub(super) expired: Vec<QueuedJob>,
    next_id: u64,
    stopped: bool,
    /// Idle threads. The one that has waited the shortest is last.
    idle: Vec<Thread>,
    /// Threads that were notified and have not woken yet.
    notified: usize,
    /// Jobs that run next to another job of the same handler.
    extra_jobs: usize,
    queues: BTreeMap<HandlerId, HandlerQueue>,
    /// The queues with waiting jobs, by the kind of thread that the next job needs.
    waiting: BTreeMap<ThreadKind, BTreeSet<HandlerId>>,
    /// The queue that was served last.
    last: HandlerId,
}

#[derive(Default)]
struct HandlerQueue {
    turns: Turns<QueuedJob>,
    /// Since when a job has been waiting without interruption.
    busy_since: Option<Instant>,
    /// The moving average of the run time.
    run_time: Option<Duration>,
    /// Where the queue is listed in [`HandlerQueues::waiting`].
    listed_as: Option<ThreadKind>,
}

impl HandlerQueue {
    fn thread_kind(&self) -> Option<ThreadKind> {
        self.turns.next().map(|(taken, _)| {
            if self.turns.taken() == 0 {
                ThreadKind::Reserved
            } else if taken == 0 {
                ThreadKind::Extra
            } else {
                ThreadKind::Shared
            }
        })
    }

    /// Removes the next client's oldest job if it waited too long.
    fn take_expired(&mut self, patience: QueueDelayLimits, now: Instant) -> Option<QueuedJob> {
        let stands = |since, most| now.saturating_duration_since(since) > most;
        self.busy_since
            .filter(|since| stands(*since, patience.max_busy))?;
        // A slow handler's calls may wait longer. Before one has ended, the run time is unknown.
        let bound = patience
            .max_wait
            .max(self.run_time?.saturating_mul(MAX_WAIT_IN_CALLS));
        let clients = u32::try_from(self.turns.clients_waiting()).unwrap_or(u32::MAX);
        let own = fraction(patience.max_busy, clients);
        self.turns.dismiss_next_if(|queued| {
            stands(queued.client_waiting_since, own) && stands(queued.queued_at, bound)
        })
    }
}

impl HandlerQueues {
    pub(super) const fn new(width: usize, queue: usize, patience: QueueDelayLimits) -> Self {
        Self {
            width,
            queue,
            delay_limits: patience,
            expired: Vec::new(),
            next_id: 0,
            stopped: false,
            idle: Vec::new(),
            notified: 0,
            extra_jobs: 0,
            queues: BTreeMap::new(),
            waiting: BTreeMap::new(),
            last: HandlerId(0),
        }
    }

    /// Creates a queue for one more handler.
    pub(super) fn add_handler(&mut self) -> HandlerId {
        self.next_id = self.next_id.saturating_add(1);
        HandlerId(self.next_id)
    }

    /// The idle thread to wake for the next job, if any. Each thread that takes a job wakes the
    /// next one, so no more threads than cores are waking up at once. The thread that has waited
    /// the shortest is taken, because its caches are warm.
    pub(super) fn thread_to_wake(&mut self) -> Option<Thread> {
        let wanted = self.notified < self.width && self.next().is_some();
        let told = self.idle.pop_if(|_| wanted);
        self.notified = self.notified.saturating_add(usize::from(told.is_some()));
        told
    }

    /// Whether the queues are closed.
    pub(super) const fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Adds an idle thread.
    pub(super) fn park(&mut self, thread: Thread) {
        self.idle.push(thread);
    }

    /// Whether an idle thread was notified. If so, it counts as awake.
    pub(super) fn try_wake(&mut self, thread: ThreadId) -> bool {
        let told = self.idle.iter().all(|idle| idle.id() != thread);
        self.notified = self.notified.saturating_sub(usize::from(told));
        told
    }

    /// Closes the queues. Returns the threads to wake.
    pub(super) fn stop(&mut self) -> Vec<Thread> {
        self.stopped = true;
        self.notified = self.notified.saturating_add(self.idle.len());
        std::mem::take(&mut self.idle)
    }

    /// Queues a client's job, possibly preempting another. Returns the job if its queue is full and
    /// no client has more jobs.
    pub(super) fn push(
        &mut self,
        id: HandlerId,
        client_key: ClientKey,
        mut job: QueuedJob,
    ) -> Result<(QueuePosition, Option<QueuedJob>), QueuedJob> {
        let since = job.queued_at;
        let handler = self.queues.entry(id).or_default();
        if let Some(before) = handler.turns.newest(client_key) {
            job.client_waiting_since = before.client_waiting_since;
        }
        let Enqueued {
            waits,
            preempted: gave_way,
        } = handler.turns.enqueue(client_key, self.queue, job)?;
        handler.busy_since.get_or_insert(since);
        if let Some(other) = &gave_way {
            // If its caller has left meanwhile, this has no effect.
            other.handle.withdraw(Overload::Preempted);
        }
        self.update_listing(id);
        Ok((
            QueuePosition {
                handler: id,
                position: waits,
            },
            gave_way,
        ))
    }

    /// The next job of the next queue that may run one, if the job starts at this priority or a
    /// lower one. Jobs before it that waited too long are withdrawn.
    pub(super) fn pop(&mut self, now: Instant, rank: Priority) -> Option<(RunningJob, Job)> {
        loop {
            let id = self.next()?;
            let handler = self.queues.get_mut(&id)?;
            let late = handler.take_expired(self.delay_limits, now);
            let queued = if late.is_some() {
                None
            } else if handler.turns.peek()?.priority >= rank {
                handler.turns.grant_next()
            } else {
                return None;
            };
            let beside = handler.turns.taken() > 1;
            self.update_listing(id);
            if let Some(queued) = late {
                queued.handle.withdraw(Overload::QueueDelay);
                self.expired.push(queued);
            } else {
                let (client_key, QueuedJob { job, .. }) = queued?;
                self.extra_jobs = self.extra_jobs.saturating_add(usize::from(beside));
                self.last = id;
                return Some((
                    RunningJob {
                        handler: id,
                        client_key,
                    },
                    job,
                ));
            }
        }
    }

    /// The next queue in turn whose next job may get a thread.
    fn next(&self) -> Option<HandlerId> {
        let spare = self.width.saturating_sub(1);
        let finds = |needs| match needs {
            ThreadKind::Reserved => true,
            // Extra jobs of a handler must leave a thread for each other handler's first job.
            ThreadKind::Extra => self.extra_jobs < spare.saturating_add(extra_threads(self.width)),
            ThreadKind::Shared => self.extra_jobs < spare,
        };
        let first = |queues: &BTreeSet<HandlerId>| {
            let mut after = queues.range((Bound::Excluded(self.last), Bound::Unbounded));
            after.next().or_else(|| queues.first()).copied()
        };
        self.waiting
            .iter()
            .filter(|(needs, _)| finds(**needs))
            .filter_map(|(_, queues)| first(queues))
            .min_by_key(|id| (*id <= self.last, *id))
    }

    /// Removes a job from its queue, if it still waits.
    pub(super) fn remove(
        &mut self,
        QueuePosition {
            handler,
            position: waits,
        }: QueuePosition,
    ) -> Option<QueuedJob> {
        let taken = self.queues.get_mut(&handler)?.turns.remove(waits);
        self.update_listing(handler);
        taken
    }

    /// Records that a job ended after this time.
    pub(super) fn finish(
        &mut self,
        RunningJob {
            handler: id,
            client_key,
        }: RunningJob,
        took: Duration,
    ) {
        if let Some(handler) = self.queues.get_mut(&id) {
            handler.run_time = Some(handler.run_time.map_or(took, |run| {
                fraction(
                    run.saturating_mul(AVERAGE_WEIGHT.saturating_sub(1))
                        .saturating_add(took),
                    AVERAGE_WEIGHT,
                )
            }));
            handler.turns.release(client_key);
            if handler.turns.taken() > 0 {
                self.extra_jobs = self.extra_jobs.saturating_sub(1);
            }
        }
        self.update_listing(id);
    }

    /// Updates the list entry of a queue, and removes a queue without jobs.
    fn update_listing(&mut self, id: HandlerId) {
        let Some(handler) = self.queues.get_mut(&id) else {
            return;
        };
        let needs = handler.thread_kind();
        if needs.is_none() {
            // An empty queue is not overloaded.
            handler.busy_since = None;
        }
        let was = std::mem::replace(&mut handler.listed_as, needs);
        if needs.is_none() && handler.turns.taken() == 0 {
            self.queues.remove(&id);
        }
        if was == needs {
            return;
        }
        if let Some(was) = was
            && let Some(queues) = self.waiting.get_mut(&was)
        {
            queues.remove(&id);
            if queues.is_empty() {
                self.waiting.remove(&was);
            }
        }
        if let Some(needs) = needs {
            self.waiting.entry(needs).or_default().insert(id);
        }
    }
}

/// The number of threads of a pool: one reserved for each handler, the shared ones, and the extra
/// ones for clients without a running call.
pub(super) fn threads(width: usize, handlers: usize) -> usize {
    handlers
        .clamp(1, MAX_RESERVED_THREADS)
        .saturating_add(shared_threads(width))
}

#[cfg(test)]
mod tests;
