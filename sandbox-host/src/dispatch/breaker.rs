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
use tensorgate_base::circuit::{self, OpenCircuit, Permit, Rejection, Scope};
use tensorgate_base::client_key::ClientKey;
use tensorgate_policy::policy::CircuitBreaker;
use tokio::time::Instant;

use crate::backends::BackendError;

/// The most clients that have a circuit of their own. The failures of further clients count on the
/// shared circuit only.
const MAX_CLIENTS: usize = 1_024;

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
#[derive(Debug, Default)]
struct Circuits {
    shared: State,
    /// The share of each client in the consecutive failures that `shared` counts.
    failures_by_client: HashMap<ClientKey, u32>,
    /// The circuits of clients with failures since their last success.
    by_client: HashMap<ClientKey, State>,
}

/// The consecutive failures of one circuit, and whether they opened it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// Consecutive failures. Zero while the circuit is open.
    failures: u32,
    /// The time of the last failure that was counted.
    last: Option<Instant>,
    open: Option<OpenCircuit>,
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BackendOutcome {
    /// The server answered, whatever the answer was.
    Answered,
    /// The server did not answer in time.
    TimedOut,
    /// The connection failed.
    ConnectionFailed,
    /// The outcome is unknown.
    Unknown,
}

/// The permission to make one call of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BreakerPermit {
    client_key: ClientKey,
    circuits: Permit,
}

impl State {
    /// How long the circuit still rejects calls, if it does. A probe in flight does not reject a
    /// request that has yet to wait for its turn.
    fn open_for(&self, now: Instant) -> Option<Duration> {
        let left = self.open.and_then(|open| open.remaining(now));
        left.filter(|left| !left.is_zero())
    }

    /// Records the outcome of a call that started at `started`, and whether the call was a probe.
    /// Returns how long the circuit stays open if it opened.
    fn record(
        &mut self,
        rule: CircuitBreaker,
        (is_probe, started): (bool, Instant),
        outcome: BackendOutcome,
        now: Instant,
    ) -> Option<Duration> {
        let open = match (&mut self.open, outcome) {
            (Some(open), BackendOutcome::TimedOut | BackendOutcome::ConnectionFailed)
                if is_probe =>
            {
                open.reopen(now)
            }
            (Some(_), BackendOutcome::Answered) if is_probe => {
                *self = Self::default();
                return None;
            }
            (Some(open), BackendOutcome::Unknown) if is_probe => {
                open.end_probe();
                return None;
            }
            // Calls from before the circuit opened say nothing about the present.
            (Some(_), _) | (None, BackendOutcome::Unknown) => return None,
            // A broken connection fails all of its calls. They count as one failure.
            (None, BackendOutcome::ConnectionFailed)
                if self.last.is_some_and(|last| started < last) =>
            {
                return None;
            }
            (None, BackendOutcome::TimedOut | BackendOutcome::ConnectionFailed) => {
                self.failures = self.failures.saturating_add(1);
                self.last = Some(now);
                if self.failures < rule.consecutive_failures() {
                    return None;
                }
                OpenCircuit::new(now, Duration::from_millis(rule.open_ms()))
            }
            (None, BackendOutcome::Answered) => {
                self.failures = 0;
                return None;
            }
        };
        *self = Self {
            open: Some(open),
            ..Self::default()
        };
        Some(open.open_time())
    }
}

impl Circuits {
    fn admit(
        &mut self,
        client_key: ClientKey,
        now: Instant,
    ) -> Result<BreakerPermit, BackendError> {
        let client = self.by_client.get_mut(&client_key);
        let client = client.and_then(|state| state.open.as_mut());
        let shared = self.shared.open.as_mut();
        let circuits = circuit::admit(client, shared, Duration::ZERO, now).map_err(rejection)?;
        Ok(BreakerPermit {
            client_key,
            circuits,
        })
    }

