//! Who waits for a call: until when, and what becomes of the call when nobody does any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Workers;
use super::bounds::DEADLINE_GRACE;
use super::lanes::Place;
use super::outcome::Overload;
use super::ticket::Ticket;

/// How long a caller waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    /// Until when for a thread; `None` is for ever.
    pub(super) to_start: Option<Instant>,
    /// How long a run may take. It is stopped then; one that is not has no core on which it could be.
    pub(super) runs: Duration,
    /// Until when for anything.
    pub(super) latest: Option<Instant>,
}

/// Why a caller waits no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// It got no thread, and never will.
    NeverRan(Overload),
    /// Nobody waits any more; it runs.
    RequestOver,
    /// It runs, and has not noticed that its time is up.
    Overdue,
    /// Its thread is gone.
    Lost,
}

/// The earlier of two instants; `None` is never.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// What a future makes by then; `None` if it made nothing.
async fn until<T>(latest: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match latest {
        Some(latest) => timeout_at(latest, future).await.ok(),
        None => Some(future.await),
    }
}

/// The caller's end of a call. When it goes, a job that waits gives its place and its payload back, and one that runs hears
/// that nobody waits; after the answer it tells nobody.
pub(super) struct CallerEnd {
    pub(super) ticket: Arc<Ticket>,
    pub(super) workers: Arc<Workers>,
    pub(super) place: Place,
}

impl CallerEnd {
    /// What the call answers.
    pub(super) async fn answer<T>(
        &self,
        waits: Waits,
        mut answered: oneshot::Receiver<T>,
    ) -> Result<T, NoAnswer> {
        let over = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        // A time too long for the clock to express is none.
        let after = |start: Instant| start.checked_add(waits.runs)?.checked_add(DEADLINE_GRACE);
        loop {
            let started = self.ticket.started().map(Instant::from_std);
            let overdue = after(started.unwrap_or_else(Instant::now));
            let look = match started {
                Some(_) => overdue,
                // It may start at any time, and nobody says so.
                None => earlier(overdue, waits.to_start),
            };
            if let Some(outcome) = until(earlier(look, waits.latest), &mut answered).await {
                // Nobody but the pool withdraws a call whose caller is still here.
                return outcome.map_err(|_| {
                    (self.ticket.withdrawn()).map_or(NoAnswer::Lost, NoAnswer::NeverRan)
                });
            }
            if over(earlier(waits.to_start, waits.latest)) {
                self.withdraw(if over(waits.latest) {
                    Overload::RequestOver
                } else {
                    Overload::NoThread
                });
                if let Some(why) = self.ticket.withdrawn() {
                    return Err(NoAnswer::NeverRan(why));
                }
            }
            if over(waits.latest) {
                return Err(NoAnswer::RequestOver);
            }
            if started.is_some() && over(overdue) {
                return Err(NoAnswer::Overdue);
            }
        }
    }

    /// If the call has not started, it never will, and holds nothing.
    fn withdraw(&self, why: Overload) {
        if self.ticket.withdraw(why) {
            self.workers.pool.forget(self.place);
        }
    }
}

