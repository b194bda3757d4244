//! One call to a server, and what it says of that server: an answer, a failure, a refusal, nothing. A call that is given up says something too,
//! where its server had most of the time that the policy gives.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;

use super::Pool;
use super::breaker::{Breaker, Leave, Outcome};
use super::places::Places;
use super::standing::{Ejection, Fault};
use crate::backends::BackendError;
use crate::backends::oip::Endpoint;

/// Whose a call is: all of one client's have one mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Whose(u64);

impl Whose {
    /// A client's, by its name in the policy; whoever is asked of by nobody in particular has one too.
    pub fn of(client: Option<&str>) -> Self {
        let mut hasher = DefaultHasher::new();
        client.hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// When a request's time is over, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Latest {
    /// Who waits.
    pub whose: Whose,
    /// The moment, whether the listener or its client says so.
    pub at: Instant,
    /// What the listener gives any request.
    pub whole: Duration,
    /// Whether its client gives it less.
    pub by_client: bool,
}

impl Latest {
    /// Of a request that was read at `read`: by what the listener gives any, or by when its client leaves.
    pub fn of(whose: Whose, read: Instant, whole: Duration, theirs: Option<Instant>) -> Self {
        let ours = read.checked_add(whole).unwrap_or(read);
        Self {
            whose,
            at: theirs.map_or(ours, |theirs| ours.min(theirs)),
            whole,
            by_client: theirs.is_some_and(|theirs| theirs < ours),
        }
    }
}

/// Whom a call's fate is told.
#[derive(Clone, Debug)]
pub(super) struct Witness {
    pub(super) pool: Arc<Pool>,
    pub(super) breaker: Arc<Breaker>,
    pub(super) places: Arc<Places>,
    pub(super) backend: Arc<str>,
    pub(super) ejected: Counter,
}

/// A call whose fate is not known yet.
#[derive(Debug)]
pub(super) struct Underway {
    witness: Witness,
    leave: Leave,
    whose: Whose,
    place: usize,
    endpoint: Arc<Endpoint>,
    since: Instant,
    /// What a server may take at most.
    whole: Duration,
    open: AtomicBool,
}

impl Underway {
    /// A call begins, if the backend is asked at all.
    pub(super) fn new(
        witness: Witness,
        place: usize,
        endpoint: Arc<Endpoint>,
        (whose, whole): (Whose, Duration),
    ) -> Result<Self, BackendError> {
        let leave = witness.breaker.admit(whose)?;
        Ok(Self {
            witness,
            leave,
            whose,
            place,
            endpoint,
            since: Instant::now(),
            whole,
            open: AtomicBool::new(true),
        })
    }

    /// Whether this is the first that is told of it.
    fn close(&self, outcome: Outcome) -> bool {
        let first = self.open.swap(false, Ordering::AcqRel);
        if first {
            self.witness.breaker.over(self.leave, outcome, self.since);
        }
        first
    }

    /// It says nothing of the server.
    pub(super) fn void(&self) {
        self.close(Outcome::Void);
    }

    /// The server answered.
    pub(super) fn answered(&self) {
        if self.close(Outcome::Answered) {
            self.witness.pool.succeeded(self.place, self.whose);
            self.witness.places.answered();
        }
    }

    /// The server answers, and does not want it.
    pub(super) fn refused(&self, error: &BackendError) {
        if self.close(Outcome::Answered) {
            self.witness.pool.refused(self.place, self.since);
            if matches!(error, BackendError::Busy(_)) {
                self.witness.places.overloaded();
            }
        }
    }

    /// The server failed by itself at this request.
    pub(super) fn failed(&self, error: &BackendError) {
        self.fails(error, Fault::Request(self.whose));
    }

    /// The connection to the server broke, or there was none: nobody's request is to blame.
    pub(super) fn lost(&self, error: &BackendError) {
        self.fails(error, Fault::Connection);
    }

    fn fails(&self, error: &BackendError, fault: Fault) {
        let outcome = match error {
            BackendError::Timeout(_) => Outcome::Late,
            _ => Outcome::Broken,
        };
        if !self.close(outcome) {
            return;
        }
        if outcome == Outcome::Late {
            self.witness.places.overloaded();
        }
        let whose = (self.whose, fault);
        let (time, of) = match self.witness.pool.failed(self.place, whose, self.since) {
            None => return,
            Some(Ejection::All(time)) => (time, "everybody"),
            Some(Ejection::One(time)) => (time, "one client"),
        };
        self.witness.ejected.inc();
        tracing::warn!(
            backend = &*self.witness.backend,
            endpoint = self.endpoint.uri(),
            seconds = time.as_secs(),
            of,
            %error,
            "an endpoint failed in a row and is left alone"
        );
    }

    /// Whether the server is to blame for an answer that was not there at its deadline.
    pub(super) fn is_late(&self, deadline: Instant, latest: Latest) -> bool {
        let had = deadline.saturating_duration_since(self.since);
        let by_policy = deadline < latest.at || !latest.by_client;
        is_late(had, self.whole, by_policy)
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        // The proxy counts the same time as this host, and may be the first to be done.
        if self.open.load(Ordering::Acquire) && is_late(self.since.elapsed(), self.whole, false) {
            self.failed(&BackendError::Timeout(
                "no answer until nobody waited any more".to_owned(),
            ));
        }
        self.void();
    }
}

/// Whether a server is late that had so much of the whole time. Where the policy ended it, half of it is enough: our own queue or another server
/// took the rest. Where a client did, three quarters: one that brings a short deadline, or leaves, could take servers out otherwise.
fn is_late(had: Duration, whole: Duration, by_policy: bool) -> bool {
    let (had, whole) = if by_policy {
        (had.saturating_mul(2), whole)
    } else {
        (had.saturating_mul(4), whole.saturating_mul(3))
    };
    had >= whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_late_that_had_most_of_the_policys_time() {
        let ms = Duration::from_millis;
        for (had, by_policy, expected) in [
            (100, true, true),
            (50, true, true),
            (49, true, false),
            (75, false, true),
            (74, false, false),
            (0, false, false),
        ] {
            assert_eq!(
                is_late(ms(had), ms(100), by_policy),
                expected,
                "{had} of 100, by the policy: {by_policy}"
            );
        }
    }
}
