//! What was to be brought is told of when it is over, however it ends.

use std::time::Duration;

use tokio::time::Instant;

use super::exchange::Refusal;
use crate::metrics::{AskCounts, micros};
use crate::sandbox::{Behalf, Missing, Reached};

/// One thing that is to be brought.
pub(super) struct Telling<'t> {
    reached: Reached,
    started: Instant,
    ends: Instant,
    behalf: &'t Behalf,
    entry: Option<usize>,
    counts: &'t AskCounts,
    /// Nothing while it goes on.
    ended: Option<Result<(), Missing>>,
}

impl<'t> Telling<'t> {
    /// It begins now, and may take so long. Whoever leaves before it ends leaves an entry that says so.
    pub(super) fn new(
        reached: Reached,
        behalf: &'t Behalf,
        counts: &'t AskCounts,
        timeout: Duration,
        latest: Option<Instant>,
    ) -> Self {
        let started = Instant::now();
        let own = started.checked_add(timeout);
        let reached = Reached {
            outcome: "abandoned".to_owned(),
            ..reached
        };
        Self {
            entry: behalf.ledger.tell(reached.clone()),
            reached,
            started,
            ends: own.into_iter().chain(latest).min().unwrap_or(started),
            behalf,
            counts,
            ended: None,
        }
    }

    /// When it must be there.
    pub(super) const fn ends(&self) -> Instant {
        self.ends
    }

    /// What is told.
    pub(super) const fn reached(&mut self) -> &mut Reached {
        &mut self.reached
    }

    /// How it ended, as the guest is told.
    pub(super) fn ends_with<T>(mut self, outcome: Result<T, Refusal>) -> Result<T, Missing> {
        let refusal = match outcome {
            Ok(brought) => {
                "ok".clone_into(&mut self.reached.outcome);
                self.ended = Some(Ok(()));
                return Ok(brought);
            }
            Err(refusal) => refusal,
        };
        self.ended = Some(Err(refusal.missing));
        refusal.missing.name().clone_into(&mut self.reached.outcome);
        let Reached {
            handler,
            lookup,
            host,
            outcome,
            ..
        } = &self.reached;
        tracing::warn!(
            request_id = &*self.behalf.request_id,
            handler,
            lookup,
            host,
            outcome,
            cause = refusal.cause,
            "what a handler asked for was not brought"
        );
        Err(refusal.missing)
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        let mut reached = std::mem::take(&mut self.reached);
        let took = self.started.elapsed();
        self.counts.count(self.ended, took.as_secs_f64());
        reached.took_us = micros(took);
        self.behalf.ledger.amend(self.entry, reached);
    }
}