impl Drop for CallerEnd {
    fn drop(&mut self) {
        // Whoever left had no more time for it, as far as anybody can tell.
        self.withdraw(Overload::RequestOver);
        self.ticket.abandon();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use super::super::clock::Ticker;
    use super::super::engine::compiler;
    use super::super::lanes::Patience;
    use super::super::pool::Pool;
    use super::super::priority::Rank;
    use super::super::spare::SpareCores;
    use super::*;
    use crate::dispatch::Whose;

    const MS: Duration = Duration::from_millis(1);

    /// The end of a call that waits in a pool whose only thread is taken, until that is let go.
    fn waiting() -> (CallerEnd, std::sync::mpsc::Sender<()>) {
        let engine = compiler().unwrap();
        let workers = Arc::new(Workers {
            pool: Pool::start(1, 1, 9, Patience::of(MS * 3_600_000)).unwrap(),
            ticker: Ticker::start(&engine).unwrap(),
            spare: SpareCores::of(1),
        });
        let (let_go, held) = std::sync::mpsc::channel::<()>();
        let lane = workers.pool.lane();
        let submit = |ticket, job| {
            let whose = Whose::of(None);
            (workers.pool.submit(lane, whose, Rank::Usual, ticket, job)).unwrap()
        };
        submit(
            Arc::default(),
            Box::new(move || {
                // Until it is let go.
                let _ = held.recv();
            }),
        );
        let ticket = Arc::<Ticket>::default();
        let place = submit(Arc::clone(&ticket), Box::new(|| {}));
        let caller = CallerEnd {
            ticket,
            workers,
            place,
        };
        (caller, let_go)
    }

    fn waits(to_start: Duration, runs: Duration, latest: Option<Duration>) -> Waits {
        let now = Instant::now();
        Waits {
            to_start: Some(now + to_start),
            runs,
            latest: latest.map(|latest| now + latest),
        }
    }

    #[tokio::test]
    async fn a_call_without_an_answer_ends_for_its_caller_when_its_time_is_up() {
        let long = MS * 3_600_000;
        for (what, starts, (to_start, runs, latest), expected) in [
            (
                "no thread",
                false,
                (MS * 50, MS, None),
                NoAnswer::NeverRan(Overload::NoThread),
            ),
            (
                "the request is over before it starts",
                false,
                (long, long, Some(MS * 50)),
                NoAnswer::NeverRan(Overload::RequestOver),
            ),
            (
                "the request is over while it runs",
                true,
                (long, long, Some(MS * 50)),
                NoAnswer::RequestOver,
            ),
            (
                "it has no core to notice its deadline",
                true,
                (long, MS * 50, None),
                NoAnswer::Overdue,
            ),
            (
                "the same after the time for waiting",
                true,
                (MS, MS * 50, None),
                NoAnswer::Overdue,
            ),
        ] {
            let (caller, _let_go) = waiting();
            let began = Instant::now();
            assert!(!starts || caller.ticket.start());
            let (_answer, answered) = oneshot::channel::<()>();
            let outcome = caller.answer(waits(to_start, runs, latest), answered).await;
            assert_eq!(outcome, Err(expected), "{what}");
            assert!(began.elapsed() >= MS * 50, "{what}: too early");
        }
    }

    #[tokio::test]
    async fn a_call_that_starts_late_has_all_of_its_time() {
        let (caller, _let_go) = waiting();
        let (answer, answered) = oneshot::channel();
        let ticket = Arc::clone(&caller.ticket);
        let starts = tokio::spawn(async move {
            tokio::time::sleep(MS * 200).await;
            assert!(ticket.start());
            tokio::time::sleep(MS * 20).await;
            answer.send("in time").unwrap();
        });
        // Longer than it may run, and than that is waited for.
        let outcome = caller.answer(waits(MS * 60_000, MS * 100, None), answered);
        assert_eq!(outcome.await, Ok("in time"));
        starts.await.unwrap();
    }

    #[tokio::test]
    async fn a_call_whose_thread_is_gone_is_lost_and_one_that_the_pool_shed_never_ran() {
        let (shed, gave_way) = (Overload::Shed, Overload::GaveWay);
        for (withdrawn, expected) in [
            (None, NoAnswer::Lost),
            (Some(shed), NoAnswer::NeverRan(shed)),
            (Some(gave_way), NoAnswer::NeverRan(gave_way)),
        ] {
            let (caller, _let_go) = waiting();
            let (answer, answered) = oneshot::channel::<()>();
            assert!(match withdrawn {
                Some(why) => caller.ticket.withdraw(why),
                None => caller.ticket.start(),
            });
            drop(answer);
            let outcome = caller
                .answer(waits(MS * 60_000, MS * 60_000, None), answered)
                .await;
            assert_eq!(outcome, Err(expected));
        }
    }
}
