//! Whether an open stream may go on: its caller is let in, its policy is the newest or was a moment ago, its time is not over, the host goes on.

use std::sync::Arc;
use std::time::Duration;

use tensorgate_policy::{Denial, Reason};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::App;
use crate::generations::Generation;
use crate::request::Caller;

/// How long a stream goes on under a policy that is no longer the newest: a message that has come is answered, and a stream that was opened while the gate still
/// had that policy gets a few answers before its caller opens another.
const GRACE: Duration = Duration::from_secs(1);

/// Whether a stream may go on.
pub(super) struct GoesOn {
    pub(super) app: Arc<App>,
    pub(super) generation: Arc<Generation>,
    pub(super) caller: Caller,
    pub(super) changes: watch::Receiver<u64>,
    pub(super) draining: watch::Receiver<bool>,
    /// Until when it goes on under a policy that is no longer the newest.
    pub(super) superseded: Option<Instant>,
    /// When the client's patience ends.
    pub(super) deadline: Option<Instant>,
}

impl GoesOn {
    /// Why it may not, now.
    pub(super) fn now(&mut self) -> Option<Denial> {
        let now = Instant::now();
        if *self.draining.borrow_and_update() {
            return Some(Denial::new(Reason::Overloaded, "the host is ending"));
        }
        let Caller {
            client, credential, ..
        } = &self.caller;
        let (generations, credential) = (&self.app.generations, credential.as_deref());
        if let Err(cause) =
            generations.still_lets_in(&self.generation, client.as_deref(), credential)
        {
            return Some(Denial::new(Reason::Unauthenticated, cause));
        }
        let newest = generations.newest();
        if Arc::ptr_eq(&newest, &self.generation) {
            self.superseded = None;
        } else {
            let until = *self
                .superseded
                .get_or_insert_with(|| now.checked_add(GRACE).unwrap_or(now));
            if until <= now {
                let cause = format!("policy {} has taken over from the stream's", newest.name());
                return Some(Denial::new(Reason::Overloaded, cause));
            }
        }
        self.deadline.filter(|deadline| *deadline <= now).map(|_| {
            let cause = "the client's own deadline is over";
            Denial::new(Reason::BackendTimeout, cause)
        })
    }

    /// Waits until it may not.
    pub(super) async fn ends(&mut self) -> Denial {
        loop {
            // Before the look, so that what changes after it is seen.
            self.changes.mark_unchanged();
            self.draining.mark_unchanged();
            if let Some(denial) = self.now() {
                return denial;
            }
            let until = self.superseded.into_iter().chain(self.deadline).min();
            let timer = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.changes.changed() => {}
                _ = self.draining.changed() => {}
                () = timer => {}
            }
        }
    }
}
