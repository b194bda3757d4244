//! Who waits for a call: until when, and what becomes of the call when nobody does any more.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::Workers;
use super::lanes::Place;
use super::ticket::Ticket;

/// The earlier of two instants; `None` is never.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// What a future makes by then; `None` if it made nothing.
pub(super) async fn until<T>(
    latest: Option<Instant>,
    future: impl Future<Output = T>,
) -> Option<T> {
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
