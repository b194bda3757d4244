//! Circuit breaker of a backend.
//!
//! Outlier detection ejects endpoints one by one and never ejects the last one. When every endpoint
//! fails, requests would wait in vain and delay others. So after several failures in a row, at any
//! endpoint, the circuit opens and nothing is sent for a while. Then one request at a time probes
//! whether the backend is back. An endpoint that is known to be down is not counted here: nothing
//! is sent to it before its next successful probe.
//!
//! One client may contribute at most half of the failures that open the shared circuit. Otherwise a
//! client whose requests are too slow for a server could stop all others. Its further failures
//! count on a circuit of its own, which stops that client only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tensorgate_policy::policy::CircuitBreaker;
use tokio::time::Instant;

use crate::backends::BackendError;
use crate::turns::ClientKey;

/// The most clients that have a circuit of their own. The failures of further clients count on the
/// shared circuit only.
const MAX_CLIENTS: usize = 1_024;
/// The longest time for which a circuit stays open, unless the configured time is longer.
const MAX_OPEN: Duration = Duration::from_secs(60);

/// The circuit breaker of one backend.
#[derive(Debug)]
pub(super) struct Breaker {
    rule: CircuitBreaker,
    backend: Arc<str>,
    circuits: Mutex<Circuits>,
    /// The number of open circuits.
    open_circuits: Gauge,
    opened: Counter,
}

/// The shared circuit, and one circuit for each client.
#[derive(Debug)]
struct Circuits {
    shared: State,
    /// The share of each client in the consecutive failures that `shared` counts.
    failures_by_client: HashMap<ClientKey, u32>,
    /// The circuits of clients with failures since their last success.
    by_client: HashMap<ClientKey, State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// All requests are sent.
    Closed {
        /// Consecutive failures.
        failures: u32,
        /// The time of the last failure.
        last: Option<Instant>,
    },
    /// No request is sent before `until`. After it, one request at a time probes the backend.
    Open {
        until: Instant,
        /// How often the circuit opened in a row.
        openings: u32,
        /// Whether a probe is in flight.
        probing: bool,
    },
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server answered, whatever the answer was.
    Answered,
    /// The server did not answer in time.
    TimedOut,
    /// The connection failed.
    ConnectionFailed,
    /// The outcome is unknown.
    Unknown,
}

/// The permission to make one call, from the shared circuit and from the client's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BreakerPermit {
    client_key: ClientKey,
    shared: CallKind,
    client_circuit: CallKind,
}

/// The kind of call that a circuit permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallKind {
    /// A regular call through a closed circuit.
    Regular,
    /// The call that probes whether the backend is back.
    Probe,
}

impl State {
    const CLOSED: Self = Self::Closed {
        failures: 0,
        last: None,
    };

    /// How long the circuit still rejects calls, if it does.
    fn open_for(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::Open { until, .. } if now < *until => Some(until.saturating_duration_since(now)),
            Self::Open { .. } | Self::Closed { .. } => None,
        }
    }

    const fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// Consecutive failures while the circuit is closed.
    const fn failures(&self) -> u32 {
        match self {
            Self::Closed { failures, .. } => *failures,
            Self::Open { .. } => 0,
        }
    }

    /// Permits a call, or returns the time until one may be permitted.
    fn admit(&mut self, now: Instant) -> Result<CallKind, Duration> {
        match self {
            Self::Closed { .. } => Ok(CallKind::Regular),
            Self::Open { until, .. } if now < *until => Err(until.saturating_duration_since(now)),
            Self::Open { probing: trial, .. } if *trial => Err(Duration::ZERO),
            Self::Open { probing: trial, .. } => {
                *trial = true;
                Ok(CallKind::Probe)
            }
        }
    }

    /// Records the outcome of a call that started at `started`. Returns how long the circuit stays
    /// open if it opened.
    fn record(
        &mut self,
        rule: CircuitBreaker,
        (turn, started): (CallKind, Instant),
        outcome: Outcome,
        now: Instant,
    ) -> Option<Duration> {
        let opens = match (&mut *self, turn, outcome) {
            // A broken connection fails all of its calls. They count as one failure.
            (
                Self::Closed {
                    last: Some(last), ..
                },
                _,
                Outcome::ConnectionFailed,
            ) if started < *last => None,
            (Self::Closed { failures, last }, _, Outcome::TimedOut | Outcome::ConnectionFailed) => {
                *failures = failures.saturating_add(1);
                *last = Some(now);
                (*failures >= rule.consecutive_failures()).then_some(1)
            }
            (Self::Closed { failures, .. }, _, Outcome::Answered) => {
                *failures = 0;
                None
            }
            (
                Self::Open {
                    openings: times, ..
                },
                CallKind::Probe,
                Outcome::TimedOut | Outcome::ConnectionFailed,
            ) => Some(times.saturating_add(1)),
            (Self::Open { .. }, CallKind::Probe, Outcome::Answered) => {
                *self = Self::CLOSED;
                None
            }
            (Self::Open { probing: trial, .. }, CallKind::Probe, Outcome::Unknown) => {
                *trial = false;
                None
            }
            // Calls from before the circuit opened say nothing about the present.
            (Self::Open { .. }, CallKind::Regular, _)
            | (Self::Closed { .. }, _, Outcome::Unknown) => None,
        };
        let times = opens?;
        let first = Duration::from_millis(rule.open_ms());
        let doublings = times.saturating_sub(1).min(16);
        let long = first
            .saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX))
            .min(MAX_OPEN.max(first));
        *self = Self::Open {
            until: now.checked_add(long).unwrap_or(now),
            openings: times,
            probing: false,
        };
        Some(long)
    }
}

