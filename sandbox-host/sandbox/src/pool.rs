//! The threads that run guests. A guest blocks its thread, so it never runs on a thread of an async
//! runtime. [`crate::handler_queue`] decides which job comes next. This module starts and wakes
//! threads, and replaces threads with lowered priority.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Sender, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tensorgate_base::client_key::ClientKey;

use crate::error::SandboxError;
use crate::fixed_limits::THREAD_STACK_BYTES;
use crate::handler_queue::{
    HandlerId, HandlerQueues, Job, QueueDelayLimits, QueuePosition, QueuedJob, RunningJob, threads,
};
use crate::job_handle::JobHandle;
use crate::priority::{self, Priority};

/// The thread pool. The threads end when this is dropped, each after its current job.
pub(super) struct ThreadPool(Arc<PoolState>);

struct PoolState {
    queues: Mutex<HandlerQueues>,
    keeper: Sender<ReplacementRequest>,
}

/// A request to replace a thread.
struct ReplacementRequest {
    name: String,
    /// The job that the thread has finished, and how long the job took.
    job: RunningJob,
    took: Duration,
    /// The lowered priority of the thread.
    priority: Priority,
    reply: SyncSender<NextStep>,
}

/// What a thread with lowered priority does after its job.
enum NextStep {
    /// It runs another job that would start at the same priority.
    RunJob(RunningJob, Job),
    /// Another thread has replaced it, and it ends.
    Replaced,
    /// No replacement could be started. It goes on as it is.
    Kept,
}

impl ThreadPool {
    /// Starts threads for one job of each of `handlers` queues and up to `width` jobs of one. At
    /// most `queue` jobs wait in a queue.
    pub(super) fn start(
        width: usize,
        handlers: usize,
        queue: usize,
        patience: QueueDelayLimits,
    ) -> Result<Self, SandboxError> {
        let (keeper, vacancies) = mpsc::channel::<ReplacementRequest>();
        let shared = Arc::new(PoolState {
            queues: Mutex::new(HandlerQueues::new(width, queue, patience)),
            keeper,
        });
        // A new thread inherits the niceness of its creator. So only a thread that never runs
        // guests may start those that do.
        let weak = Arc::downgrade(&shared);
        let name = "guest-keeper".to_owned();
        thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                for vacancy in vacancies {
                    if let Some(shared) = weak.upgrade() {
                        shared.decide_next_step(vacancy);
                    }
                }
            })
            .map_err(|source| SandboxError::Thread { name, source })?;
        // Created first, so that the threads that were started end if a later one fails to start.
        let pool = Self(Arc::clone(&shared));
        for number in 0..threads(width, handlers) {
            let name = format!("guest-{number}");
            shared
                .start_worker(name.clone())
                .map_err(|source| SandboxError::Thread { name, source })?;
        }
        Ok(pool)
    }

    /// Creates a queue for one more handler.
    pub(super) fn add_handler(&self) -> HandlerId {
        self.0.lock().add_handler()
    }

    /// Queues a client's job that will start at this priority. Returns `None` if the queue is full
    /// and no client has more jobs in it.
    pub(super) fn submit(
        &self,
        handler: HandlerId,
        client_key: ClientKey,
        rank: Priority,
        job_handle: Arc<JobHandle>,
        job: Job,
    ) -> Option<QueuePosition> {
        let since = Instant::now();
        let mut queues = self.0.lock();
        let pushed = queues.push(
            handler,
            client_key,
            QueuedJob::new(job_handle, rank, job, since),
        );
        self.0.release(queues);
        // A preempted or rejected job is dropped after the lock is released, because its payload
        // may be large.
        pushed.ok().map(|(position, _)| position)
    }

    /// Removes a job from its queue, if it still waits, and drops it.
    pub(super) fn remove(&self, position: QueuePosition) {
        let forgotten = self.0.lock().remove(position);
        // After the lock is released, because a payload may be large.
        drop(forgotten);
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        // Threads are not joined: one of them may drop the last handle.
        let idle = self.0.lock().stop();
        for thread in idle {
            thread.unpark();
        }
    }
}

