//! The threads that run guests. A guest blocks its thread, so it never runs on an async runtime's. Which job a thread takes is for
//! [`super::lanes`] to say; this starts threads, wakes them, and replaces those that stepped back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Sender, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::bounds::THREAD_STACK_BYTES;
use super::fault::SandboxError;
use super::lanes::{Job, LaneId, Lanes, Patience, Place, Queued, Seat, threads};
use super::priority;
use super::ticket::Ticket;
use crate::dispatch::Whose;

/// The threads. They end when this is dropped, each after the job that it runs.
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    lanes: Mutex<Lanes>,
    changed: Condvar,
    keeper: Sender<Vacancy>,
}

/// A thread that is wanted in the place of another.
struct Vacancy {
    name: String,
    /// Which job the other has done, and how long that took.
    seat: Seat,
    took: Duration,
    /// Where to say whether there is one.
    reply: SyncSender<bool>,
}

impl Pool {
    /// Threads that run one job of each of `handlers` lanes at once, and up to `width` of one; `queue` jobs of a lane wait, with this patience.
    pub(super) fn start(
        width: usize,
        handlers: usize,
        queue: usize,
        patience: Patience,
    ) -> Result<Self, SandboxError> {
        let (keeper, vacancies) = mpsc::channel::<Vacancy>();
        let shared = Arc::new(Shared {
            lanes: Mutex::new(Lanes::new(width, queue, patience)),
            changed: Condvar::new(),
            keeper,
        });
        // A thread has the niceness of the one that starts it: only one that never runs a guest may start those that do.
        let weak = Arc::downgrade(&shared);
        let name = "guest-keeper".to_owned();
        thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                for Vacancy {
                    name,
                    seat,
                    took,
                    reply,
                } in vacancies
                {
                    // Nobody waits for the reply any more if the pool is gone.
                    let _ = reply.send(filled(&weak, name, seat, took));
                }
            })
            .map_err(|source| SandboxError::Thread { name, source })?;
        // Made first, so that the threads already started end if one cannot be.
        let pool = Self(Arc::clone(&shared));
        for number in 0..threads(width, handlers) {
            let name = format!("guest-{number}");
            shared
                .staff(name.clone())
                .map_err(|source| SandboxError::Thread { name, source })?;
        }
        Ok(pool)
    }

    /// A lane for one more handler.
    pub(super) fn lane(&self) -> LaneId {
        self.0.lock().lane()
    }

    /// Queues a client's job; nothing if its lane is full, and of no client that has more there.
    pub(super) fn submit(
        &self,
        lane: LaneId,
        whose: Whose,
        ticket: Arc<Ticket>,
        job: Job,
    ) -> Option<Place> {
        let since = Instant::now();
        let mut lanes = self.0.lock();
        let pushed = lanes.push(lane, whose, Queued::new(ticket, job, since));
        let wanted = pushed.is_ok() && lanes.idle > 0;
        drop(lanes);
        if wanted {
            self.0.changed.notify_one();
        }
        // What gave way or found no room is dropped after the lock: a payload may be large.
        pushed.ok().map(|(place, _)| place)
    }

    /// Takes a call's job out of its lane, if it is still there: its place is free and what it holds is dropped.
    pub(super) fn forget(&self, place: Place) {
        let forgotten = self.0.lock().take(place);
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lanes> {
        // A panic under the lock would be in the few lines of `Lanes`, which leave no half-made state.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a thread that works.
    fn staff(self: &Arc<Self>, name: String) -> std::io::Result<()> {
        let shared = Arc::clone(self);
        thread::Builder::new()
            .name(name)
            .stack_size(THREAD_STACK_BYTES)
            .spawn(move || shared.work())
            .map(drop)
    }

    /// A thread whose call made it step back is no use to short ones: another takes its place. `false` if none can be started. That its job is
    /// done is said for it: had it to wait for a core while it holds the lock, all would wait with it.
    fn replaced(&self, seat: Seat, took: Duration) -> bool {
        let name = thread::current().name().unwrap_or("guest").to_owned();
        let (reply, replied) = mpsc::sync_channel(1);
        let vacancy = Vacancy {
            name,
            seat,
            took,
            reply,
        };
        self.keeper.send(vacancy).is_ok() && replied.recv() == Ok(true)
    }

    /// A job is done, after so long.
    fn done(&self, seat: Seat, took: Duration) -> MutexGuard<'_, Lanes> {
        let mut lanes = self.lock();
        lanes.done(seat, took);
        // A lane that was at its width may have work for a thread that found none: who takes this one's place, for one.
        if lanes.idle > 0 && lanes.waits() {
            self.changed.notify_one();
        }
        lanes
    }

    fn work(self: &Arc<Self>) {
        let mut lanes = self.lock();
        loop {
            if let Some((seat, job)) = lanes.pop(Instant::now()) {
                let late = std::mem::take(&mut lanes.late);
                drop(lanes);
                // After the lock: payloads may be large.
                drop(late);
                // A job answers through a channel of its own: a panic drops it, and its caller sees that.
                let began = Instant::now();
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!(
                        "a guest thread panicked: this is a bug of the host, the thread goes on"
                    );
                }
                let took = began.elapsed();
                if priority::is_back() && self.replaced(seat, took) {
                    return;
                }
                lanes = self.done(seat, took);
            } else if lanes.stopped {
                return;
            } else if !lanes.late.is_empty() {
                let late = std::mem::take(&mut lanes.late);
                drop(lanes);
                drop(late);
                lanes = self.lock();
            } else {
                lanes.idle = lanes.idle.saturating_add(1);
                lanes = self
                    .changed
                    .wait(lanes)
                    .unwrap_or_else(PoisonError::into_inner);
                lanes.idle = lanes.idle.saturating_sub(1);
            }
        }
    }
}

