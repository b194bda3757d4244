//! The threads that run guests. A guest blocks its thread, so it never runs on an async runtime's. Which job a thread takes is for
//! [`super::lanes`] to say; this starts threads, wakes them, and replaces those that stepped back.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Sender, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::bounds::THREAD_STACK_BYTES;
use super::fault::SandboxError;
use super::lanes::{Job, LaneId, Lanes, Patience, Place, Queued, Seat, threads};
use super::priority::{self, Rank};
use super::ticket::Ticket;
use crate::dispatch::Whose;

/// The threads. They end when this is dropped, each after the job that it runs.
pub(super) struct Pool(Arc<Shared>);

struct Shared {
    lanes: Mutex<Lanes>,
    keeper: Sender<Vacancy>,
}

/// A thread that is wanted in the place of another.
struct Vacancy {
    name: String,
    /// Which job the other has done, and how long that took.
    seat: Seat,
    took: Duration,
    /// How far back it is.
    rank: Rank,
    reply: SyncSender<Relief>,
}

/// What becomes of a thread that stepped back, once its job is done.
enum Relief {
    /// It goes on with a job that would start as far back.
    Job(Seat, Job),
    /// Another has its place.
    Replaced,
    /// None could be started in its place: it goes on as it is.
    Kept,
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
            keeper,
        });
        // A thread has the niceness of the one that starts it: only one that never runs a guest may start those that do.
        let weak = Arc::downgrade(&shared);
        let name = "guest-keeper".to_owned();
        thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                for vacancy in vacancies {
                    if let Some(shared) = weak.upgrade() {
                        shared.relieve(vacancy);
                    }
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

    /// Queues a client's job, which will start at this rank; nothing if its lane is full, and of no client that has more there.
    pub(super) fn submit(
        &self,
        lane: LaneId,
        whose: Whose,
        rank: Rank,
        ticket: Arc<Ticket>,
        job: Job,
    ) -> Option<Place> {
        let since = Instant::now();
        let mut lanes = self.0.lock();
        let pushed = lanes.push(lane, whose, Queued::new(ticket, rank, job, since));
        self.0.pass_on(lanes);
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
        let idle = self.0.lock().stop();
        for thread in idle {
            thread.unpark();
        }
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

    /// A thread whose call made it step back is no use to short ones: it goes on with others that are none, or another takes its place. What comes
    /// next is found for it: had it to wait for a core while it holds the lock, all would wait with it.
    fn relieved(&self, seat: Seat, took: Duration) -> Option<Relief> {
        let name = thread::current().name().unwrap_or("guest").to_owned();
        let (reply, replied) = mpsc::sync_channel(1);
        let vacancy = Vacancy {
            name,
            seat,
            took,
            rank: priority::rank(),
            reply,
        };
        self.keeper.send(vacancy).ok()?;
        replied.recv().ok()
    }

    /// For the keeper: what a thread that stepped back does next.
    fn relieve(self: &Arc<Self>, vacancy: Vacancy) {
        let Vacancy {
            name,
            seat,
            took,
            rank,
            reply,
        } = vacancy;
        let mut lanes = self.lock();
        lanes.done(seat, took);
        let next = lanes.pop(Instant::now(), rank);
        self.pass_on(lanes);
        let relief = next.map_or_else(
            || match self.staff(name) {
                Ok(()) => Relief::Replaced,
                Err(error) => {
                    tracing::error!(
                        cause = error.to_string(),
                        "a guest thread that stepped back cannot be replaced, and goes on"
                    );
                    Relief::Kept
                }
            },
            |(seat, job)| Relief::Job(seat, job),
        );
        // It waits for this.
        let _ = reply.send(relief);
    }

    /// Lets the lock go, and drops jobs that are withdrawn. Wakes a thread where one is idle and a lane has work: one that was at its width has, when a job of it is done. Whoever wakes goes first at
    /// a core, so that it is told without the lock: it would only wait for it, and all others with it.
    fn pass_on(&self, mut lanes: MutexGuard<'_, Lanes>) {
        let (told, late) = (lanes.tell(), std::mem::take(&mut lanes.late));
        drop(lanes);
        if let Some(thread) = told {
            thread.unpark();
        }
        // After the lock: payloads may be large.
        drop(late);
    }

    fn work(self: &Arc<Self>) {
        let mut lanes = self.lock();
        loop {
            if let Some((seat, job)) = lanes.pop(Instant::now(), Rank::Usual) {
                self.pass_on(lanes);
                match self.runs(seat, job) {
                    Some(held) => lanes = held,
                    None => return,
                }
            } else if lanes.is_stopped() {
                return;
            } else if !lanes.late.is_empty() {
                self.pass_on(lanes);
                lanes = self.lock();
            } else {
                let this = thread::current();
                lanes.wait(this.clone());
                loop {
                    drop(lanes);
                    thread::park();
                    lanes = self.lock();
                    if lanes.wakes(this.id()) {
                        break;
                    }
                }
            }
        }
    }

    /// Runs a job, and if it made this thread step back, those that it is given then; nothing if another has its place.
    fn runs(&self, mut seat: Seat, mut job: Job) -> Option<MutexGuard<'_, Lanes>> {
        loop {
            // A job answers through a channel of its own: a panic drops it, and its caller sees that.
            let began = Instant::now();
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!(
                    "a guest thread panicked: this is a bug of the host, the thread goes on"
                );
            }
            let took = began.elapsed();
            let relief = if priority::rank() == Rank::Usual {
                None
            } else {
                self.relieved(seat, took)
            };
            match relief {
                Some(Relief::Job(its_seat, its_job)) => (seat, job) = (its_seat, its_job),
                Some(Relief::Replaced) => return None,
                Some(Relief::Kept) => return Some(self.lock()),
                None => {
                    let mut lanes = self.lock();
                    lanes.done(seat, took);
                    return Some(lanes);
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

    /// Nobody waits for longer than this here.
    fn patient() -> Patience {
        Patience::of(Duration::from_secs(3_600))
    }

    /// Whether a job of nobody's is queued.
    fn submit(pool: &Pool, lane: LaneId, job: Job) -> bool {
        submit_at(pool, lane, Rank::Usual, job)
    }

    fn submit_at(pool: &Pool, lane: LaneId, rank: Rank, job: Job) -> bool {
        pool.submit(lane, Whose::of(None), rank, Arc::default(), job)
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
                    assert!(
                        priority::rank() == Rank::Usual,
                        "a thread that is back was kept"
                    );
                    let niceness = rustix::process::getpriority_process(None).unwrap();
                    let named = thread::current().name().unwrap_or_default().to_owned();
                    if number == 1 {
                        priority::step_to(Rank::Last);
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
        let pool = Pool::start(1, 1, 16, patient()).unwrap();
        let lane = pool.lane();
        let (answer, answers) = mpsc::channel();
        let (open, opened) = mpsc::channel::<()>();
        let mut gate = Some(opened);
        for rank in [Rank::Last, Rank::Last, Rank::Back, Rank::Last, Rank::Usual] {
            let (answer, gate) = (answer.clone(), gate.take());
            assert!(submit_at(
                &pool,
                lane,
                rank,
                Box::new(move || {
                    // Until all are queued.
                    if let Some(gate) = gate {
                        gate.recv().unwrap();
                    }
                    priority::step_to(rank);
                    answer
                        .send((thread::current().id(), priority::rank()))
                        .unwrap();
                })
            ));
        }
        open.send(()).unwrap();
        drop(answer);
        let (threads, ranks): (Vec<_>, Vec<_>) = answers.iter().unzip();
        let expected = [Rank::Last, Rank::Last, Rank::Back, Rank::Last, Rank::Usual];
        assert_eq!(ranks, expected, "none runs further back than it is");
        let same: Vec<_> = threads.windows(2).map(|pair| pair[0] == pair[1]).collect();
        assert_eq!(same, [true, false, true, false]);
    }

    #[test]
    fn a_job_that_waits_while_its_thread_is_replaced_is_run() {
        let pool = Pool::start(1, 2, 16, patient()).unwrap();
        let lane = pool.lane();
        let (answer, answers) = mpsc::channel();
        for round in 0..100 {
            let answer = answer.clone();
            assert!(submit(
                &pool,
                lane,
                Box::new(|| priority::step_to(Rank::Back))
            ));
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