    /// Records the outcome of a call. Returns how long the shared circuit and the client's own stay
    /// open if they opened.
    fn record(
        &mut self,
        rule: CircuitBreaker,
        (permit, started): (BreakerPermit, Instant),
        outcome: BackendOutcome,
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
        outcome: BackendOutcome,
        now: Instant,
    ) -> Option<Duration> {
        let failed = matches!(
            outcome,
            BackendOutcome::TimedOut | BackendOutcome::ConnectionFailed
        );
        let share = self
            .failures_by_client
            .get(&permit.client_key)
            .copied()
            .unwrap_or_default();
        let most = rule.consecutive_failures().div_ceil(2);
        if failed && !permit.circuits.probes_shared && share >= most {
            return None;
        }
        let before = self.shared.failures;
        let opened =
            self.shared
                .record(rule, (permit.circuits.probes_shared, started), outcome, now);
        match self.shared.failures {
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
        outcome: BackendOutcome,
        now: Instant,
    ) -> Option<Duration> {
        let client_key = permit.client_key;
        if !self.by_client.contains_key(&client_key) && self.by_client.len() >= MAX_CLIENTS {
            self.by_client.retain(|_, state| state.open.is_some());
            if self.by_client.len() >= MAX_CLIENTS {
                return None;
            }
        }
        let state = self.by_client.entry(client_key).or_default();
        let opened = state.record(rule, (permit.circuits.probes_client, started), outcome, now);
        if state.open.is_none() && state.failures == 0 {
            self.by_client.remove(&client_key);
        }
        opened
    }

    fn open_count(&self) -> usize {
        let own = self.by_client.values().filter(|state| state.open.is_some());
        own.count()
            .saturating_add(usize::from(self.shared.open.is_some()))
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
            circuits: Mutex::default(),
            open_circuits: shown,
            opened,
        }
    }

    /// Checks whether a request of a client would be rejected now, so that it need not wait for a
    /// permit.
    pub(super) fn check(&self, client_key: ClientKey) -> Result<(), BackendError> {
        let now = Instant::now();
        let circuits = self.lock();
        let client = circuits.by_client.get(&client_key);
        let client = client.and_then(|state| state.open_for(now));
        let shared = circuits.shared.open_for(now);
        let (scope, retry_after) = match (client, shared) {
            (Some(left), _) => (Scope::Client, left),
            (None, Some(left)) => (Scope::All, left),
            (None, None) => return Ok(()),
        };
        Err(rejection(Rejection { scope, retry_after }))
    }

    /// The clients whose circuits are open, and `None` if the shared one is.
    pub(super) fn open(&self) -> Vec<Option<ClientKey>> {
        let now = Instant::now();
        let circuits = self.lock();
        let is_open = |state: &State| state.open.is_some_and(|open| !open.is_unused(now));
        let own = circuits
            .by_client
            .iter()
            .filter(|&(_, state)| is_open(state));
        let own = own.map(|(client_key, _)| Some(*client_key));
        let shared = is_open(&circuits.shared).then_some(None);
        shared.into_iter().chain(own).collect()
    }

    /// Permits a call of a client. [`Self::record`] takes the permission back.
    pub(super) fn admit(&self, client_key: ClientKey) -> Result<BreakerPermit, BackendError> {
        self.lock().admit(client_key, Instant::now())
    }

    /// Records the outcome of a call that started at `started`.
    pub(super) fn record(&self, permit: BreakerPermit, outcome: BackendOutcome, started: Instant) {
        let mut circuits = self.lock();
        let was_open = circuits.shared.open.is_some();
        let (all, own) = circuits.record(self.rule, (permit, started), outcome, Instant::now());
        let is_open = circuits.shared.open.is_some();
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

fn rejection(Rejection { scope, retry_after }: Rejection) -> BackendError {
    let of = match scope {
        Scope::Client => "for this client",
        Scope::All => "for all clients",
    };
    BackendError::Unavailable(format!(
        "its circuit is open {of} after consecutive failures; the next probe is in {} ms",
        retry_after.as_millis()
    ))
}

#[cfg(test)]
mod tests;
