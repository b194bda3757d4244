//! Whether a backend is asked at all. Endpoints that fail are left alone one by one, and never the last; where every one of them fails, a request
//! would wait for nothing, and keep others waiting. So after several failures in a row, whichever endpoints they were of, nothing is sent for a
//! while; then one request at a time finds out whether the backend is back. A server that is seen to be gone is no matter of this: nothing is sent to
//! it before it was looked at again.
//!
//! One client has at most half of the failures that stop a backend for everybody, or whoever sends what takes a server too long would stop it for
//! all. What is left of a client's failures is its own: as many in a row stop that client alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tensorgate_policy::policy::CircuitBreaker;
use tokio::time::Instant;

use super::call::Whose;
use crate::backends::BackendError;

/// Clients whose failures are known at once. Policies name fewer, as a rule; of those beyond, everybody's circuit knows.
const MAX_CLIENTS: usize = 1_024;
/// The longest time for which it stays open, unless the first is longer already.
const MAX_OPEN: Duration = Duration::from_secs(60);

/// One backend's.
#[derive(Debug)]
pub(super) struct Breaker {
    rule: CircuitBreaker,
    backend: Arc<str>,
    circuits: Mutex<Circuits>,
    /// How many circuits are open.
    shown: Gauge,
    opened: Counter,
}

/// Everybody's circuit, and each client's own.
#[derive(Debug)]
struct Circuits {
    all: State,
    /// What each client has of the failures in a row that `all` counts.
    shares: HashMap<Whose, u32>,
    /// Of clients that failed since they were last answered.
    own: HashMap<Whose, State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Everything is sent.
    Closed {
        /// Failures in a row.
        failures: u32,
        /// The last one.
        last: Option<Instant>,
    },
    /// Nothing is sent before `until`, and one request at a time from then on.
    Open {
        until: Instant,
        /// Times in a row that it opened.
        times: u32,
        /// Whether that request is under way.
        trial: bool,
    },
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server said something, whatever it was.
    Answered,
    /// The server did not answer in time.
    Late,
    /// The connection broke.
    Broken,
    /// Nobody knows.
    Void,
}

/// Leave to make one call, of everybody's circuit and of the client's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leave {
    whose: Whose,
    all: Turn,
    own: Turn,
}

/// One circuit's part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// As everyone has it.
    Plain,
    /// Of the one that finds out.
    Trial,
}

impl State {
    const START: Self = Self::Closed {
        failures: 0,
        last: None,
    };

    /// Whether it refuses calls at this time, and for how long still.
    fn closed_for(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::Open { until, .. } if now < *until => Some(until.saturating_duration_since(now)),
            Self::Open { .. } | Self::Closed { .. } => None,
        }
    }

    const fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// Failures in a row, while everything is sent.
    const fn failures(&self) -> u32 {
        match self {
            Self::Closed { failures, .. } => *failures,
            Self::Open { .. } => 0,
        }
    }

    /// Whether a call may be made; the time that is left until one may if not.
    fn admit(&mut self, now: Instant) -> Result<Turn, Duration> {
        match self {
            Self::Closed { .. } => Ok(Turn::Plain),
            Self::Open { until, .. } if now < *until => Err(until.saturating_duration_since(now)),
            Self::Open { trial, .. } if *trial => Err(Duration::ZERO),
            Self::Open { trial, .. } => {
                *trial = true;
                Ok(Turn::Trial)
            }
        }
    }

    /// A call that began at `began` is over. Says for how long nothing is sent, if it opened.
    fn over(
        &mut self,
        rule: CircuitBreaker,
        (turn, began): (Turn, Instant),
        outcome: Outcome,
        now: Instant,
    ) -> Option<Duration> {
        let opens = match (&mut *self, turn, outcome) {
            // One connection that breaks takes all of its calls along: those are one failure.
            (
                Self::Closed {
                    last: Some(last), ..
                },
                _,
                Outcome::Broken,
            ) if began < *last => None,
            (Self::Closed { failures, last }, _, Outcome::Late | Outcome::Broken) => {
                *failures = failures.saturating_add(1);
                *last = Some(now);
                (*failures >= rule.consecutive_failures()).then_some(1)
            }
            (Self::Closed { failures, .. }, _, Outcome::Answered) => {
                *failures = 0;
                None
            }
            (Self::Open { times, .. }, Turn::Trial, Outcome::Late | Outcome::Broken) => {
                Some(times.saturating_add(1))
            }
            (Self::Open { .. }, Turn::Trial, Outcome::Answered) => {
                *self = Self::START;
                None
            }
            (Self::Open { trial, .. }, Turn::Trial, Outcome::Void) => {
                *trial = false;
                None
            }
            // What was sent before it opened says nothing about now.
            (Self::Open { .. }, Turn::Plain, _) | (Self::Closed { .. }, _, Outcome::Void) => None,
        };
        let times = opens?;
        let first = Duration::from_millis(rule.open_ms());
        let doublings = times.saturating_sub(1).min(16);
        let long = first
            .saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX))
            .min(MAX_OPEN.max(first));
        *self = Self::Open {
            until: now.checked_add(long).unwrap_or(now),
            times,
            trial: false,
        };
        Some(long)
    }
}

