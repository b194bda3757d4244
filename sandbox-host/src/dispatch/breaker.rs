//! Whether a backend is asked at all. Endpoints that fail are left alone one by one, and never the last; where every one of them fails, a request
//! would wait for nothing, and keep others waiting. So after several failures in a row, whichever endpoints they were of, nothing is sent for a
//! while; then one request at a time finds out whether the backend is back. A server that is seen to be gone is no matter of this: nothing is sent to
//! it before it was looked at again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tensorgate_policy::policy::CircuitBreaker;
use tokio::time::Instant;

use crate::backends::BackendError;

/// The longest time for which it stays open, unless the first is longer already.
const MAX_OPEN: Duration = Duration::from_secs(60);

/// One backend's.
#[derive(Debug)]
pub(super) struct Breaker {
    rule: CircuitBreaker,
    backend: Arc<str>,
    state: Mutex<State>,
    shown: Gauge,
    opened: Counter,
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

/// Leave to make one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
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

    /// Whether a call may be made; the time that is left until one may if not.
    fn admit(&mut self, now: Instant) -> Result<Leave, Duration> {
        match self {
            Self::Closed { .. } => Ok(Leave::Plain),
            Self::Open { until, .. } if now < *until => Err(until.saturating_duration_since(now)),
            Self::Open { trial, .. } if *trial => Err(Duration::ZERO),
            Self::Open { trial, .. } => {
                *trial = true;
                Ok(Leave::Trial)
            }
        }
    }

    /// A call that began at `began` is over. Says for how long nothing is sent, if it opened.
    fn over(
        &mut self,
        rule: CircuitBreaker,
        (leave, began): (Leave, Instant),
        outcome: Outcome,
        now: Instant,
    ) -> Option<Duration> {
        let opens = match (&mut *self, leave, outcome) {
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
            (Self::Open { times, .. }, Leave::Trial, Outcome::Late | Outcome::Broken) => {
                Some(times.saturating_add(1))
            }
            (Self::Open { .. }, Leave::Trial, Outcome::Answered) => {
                *self = Self::START;
                None
            }
            (Self::Open { trial, .. }, Leave::Trial, Outcome::Void) => {
                *trial = false;
                None
            }
            // What was sent before it opened says nothing about now.
            (Self::Open { .. }, Leave::Plain, _) | (Self::Closed { .. }, _, Outcome::Void) => None,
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
            state: Mutex::new(State::START),
            shown,
            opened,
        }
    }

    /// Whether a request would be refused now: it need not wait for a place to learn that.
    pub(super) fn pass(&self) -> Result<(), BackendError> {
        let now = Instant::now();
        match *self.lock() {
            State::Open { until, .. } if now < until => {
                Err(refusal(until.saturating_duration_since(now)))
            }
            State::Open { .. } | State::Closed { .. } => Ok(()),
        }
    }

    /// Leave to make a call, which [`Self::over`] gives back.
    pub(super) fn admit(&self) -> Result<Leave, BackendError> {
        self.lock().admit(Instant::now()).map_err(refusal)
    }

    /// A call that began at `began` is over.
    pub(super) fn over(&self, leave: Leave, outcome: Outcome, began: Instant) {
        let mut state = self.lock();
        let was_open = matches!(*state, State::Open { .. });
        let opened = state.over(self.rule, (leave, began), outcome, Instant::now());
        let is_open = matches!(*state, State::Open { .. });
        self.shown.set(i64::from(is_open));
        drop(state);
        if let Some(long) = opened {
            self.opened.inc();
            tracing::warn!(
                backend = &*self.backend,
                seconds = long.as_secs(),
                "a backend failed in a row, whichever endpoint was asked: nothing is sent to it for a while"
            );
        } else if was_open && !is_open {
            tracing::info!(backend = &*self.backend, "a backend answers again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal(left: Duration) -> BackendError {
    BackendError::Unavailable(format!(
        "its circuit is open: it failed in a row, and is asked again in {} ms",
        left.as_millis()
    ))
}

#[cfg(test)]
mod tests {
    use super::super::tests::policy;
    use super::*;
    use serde_json::json;

    fn breaker(failures: u32, open_s: u32) -> Breaker {
        let rule = json!({"consecutive_failures": failures, "open_s": open_s});
        let policy = policy(&json!({"circuit_breaker": rule}), &json!({}));
        let backend = policy.backends().get("b");
        let rule = backend
            .map(|backend| backend.breaker())
            .unwrap_or_else(|| unreachable!("the policy has it"));
        Breaker::new(rule, "b".into(), Gauge::default(), Counter::default())
    }

    /// Whether a call could be made that came to this at once.
    fn call(breaker: &Breaker, outcome: Outcome) -> bool {
        let leave = breaker.admit().ok();
        if let Some(leave) = leave {
            breaker.over(leave, outcome, Instant::now());
        }
        leave.is_some()
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it_and_an_answer_between_does_not() {
        let breaker = breaker(3, 5);
        for outcome in [
            Outcome::Late,
            Outcome::Broken,
            Outcome::Answered,
            Outcome::Late,
            // Says nothing, and ends no row.
            Outcome::Void,
            Outcome::Broken,
        ] {
            assert!(call(&breaker, outcome));
        }
        assert_eq!(breaker.pass(), Ok(()));
        assert!(call(&breaker, Outcome::Late));
        assert_eq!(breaker.pass(), Err(refusal(Duration::from_secs(5))));
        assert!(!call(&breaker, Outcome::Answered));
        assert_eq!((breaker.shown.get(), breaker.opened.get()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_of_one_connection_that_breaks_are_one_failure() {
        let breaker = breaker(2, 5);
        let began = Instant::now();
        pass(1).await;
        let crowd = |outcome| (0..50).for_each(|_| breaker.over(Leave::Plain, outcome, began));
        crowd(Outcome::Broken);
        assert_eq!(breaker.pass(), Ok(()));
        // Each that was waited for in vain is one.
        crowd(Outcome::Late);
        assert!(breaker.pass().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_finds_out_and_longer_each_time() {
        let breaker = breaker(1, 5);
        let early = breaker.admit();
        assert!(call(&breaker, Outcome::Late));
        for seconds in [5, 10, 20, 40, 60, 60] {
            pass(seconds - 1).await;
            assert!(!call(&breaker, Outcome::Answered), "before {seconds} s");
            pass(1).await;
            let trial = breaker.admit();
            assert_eq!(trial, Ok(Leave::Trial), "after {seconds} s");
            assert!(breaker.admit().is_err(), "one at a time");
            breaker.over(Leave::Trial, Outcome::Broken, Instant::now());
        }
        assert_eq!(early, Ok(Leave::Plain));
        breaker.over(Leave::Plain, Outcome::Answered, Instant::now());
        assert!(breaker.pass().is_err(), "an old answer closes nothing");
        pass(60).await;
        assert!(call(&breaker, Outcome::Void));
        assert!(call(&breaker, Outcome::Answered), "the next one finds out");
        assert!(call(&breaker, Outcome::Answered) && call(&breaker, Outcome::Answered));
        assert_eq!(breaker.shown.get(), 0);
    }
}