impl Circuits {
    fn new() -> Self {
        Self {
            shared: State::CLOSED,
            failures_by_client: HashMap::new(),
            by_client: HashMap::new(),
        }
    }

    fn admit(
        &mut self,
        client_key: ClientKey,
        now: Instant,
    ) -> Result<BreakerPermit, BackendError> {
        let mut own = self.by_client.get(&client_key).copied();
        let turn = own
            .as_mut()
            .map_or(Ok(CallKind::Regular), |own| own.admit(now));
        let turn = turn.map_err(|left| rejection(left, "for this client"))?;
        let all = self.shared.admit(now);
        let all = all.map_err(|left| rejection(left, "for all clients"))?;
        if let Some(own) = own {
            self.by_client.insert(client_key, own);
        }
        Ok(BreakerPermit {
            client_key,
            shared: all,
            client_circuit: turn,
        })
    }

    /// Records the outcome of a call. Returns how long the shared circuit and the client's own stay
    /// open if they opened.
    fn record(
        &mut self,
        rule: CircuitBreaker,
        (permit, started): (BreakerPermit, Instant),
        outcome: Outcome,
        now: Instant,
    ) -> (Option<Duration>, Option<Duration>) {
        let all = self.record_shared(rule, (permit, started), outcome, now);
        let own = self.record_client(rule, (permit, started), outcome, now);
        (all, own)
    }

    fn record_shared(
        &mut self,
        rule: CircuitBreaker,
        (permit, started): (BreakerPermit, Instant),
        outcome: Outcome,
        now: Instant,
    ) -> Option<Duration> {
        let failed = matches!(outcome, Outcome::TimedOut | Outcome::ConnectionFailed);
        let share = self
            .failures_by_client
            .get(&permit.client_key)
            .copied()
            .unwrap_or_default();
        let most = rule.consecutive_failures().div_ceil(2);
        if failed && permit.shared == CallKind::Regular && share >= most {
            return None;
        }
        let before = self.shared.failures();
        let opened = self
            .shared
            .record(rule, (permit.shared, started), outcome, now);
        match self.shared.failures() {
            0 => self.failures_by_client.clear(),
            failures if failures > before => {
                self.failures_by_client
                    .insert(permit.client_key, share.saturating_add(1));
            }
            _ => {}
        }
        opened
    }

    fn record_client(
        &mut self,
        rule: CircuitBreaker,
        (permit, started): (BreakerPermit, Instant),
        outcome: Outcome,
        now: Instant,
    ) -> Option<Duration> {
        let client_key = permit.client_key;
        if !self.by_client.contains_key(&client_key) && self.by_client.len() >= MAX_CLIENTS {
            self.by_client.retain(|_, state| state.is_open());
            if self.by_client.len() >= MAX_CLIENTS {
                return None;
            }
        }
        let state = self.by_client.entry(client_key).or_insert(State::CLOSED);
        let opened = state.record(rule, (permit.client_circuit, started), outcome, now);
        if !state.is_open() && state.failures() == 0 {
            self.by_client.remove(&client_key);
        }
        opened
    }

    fn open_count(&self) -> usize {
        let own = self.by_client.values().filter(|state| state.is_open());
        own.count()
            .saturating_add(usize::from(self.shared.is_open()))
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
            open_circuits: shown,
            opened,
        }
    }

    /// Checks whether a request of a client would be rejected now, so that it need not wait for a
    /// permit.
    pub(super) fn check(&self, client_key: ClientKey) -> Result<(), BackendError> {
        let now = Instant::now();
        let circuits = self.lock();
        let own = circuits.by_client.get(&client_key);
        if let Some(left) = own.and_then(|own| own.open_for(now)) {
            return Err(rejection(left, "for this client"));
        }
        let all = circuits.shared.open_for(now);
        all.map_or(Ok(()), |left| Err(rejection(left, "for all clients")))
    }

    /// Permits a call of a client. [`Self::record`] takes the permission back.
    pub(super) fn admit(&self, client_key: ClientKey) -> Result<BreakerPermit, BackendError> {
        self.lock().admit(client_key, Instant::now())
    }

    /// Records the outcome of a call that started at `started`.
    pub(super) fn record(&self, permit: BreakerPermit, outcome: Outcome, started: Instant) {
        let mut circuits = self.lock();
        let was_open = circuits.shared.is_open();
        let (all, own) = circuits.record(self.rule, (permit, started), outcome, Instant::now());
        let is_open = circuits.shared.is_open();
        self.open_circuits
            .set(i64::try_from(circuits.open_count()).unwrap_or(i64::MAX));
        drop(circuits);
        let openings = u64::from(all.is_some()).saturating_add(own.is_some().into());
        self.opened.inc_by(openings);
        if let Some(long) = all {
            tracing::warn!(
                backend = &*self.backend,
                seconds = long.as_secs(),
                "circuit opened for all clients: consecutive failures of a backend"
            );
        } else if was_open && !is_open {
            tracing::info!(
                backend = &*self.backend,
                "circuit closed: a backend answers again"
            );
        }
        if let Some(long) = own {
            tracing::warn!(
                backend = &*self.backend,
                seconds = long.as_secs(),
                "circuit opened for one client: consecutive failures of a backend"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, Circuits> {
        // No code panics while it holds this lock.
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rejection(left: Duration, of: &str) -> BackendError {
    BackendError::Unavailable(format!(
        "its circuit is open {of} after consecutive failures; the next probe is in {} ms",
        left.as_millis()
    ))
}

#[cfg(test)]
mod tests;
