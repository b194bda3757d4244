//! Who waits for a call: until when, and what becomes of the call when nobody does any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Workers;
use super::bounds::DEADLINE_GRACE;
use super::lanes::Place;
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
    NeverRan,
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
                return outcome.map_err(|_| {
                    // Nobody but the pool withdraws a call whose caller is still here.
                    if self.ticket.is_abandoned() {
                        NoAnswer::NeverRan
                    } else {
                        NoAnswer::Lost
                    }
                });
            }
            if over(earlier(waits.to_start, waits.latest)) {
                let withdrawn = self.withdraw();
                if withdrawn || self.ticket.is_abandoned() {
                    return Err(NoAnswer::NeverRan);
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

    /// Whether the call had not started; from now on it never will, and holds nothing.
    pub(super) fn withdraw(&self) -> bool {
        let withdrawn = self.ticket.withdraw();
        if withdrawn {
            self.workers.pool.forget(self.place);
        }
        withdrawn
    }
}

impl Drop for CallerEnd {
    fn drop(&mut self) {
        if !self.withdraw() {
            self.ticket.abandon();
        }
    }
}
