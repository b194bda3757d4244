//! The caller's side of a handler call: how long it waits, and what happens to the call when it
//! leaves.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Workers;
use crate::handler_queue::QueuePosition;
use crate::job_handle::JobHandle;
use crate::outcome::Overload;

/// How long a caller waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitLimits {
    /// The deadline for starting. `None` means no limit.
    pub(super) start_by: Option<Instant>,
    /// The limit for a run: its timeout, and some time in which it is stopped.
    pub(super) run_limit: Duration,
    /// The deadline of the request.
    pub(super) deadline: Option<Instant>,
}

/// Why a caller stops waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The call got no thread and will not run.
    NeverRan(Overload),
    /// The request is over while the call runs.
    RequestOver,
    /// The call runs past its deadline and has not been stopped.
    Overdue,
    /// The call's thread is gone.
    Lost,
}

/// The earlier of two instants. `None` means never.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// Awaits a future until a deadline. Returns `None` if the deadline comes first.
async fn until<T>(latest: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match latest {
        Some(latest) => timeout_at(latest, future).await.ok(),
        None => Some(future.await),
    }
}

/// The caller's side of a call. Dropping it removes a waiting job from the queue and tells a
/// running call that its result is not needed.
pub(super) struct CallWaiter {
    pub(super) handle: Arc<JobHandle>,
    pub(super) workers: Arc<Workers>,
    pub(super) position: QueuePosition,
}

impl CallWaiter {
    /// Waits for the result of the call.
    pub(super) async fn wait<T>(
        &self,
        waits: WaitLimits,
        mut answered: oneshot::Receiver<T>,
    ) -> Result<T, NoAnswer> {
        let over = |at: Option<Instant>| at.is_some_and(|at| at <= Instant::now());
        loop {
            let started = self.handle.started().map(Instant::from_std);
            // A limit beyond the range of the clock counts as none.
            let overdue = (started.unwrap_or_else(Instant::now)).checked_add(waits.run_limit);
            let look = match started {
                Some(_) => overdue,
                // The call may start at any time without notice.
                None => earlier(overdue, waits.start_by),
            };
            if let Some(outcome) = until(earlier(look, waits.deadline), &mut answered).await {
                // Only the pool withdraws a call while its caller still waits.
                return outcome.map_err(|_| {
                    (self.handle.withdrawn()).map_or(NoAnswer::Lost, NoAnswer::NeverRan)
                });
            }
            if over(earlier(waits.start_by, waits.deadline)) {
                self.withdraw(if over(waits.deadline) {
                    Overload::RequestOver
                } else {
                    Overload::NoThread
                });
                if let Some(why) = self.handle.withdrawn() {
                    return Err(NoAnswer::NeverRan(why));
                }
            }
            if over(waits.deadline) {
                return Err(NoAnswer::RequestOver);
            }
            if started.is_some() && over(overdue) {
                return Err(NoAnswer::Overdue);
            }
        }
    }

    /// Withdraws the call if it has not started, and frees its slot in the queue.
    fn withdraw(&self, why: Overload) {
        if self.handle.withdraw(why) {
            self.workers.pool.remove(self.position);
        }
    }
}

impl Drop for CallWaiter {
    fn drop(&mut self) {
        // A caller that leaves is taken to have no time left.
        self.withdraw(Overload::RequestOver);
        self.handle.abandon();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
mod tests {
    use tensorgate_base::client_key::ClientKey;

    use super::*;
    use crate::engine::compiler;
    use crate::handler_queue::QueueDelayLimits;
    use crate::low_priority::LowPrioritySlots;
    use crate::pool::ThreadPool;
    use crate::priority::Priority;
    use crate::random_seed::HostKey;
    use crate::ticker::Ticker;

    const MS: Duration = Duration::from_millis(1);

    /// A call that waits in a pool whose only thread is busy until released.
    fn waiting() -> (CallWaiter, std::sync::mpsc::Sender<()>) {
        let engine = compiler(None).unwrap();
        let workers = Arc::new(Workers {
            pool: ThreadPool::start(1, 1, 9, QueueDelayLimits::from_queue_wait(MS * 3_600_000))
                .unwrap(),
            ticker: Ticker::start(&engine).unwrap(),
            low_priority_slots: LowPrioritySlots::new(1),
            is_shared: true,
            host_key: HostKey::generate().unwrap(),
        });
        let (let_go, held) = std::sync::mpsc::channel::<()>();
        let lane = workers.pool.add_handler();
        let submit = |job_handle, job| {
            let client_key = ClientKey::from_name(None);
            (workers
                .pool
                .submit(lane, client_key, Priority::Normal, job_handle, job))
            .unwrap()
        };
        submit(
            Arc::default(),
            Box::new(move || {
                // Blocks until released.
                let _ = held.recv();
            }),
        );
        let job_handle = Arc::<JobHandle>::default();
        let place = submit(Arc::clone(&job_handle), Box::new(|| {}));
        let caller = CallWaiter {
            handle: job_handle,
            workers,
            position: place,
        };
        (caller, let_go)
    }

    fn waits(to_start: Duration, runs: Duration, latest: Option<Duration>) -> WaitLimits {
        let now = Instant::now();
        WaitLimits {
            start_by: Some(now + to_start),
            run_limit: runs,
            deadline: latest.map(|latest| now + latest),
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
                "it does not stop at its deadline",
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
            assert!(!starts || caller.handle.start());
            let (_answer, answered) = oneshot::channel::<()>();
            let outcome = caller.wait(waits(to_start, runs, latest), answered).await;
            assert_eq!(outcome, Err(expected), "{what}");
            assert!(began.elapsed() >= MS * 50, "{what}: too early");
        }
    }

    #[tokio::test]
    async fn a_call_that_starts_late_has_all_of_its_time() {
        let (caller, _let_go) = waiting();
        let (answer, answered) = oneshot::channel();
        let job_handle = Arc::clone(&caller.handle);
        let starts = tokio::spawn(async move {
            tokio::time::sleep(MS * 1_000).await;
            assert!(job_handle.start());
            tokio::time::sleep(MS * 20).await;
            answer.send("in time").unwrap();
        });
        // The call starts later than the limit for its run.
        let outcome = caller.wait(waits(MS * 60_000, MS * 500, None), answered);
        assert_eq!(outcome.await, Ok("in time"));
        starts.await.unwrap();
    }

    #[tokio::test]
    async fn a_call_whose_thread_is_gone_is_lost_and_one_that_the_pool_shed_never_ran() {
        let (shed, gave_way) = (Overload::QueueDelay, Overload::Preempted);
        for (withdrawn, expected) in [
            (None, NoAnswer::Lost),
            (Some(shed), NoAnswer::NeverRan(shed)),
            (Some(gave_way), NoAnswer::NeverRan(gave_way)),
        ] {
            let (caller, _let_go) = waiting();
            let (answer, answered) = oneshot::channel::<()>();
            assert!(match withdrawn {
                Some(why) => caller.handle.withdraw(why),
                None => caller.handle.start(),
            });
            drop(answer);
            let outcome = caller
                .wait(waits(MS * 60_000, MS * 60_000, None), answered)
                .await;
            assert_eq!(outcome, Err(expected));
        }
    }
}