impl Circuits {
    fn new() -> Self {
        Self {
            all: State::START,
            shares: HashMap::new(),
            own: HashMap::new(),
        }
    }

    fn admit(&mut self, whose: Whose, now: Instant) -> Result<Leave, BackendError> {
        let mut own = self.own.get(&whose).copied();
        let turn = own.as_mut().map_or(Ok(Turn::Plain), |own| own.admit(now));
        let turn = turn.map_err(|left| refusal(left, "for this client"))?;
        let all = self.all.admit(now);
        let all = all.map_err(|left| refusal(left, "for everybody"))?;
        if let Some(own) = own {
            self.own.insert(whose, own);
        }
        Ok(Leave {
            whose,
            all,
            own: turn,
        })
    }

    /// A call is over. Says for how long nothing is sent, if everybody's circuit opened, and if the client's own did.
    fn over(
        &mut self,
        rule: CircuitBreaker,
        (leave, began): (Leave, Instant),
        outcome: Outcome,
        now: Instant,
    ) -> (Option<Duration>, Option<Duration>) {
        let all = self.over_for_all(rule, (leave, began), outcome, now);
        let own = self.over_for_one(rule, (leave, began), outcome, now);
        (all, own)
    }

    fn over_for_all(
        &mut self,
        rule: CircuitBreaker,
        (leave, began): (Leave, Instant),
        outcome: Outcome,
        now: Instant,
    ) -> Option<Duration> {
        let failed = matches!(outcome, Outcome::Late | Outcome::Broken);
        let share = self.shares.get(&leave.whose).copied().unwrap_or_default();
        let most = rule.consecutive_failures().div_ceil(2);
        if failed && leave.all == Turn::Plain && share >= most {
            return None;
        }
        let before = self.all.failures();
        let opened = self.all.over(rule, (leave.all, began), outcome, now);
        match self.all.failures() {
            0 => self.shares.clear(),
            failures if failures > before => {
                self.shares.insert(leave.whose, share.saturating_add(1));
            }
            _ => {}
        }
        opened
    }

    fn over_for_one(
        &mut self,
        rule: CircuitBreaker,
        (leave, began): (Leave, Instant),
        outcome: Outcome,
        now: Instant,
    ) -> Option<Duration> {
        let whose = leave.whose;
        if !self.own.contains_key(&whose) && self.own.len() >= MAX_CLIENTS {
            self.own.retain(|_, state| state.is_open());
            if self.own.len() >= MAX_CLIENTS {
                return None;
            }
        }
        let state = self.own.entry(whose).or_insert(State::START);
        let opened = state.over(rule, (leave.own, began), outcome, now);
        if !state.is_open() && state.failures() == 0 {
            self.own.remove(&whose);
        }
        opened
    }

    fn open(&self) -> usize {
        let own = self.own.values().filter(|state| state.is_open());
        own.count().saturating_add(usize::from(self.all.is_open()))
    }
}

impl Breaker {
    pub(super) fn new(
        rule: CircuitBreaker,
        backend: Arc<str>,
        shown: Gauge,
        opened: Counter,
    ) -> Self {
        Self {
            rule,
            backend,
            circuits: Mutex::new(Circuits::new()),
            shown,
            opened,
        }
    }

    /// Whether a client's request would be refused now: it need not wait for a place to learn that.
    pub(super) fn pass(&self, whose: Whose) -> Result<(), BackendError> {
        let now = Instant::now();
        let circuits = self.lock();
        let own = circuits.own.get(&whose);
        if let Some(left) = own.and_then(|own| own.closed_for(now)) {
            return Err(refusal(left, "for this client"));
        }
        let all = circuits.all.closed_for(now);
        all.map_or(Ok(()), |left| Err(refusal(left, "for everybody")))
    }

    /// Leave for a client to make a call, which [`Self::over`] gives back.
    pub(super) fn admit(&self, whose: Whose) -> Result<Leave, BackendError> {
        self.lock().admit(whose, Instant::now())
    }

    /// A call that began at `began` is over.
    pub(super) fn over(&self, leave: Leave, outcome: Outcome, began: Instant) {
        let mut circuits = self.lock();
        let was_open = circuits.all.is_open();
        let (all, own) = circuits.over(self.rule, (leave, began), outcome, Instant::now());
        let is_open = circuits.all.is_open();
        self.shown
            .set(i64::try_from(circuits.open()).unwrap_or(i64::MAX));
        drop(circuits);
        let openings = u64::from(all.is_some()).saturating_add(own.is_some().into());
        self.opened.inc_by(openings);
        if let Some(long) = all {
            tracing::warn!(
                backend = &*self.backend,
                seconds = long.as_secs(),
                "a backend failed in a row, whichever endpoint was asked: nothing is sent to it for a while"
            );
        } else if was_open && !is_open {
            tracing::info!(backend = &*self.backend, "a backend answers again");
        }
        if let Some(long) = own {
            tracing::warn!(
                backend = &*self.backend,
                seconds = long.as_secs(),
                "a backend failed in a row for one client: nothing of that client is sent to it for a while"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Circuits> {
        // Nothing panics while it holds them.
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal(left: Duration, of: &str) -> BackendError {
    BackendError::Unavailable(format!(
        "its circuit is open {of}: it failed in a row, and is asked again in {} ms",
        left.as_millis()
    ))
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
