//! Circuit breaker for the rate-limit service, shared by all workers of a proxy, or by all requests
//! of a host.
//!
//! After several failures in a row the circuit opens: two requests per second probe the service,
//! and the others do not wait for its timeout. One successful answer closes the circuit. The module
//! is pure; the caller stores the state.

/// Consecutive failures that open the circuit.
pub const FAILURES_TO_OPEN: u64 = 5;
/// Interval between two probes, in ns. With the host's longest pause between two reconnects, limits
/// are shared again within a second after Redis is back.
pub const PROBE_INTERVAL_NS: u64 = 500_000_000;
/// Minimum interval between two log lines about failures, in ns.
pub const LOG_INTERVAL_NS: u64 = 10_000_000_000;
/// Size of the stored state, in bytes.
pub const STATE_BYTES: usize = 32;

/// State of the circuit, as it is stored. The default is a closed circuit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// Failures since the last successful answer.
    failures: u64,
    /// When the next request may probe an open circuit.
    due_ns: u64,
    /// When a failure was last logged; 0 before the first.
    logged_ns: u64,
    /// Whether the failures since the last answer were logged.
    logged: bool,
}

/// Whether a request may call the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitState {
    /// Every request may call the service.
    Closed,
    /// No request may call the service.
    Open,
    /// This request may probe the service if it stores this state before any other worker.
    HalfOpen(CircuitBreaker),
}

impl CircuitBreaker {
    /// Decodes a stored state; `None` if the bytes are invalid.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.as_chunks::<8>() {
            ([failures, due, logged, marked], []) => Some(Self {
                failures: u64::from_le_bytes(*failures),
                due_ns: u64::from_le_bytes(*due),
                logged_ns: u64::from_le_bytes(*logged),
                logged: u64::from_le_bytes(*marked) != 0,
            }),
            _ => None,
        }
    }

    /// Encodes the state for storage.
    pub fn to_bytes(self) -> [u8; STATE_BYTES] {
        let mut bytes = [0; STATE_BYTES];
        let numbers = [
            self.failures,
            self.due_ns,
            self.logged_ns,
            u64::from(self.logged),
        ];
        for (slot, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Whether a request may call the service now.
    pub const fn state(&self, now_ns: u64) -> CircuitState {
        if self.failures < FAILURES_TO_OPEN {
            return CircuitState::Closed;
        }
        // A probe is never more than one interval away, even if a clock was wrong before.
        if now_ns < self.due_ns && self.due_ns.saturating_sub(now_ns) <= PROBE_INTERVAL_NS {
            return CircuitState::Open;
        }
        CircuitState::HalfOpen(Self {
            due_ns: now_ns.saturating_add(PROBE_INTERVAL_NS),
            ..*self
        })
    }

    /// When the next probe is allowed. This time also identifies the current probe.
    pub const fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// State after a probing request ended without an answer: the next request may probe. `None` if
    /// another probe has started or the service has answered since.
    pub fn probe_abandoned(&self, probe_due_ns: u64) -> Option<Self> {
        let waits = self.failures >= FAILURES_TO_OPEN && self.due_ns == probe_due_ns;
        waits.then_some(Self { due_ns: 0, ..*self })
    }

    /// State after the service answered that a limit is unknown, and whether to log that. The
    /// service is reachable, so the circuit stays closed.
    pub const fn limit_unknown(&self, now_ns: u64) -> (Self, bool) {
        let logs = !self.is_logged_recently(now_ns);
        let after = Self {
            failures: 0,
            due_ns: 0,
            logged_ns: if logs { now_ns } else { self.logged_ns },
            logged: self.logged || logs,
        };
        (after, logs)
    }

    const fn is_logged_recently(&self, now_ns: u64) -> bool {
        self.logged_ns > 0 && now_ns.saturating_sub(self.logged_ns) < LOG_INTERVAL_NS
    }

    /// State after a failure, and whether to log the failure.
    pub const fn record_failure(&self, now_ns: u64) -> (Self, bool) {
        let failures = self.failures.saturating_add(1);
        let again = self.logged && failures != FAILURES_TO_OPEN;
        let logs = !self.is_logged_recently(now_ns) && !again;
        let after = Self {
            failures,
            due_ns: now_ns.saturating_add(PROBE_INTERVAL_NS),
            logged_ns: if logs { now_ns } else { self.logged_ns },
            logged: self.logged || logs,
        };
        (after, logs)
    }

    /// State after a successful answer, and whether to log the recovery; `None` if nothing changes.
    pub fn record_success(&self) -> Option<(Self, bool)> {
        let after = Self {
            logged_ns: self.logged_ns,
            ..Self::default()
        };
        (after != *self).then_some((after, self.logged))
    }
}

#[cfg(test)]
mod tests;