impl PoolState {
    fn lock(&self) -> MutexGuard<'_, HandlerQueues> {
        // The few lines of `HandlerQueues` under this lock leave no partial state if they panic.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a worker thread.
    fn start_worker(self: &Arc<Self>, name: String) -> std::io::Result<()> {
        let shared = Arc::clone(self);
        thread::Builder::new()
            .name(name)
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || shared.work())
            .map(drop)
    }

    /// A thread with lowered priority cannot run short calls. It takes another low-priority job, or
    /// is replaced. The keeper looks for the job: if this thread held the lock while it waited for
    /// a core, all threads would wait.
    fn request_replacement(&self, running: RunningJob, took: Duration) -> Option<NextStep> {
        let name = thread::current().name().unwrap_or("guest").to_owned();
        let (reply, replied) = mpsc::sync_channel(1);
        let vacancy = ReplacementRequest {
            name,
            job: running,
            took,
            priority: priority::current(),
            reply,
        };
        self.keeper.send(vacancy).ok()?;
        replied.recv().ok()
    }

    /// Decides what a thread with lowered priority does next. Runs on the keeper thread.
    fn decide_next_step(self: &Arc<Self>, vacancy: ReplacementRequest) {
        let ReplacementRequest {
            name,
            job: running,
            took,
            priority: rank,
            reply,
        } = vacancy;
        let mut queues = self.lock();
        queues.finish(running, took);
        let next = queues.pop(Instant::now(), rank);
        self.release(queues);
        let relief = next.map_or_else(
            || match self.start_worker(name) {
                Ok(()) => NextStep::Replaced,
                Err(error) => {
                    tracing::error!(
                        cause = error.to_string(),
                        "cannot replace a guest thread whose priority was lowered: it continues"
                    );
                    NextStep::Kept
                }
            },
            |(running, job)| NextStep::RunJob(running, job),
        );
        // The thread waits for this.
        let _ = reply.send(relief);
    }

    /// Releases the lock, wakes an idle thread if there is a job for it, and drops withdrawn jobs.
    /// The thread is woken after the lock is released. It would run at once, and wait for the lock.
    fn release(&self, mut queues: MutexGuard<'_, HandlerQueues>) {
        let (told, late) = (queues.thread_to_wake(), std::mem::take(&mut queues.expired));
        drop(queues);
        if let Some(thread) = told {
            thread.unpark();
        }
        // After the lock is released, because payloads may be large.
        drop(late);
    }

    fn work(self: &Arc<Self>) {
        let mut queues = self.lock();
        loop {
            if let Some((running, job)) = queues.pop(Instant::now(), Priority::Normal) {
                self.release(queues);
                match self.run_jobs(running, job) {
                    Some(held) => queues = held,
                    None => return,
                }
            } else if queues.is_stopped() {
                return;
            } else if !queues.expired.is_empty() {
                self.release(queues);
                queues = self.lock();
            } else {
                let this = thread::current();
                queues.park(this.clone());
                loop {
                    drop(queues);
                    thread::park();
                    queues = self.lock();
                    if queues.try_wake(this.id()) {
                        break;
                    }
                }
            }
        }
    }

    /// Runs a job, and further low-priority jobs if the job lowered this thread's priority. Returns
    /// `None` if another thread has replaced this one.
    fn run_jobs(
        &self,
        mut running: RunningJob,
        mut job: Job,
    ) -> Option<MutexGuard<'_, HandlerQueues>> {
        loop {
            // A job responds through a channel of its own. A panic drops the channel, which its
            // caller notices.
            let began = Instant::now();
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!(
                    "guest thread panicked: this is a bug of the host; the thread continues"
                );
            }
            let took = began.elapsed();
            let relief = if priority::current() == Priority::Normal {
                None
            } else {
                self.request_replacement(running, took)
            };
            match relief {
                Some(NextStep::RunJob(its_seat, its_job)) => (running, job) = (its_seat, its_job),
                Some(NextStep::Replaced) => return None,
                Some(NextStep::Kept) => return Some(self.lock()),
                None => {
                    let mut queues = self.lock();
                    queues.finish(running, took);
                    return Some(queues);
                }
            }
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

    /// Limits that no job reaches in these tests.
    fn patient() -> QueueDelayLimits {
        QueueDelayLimits::from_queue_wait(Duration::from_secs(3_600))
    }

    /// Queues a job without a client. Returns whether it was accepted.
    fn submit(pool: &ThreadPool, handler: HandlerId, job: Job) -> bool {
        submit_at(pool, handler, Priority::Normal, job)
    }

    fn submit_at(pool: &ThreadPool, handler: HandlerId, rank: Priority, job: Job) -> bool {
        pool.submit(
            handler,
            ClientKey::from_name(None),
            rank,
            Arc::default(),
            job,
        )
        .is_some()
    }

    #[test]
    fn a_job_that_panics_leaves_its_thread() {
        let pool = ThreadPool::start(1, 1, 16, patient()).unwrap();
        let handler = pool.add_handler();
        let (answer, answers) = mpsc::channel();
        for number in 0..10 {
            let answer = answer.clone();
            assert!(submit(
                &pool,
                handler,
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

    #[test]
    fn a_thread_that_stepped_back_leaves_its_place_to_another() {
        let pool = ThreadPool::start(1, 1, 16, patient()).unwrap();
        let handler = pool.add_handler();
        let (answer, answers) = mpsc::channel();
        for number in 0..3 {
            let answer = answer.clone();
            assert!(submit(
                &pool,
                handler,
                Box::new(move || {
                    assert!(
                        priority::current() == Priority::Normal,
                        "a thread that is back was kept"
                    );
                    let niceness = rustix::process::getpriority_process(None).unwrap();
                    let named = thread::current().name().unwrap_or_default().to_owned();
                    if number == 1 {
                        priority::lower_to(Priority::Lowest);
                    }
                    answer
                        .send((thread::current().id(), named, niceness))
                        .unwrap();
                })
            ));
        }
        drop(answer);
        let ran: Vec<_> = answers.iter().collect();
        let [
            (first, name, nice),
            (second, ..),
            (third, its_name, its_nice),
        ] = ran.as_slice()
        else {
            panic!("{ran:?}")
        };
        assert_eq!(first, second, "a short call changes nothing");
        assert_ne!(second, third, "the thread that stepped back has ended");
        assert_eq!((name, nice), (its_name, its_nice), "as if nothing had been");
    }

    #[test]
    fn a_thread_that_stepped_back_goes_on_with_jobs_that_start_there_and_with_no_others() {
        let pool = ThreadPool::start(1, 1, 16, patient()).unwrap();
        let handler = pool.add_handler();
        let (answer, answers) = mpsc::channel();
        let (open, opened) = mpsc::channel::<()>();
        let mut gate = Some(opened);
        for rank in [
            Priority::Lowest,
            Priority::Lowest,
            Priority::Low,
            Priority::Lowest,
            Priority::Normal,
        ] {
            let (answer, gate) = (answer.clone(), gate.take());
            assert!(submit_at(
                &pool,
                handler,
                rank,
                Box::new(move || {
                    // Waits until all jobs are queued.
                    if let Some(gate) = gate {
                        gate.recv().unwrap();
                    }
                    priority::lower_to(rank);
                    answer
                        .send((thread::current().id(), priority::current()))
                        .unwrap();
                })
            ));
        }
        open.send(()).unwrap();
        drop(answer);
        let (threads, ranks): (Vec<_>, Vec<_>) = answers.iter().unzip();
        let expected = [
            Priority::Lowest,
            Priority::Lowest,
            Priority::Low,
            Priority::Lowest,
            Priority::Normal,
        ];
        assert_eq!(ranks, expected, "none runs further back than it is");
        let same: Vec<_> = threads.windows(2).map(|pair| pair[0] == pair[1]).collect();
        assert_eq!(same, [true, false, true, false]);
    }

    #[test]
    fn a_job_that_waits_while_its_thread_is_replaced_is_run() {
        let pool = ThreadPool::start(1, 2, 16, patient()).unwrap();
        let handler = pool.add_handler();
        let (answer, answers) = mpsc::channel();
        for round in 0..100 {
            let answer = answer.clone();
            assert!(submit(
                &pool,
                handler,
                Box::new(|| priority::lower_to(Priority::Low))
            ));
            assert!(submit(
                &pool,
                handler,
                Box::new(move || answer.send(round).unwrap())
            ));
            let ran = answers.recv_timeout(Duration::from_secs(30));
            assert_eq!(ran, Ok(round), "the notification was lost");
        }
    }
}
