//! Whether an open stream may continue: its caller is admitted and not blocked, its policy is the
//! newest or was a moment ago, its deadline has not passed, and the host is not shutting down.

use std::sync::Arc;
use std::time::Duration;

use tensorgate_judge::request::Caller;
use tensorgate_policy::denial::{AnswerLimit, OverloadCause};
use tensorgate_policy::{Denial, Reason};
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::App;
use crate::policy_store::policy_versions::PolicyVersion;

/// How long a stream continues under a superseded policy. A received message is answered, and a
/// stream that was opened under that policy gets a few responses before its caller opens another.
const GRACE: Duration = Duration::from_secs(1);

/// The conditions of an open stream.
pub(super) struct StreamConditions {
    pub(super) app: Arc<App>,
    pub(super) generation: Arc<PolicyVersion>,
    pub(super) caller: Caller,
    pub(super) changes: watch::Receiver<u64>,
    pub(super) blocks: watch::Receiver<u64>,
    pub(super) draining: watch::Receiver<bool>,
    /// Until when it continues under a superseded policy.
    pub(super) superseded: Option<Instant>,
    /// The client's deadline.
    pub(super) client_deadline: Option<Instant>,
    /// The deadline that follows from `stream_ms`.
    pub(super) ends: Instant,
}

impl StreamConditions {
    /// Why it may not continue now.
    pub(super) fn check(&mut self) -> Option<Denial> {
        let now = Instant::now();
        if *self.draining.borrow_and_update() {
            let denial = Denial::new(Reason::Overloaded, "the host is shutting down");
            return Some(denial.overloaded_by(OverloadCause::ShuttingDown));
        }
        let Caller {
            client, credential, ..
        } = &self.caller;
        let (generations, credential) = (&self.app.policy_versions, credential.as_deref());
        if let Err(cause) =
            generations.check_still_allowed(&self.generation, client.as_deref(), credential)
        {
            return Some(Denial::new(Reason::Unauthenticated, cause));
        }
        if let Some(denial) = self.app.blocks.check_stream(client.as_deref()) {
            return Some(denial);
        }
        let newest = generations.newest();
        if Arc::ptr_eq(&newest, &self.generation) {
            self.superseded = None;
        } else {
            let until = *self
                .superseded
                .get_or_insert_with(|| now.checked_add(GRACE).unwrap_or(now));
            if until <= now {
                let cause = format!("policy {} has replaced the stream's", newest.name());
                let denial = Denial::new(Reason::Overloaded, cause);
                return Some(denial.overloaded_by(OverloadCause::Policy));
            }
        }
        if self.ends <= now {
            let stream_ms = self.generation.policy().listen().limits().stream_ms;
            let cause = format!("the stream has lasted limits.stream_ms ({stream_ms} ms)");
            let denial = Denial::new(Reason::BackendTimeout, cause);
            return Some(denial.limited_by(AnswerLimit::Stream));
        }
        self.client_deadline
            .filter(|deadline| *deadline <= now)
            .map(|_| {
                let cause = "the client's own deadline passed";
                let denial = Denial::new(Reason::BackendTimeout, cause);
                denial.limited_by(AnswerLimit::ClientDeadline)
            })
    }

    /// The earlier of both deadlines.
    pub(super) fn deadline(&self) -> Instant {
        self.client_deadline
            .map_or(self.ends, |deadline| deadline.min(self.ends))
    }

    /// Waits until it may not continue.
    pub(super) async fn until_ended(&mut self) -> Denial {
        loop {
            // Marked before the check, so that later changes are seen.
            self.changes.mark_unchanged();
            self.blocks.mark_unchanged();
            self.draining.mark_unchanged();
            if let Some(denial) = self.check() {
                return denial;
            }
            let deadline = self.deadline();
            let until = self
                .superseded
                .map_or(deadline, |until| until.min(deadline));
            tokio::select! {
                _ = self.changes.changed() => {}
                _ = self.blocks.changed() => {}
                _ = self.draining.changed() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }
}