/// Starts a thread in the place of one that has done its job, for a pool that is still there; whether it did.
fn filled(pool: &Weak<Shared>, name: String, seat: Seat, took: Duration) -> bool {
    let Some(shared) = pool.upgrade() else {
        return false;
    };
    let started = shared.staff(name).inspect_err(|error| {
        tracing::error!(
            cause = error.to_string(),
            "a guest thread that stepped back cannot be replaced, and goes on"
        );
    });
    if started.is_ok() {
        drop(shared.done(seat, took));
    }
    started.is_ok()
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

    /// Nobody waits for longer than this here.
    fn patient() -> Patience {
        Patience::of(Duration::from_secs(3_600))
    }

    /// Whether a job of nobody's is queued.
    fn submit(pool: &Pool, lane: LaneId, job: Job) -> bool {
        pool.submit(lane, Whose::of(None), Arc::default(), job)
            .is_some()
    }

    #[test]
    fn a_job_that_panics_leaves_its_thread() {
        let pool = Pool::start(1, 1, 16, patient()).unwrap();
        let lane = pool.lane();
        let (answer, answers) = mpsc::channel();
        for number in 0..10 {
            let answer = answer.clone();
            assert!(submit(
                &pool,
                lane,
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
        let pool = Pool::start(1, 1, 16, patient()).unwrap();
        let lane = pool.lane();
        let (answer, answers) = mpsc::channel();
        for number in 0..3 {
            let answer = answer.clone();
            assert!(submit(
                &pool,
                lane,
                Box::new(move || {
                    assert!(!priority::is_back(), "a thread that is back was kept");
                    let niceness = rustix::process::getpriority_process(None).unwrap();
                    let named = thread::current().name().unwrap_or_default().to_owned();
                    if number == 1 {
                        priority::step_back();
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
    fn a_job_that_waits_while_its_thread_is_replaced_is_run() {
        let pool = Pool::start(1, 2, 16, patient()).unwrap();
        let lane = pool.lane();
        let (answer, answers) = mpsc::channel();
        for round in 0..100 {
            let answer = answer.clone();
            assert!(submit(&pool, lane, Box::new(priority::step_back)));
            assert!(submit(
                &pool,
                lane,
                Box::new(move || answer.send(round).unwrap())
            ));
            let ran = answers.recv_timeout(Duration::from_secs(30));
            assert_eq!(ran, Ok(round), "nobody was told of it");
        }
    }
}
