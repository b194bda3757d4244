//! Circuit breaker for the rate-limit service, shared by all workers of a proxy.
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
        let tell = !self.is_logged_recently(now_ns);
        let after = Self {
            failures: 0,
            due_ns: 0,
            logged_ns: if tell { now_ns } else { self.logged_ns },
            logged: self.logged || tell,
        };
        (after, tell)
    }

    const fn is_logged_recently(&self, now_ns: u64) -> bool {
        self.logged_ns > 0 && now_ns.saturating_sub(self.logged_ns) < LOG_INTERVAL_NS
    }

    /// State after a failure, and whether to log the failure.
    pub const fn record_failure(&self, now_ns: u64) -> (Self, bool) {
        let failures = self.failures.saturating_add(1);
        let again = self.logged && failures != FAILURES_TO_OPEN;
        let tell = !self.is_logged_recently(now_ns) && !again;
        let after = Self {
            failures,
            due_ns: now_ns.saturating_add(PROBE_INTERVAL_NS),
            logged_ns: if tell { now_ns } else { self.logged_ns },
            logged: self.logged || tell,
        };
        (after, tell)
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
mod tests {
    use super::*;

    const NOW: u64 = 5 * PROBE_INTERVAL_NS;

    #[test]
    fn after_consecutive_failures_one_request_per_interval_probes() {
        let mut breaker = CircuitBreaker::default();
        for _ in 0..FAILURES_TO_OPEN {
            assert_eq!(breaker.state(NOW), CircuitState::Closed);
            breaker = breaker.record_failure(NOW).0;
        }
        assert_eq!(breaker.state(NOW), CircuitState::Open);
        assert_eq!(
            breaker.state(NOW + PROBE_INTERVAL_NS - 1),
            CircuitState::Open
        );
        let CircuitState::HalfOpen(probing) = breaker.state(NOW + PROBE_INTERVAL_NS) else {
            unreachable!("it is due")
        };
        assert_eq!(
            probing.state(NOW + PROBE_INTERVAL_NS),
            CircuitState::Open,
            "one asks"
        );
        let failed = probing.record_failure(NOW + PROBE_INTERVAL_NS).0;
        assert_eq!(failed.state(NOW + PROBE_INTERVAL_NS), CircuitState::Open);
        let answered = failed.record_success().map(|(after, _)| after);
        assert_eq!(
            answered.map(|it| it.state(NOW + PROBE_INTERVAL_NS)),
            Some(CircuitState::Closed)
        );
    }

    #[test]
    fn failures_between_answers_do_not_open_the_circuit() {
        let mut breaker = CircuitBreaker::default();
        for _ in 0..100 {
            breaker = breaker.record_failure(NOW).0;
            breaker = breaker.record_success().map_or(breaker, |(after, _)| after);
            assert_eq!(breaker.state(NOW), CircuitState::Closed);
        }
        assert_eq!(breaker.record_success(), None);
    }

    #[test]
    fn an_abandoned_probe_is_repeated_by_the_next_request_and_only_that_probe() {
        let mut breaker = CircuitBreaker::default();
        for _ in 0..FAILURES_TO_OPEN {
            assert_eq!(
                breaker.probe_abandoned(breaker.due_ns()),
                None,
                "every request may call"
            );
            breaker = breaker.record_failure(NOW).0;
        }
        let probe = |breaker: CircuitBreaker, now| match breaker.state(now) {
            CircuitState::HalfOpen(probing) => probing,
            other => unreachable!("{other:?}"),
        };
        let first = probe(breaker, NOW + PROBE_INTERVAL_NS);
        let left = first.probe_abandoned(first.due_ns()).unwrap_or_default();
        assert_ne!(left, CircuitBreaker::default());
        let second = probe(left, NOW + PROBE_INTERVAL_NS + 1);
        assert_eq!(
            second.state(NOW + PROBE_INTERVAL_NS + 2),
            CircuitState::Open
        );
        // The first probe is no longer current, and no probe is after an answer or a failure.
        assert_eq!(second.probe_abandoned(first.due_ns()), None);
        let failed = second.record_failure(NOW + PROBE_INTERVAL_NS + 2).0;
        assert_eq!(failed.probe_abandoned(second.due_ns()), None);
        let answered = second.record_success().map(|(after, _)| after);
        assert_eq!(
            answered.and_then(|it| it.probe_abandoned(second.due_ns())),
            None
        );
    }

    #[test]
    fn an_unknown_limit_keeps_the_circuit_closed_and_is_logged_rarely() {
        let mut breaker = CircuitBreaker::default();
        let mut logged = 0;
        for at in 0..100 {
            let (after, tell) = breaker.limit_unknown(NOW + at);
            assert_eq!(after.state(NOW + at), CircuitState::Closed);
            // The service knows its other limits.
            let (answered, again) = after.record_success().unwrap_or((after, false));
            logged += u64::from(tell) + u64::from(again);
            breaker = answered;
        }
        assert_eq!(logged, 2);
        assert!(breaker.limit_unknown(NOW + 2 * LOG_INTERVAL_NS).1);
    }

    #[test]
    fn failures_are_logged_once_and_a_recovery_only_after_a_logged_failure() {
        let mut breaker = CircuitBreaker::default();
        let mut logged = 0;
        for failure in 0..1_000 {
            let (after, tell) = breaker.record_failure(NOW + failure);
            breaker = after;
            logged += u64::from(tell);
        }
        assert_eq!(logged, 1);
        let Some((after, tell)) = breaker.record_success() else {
            unreachable!("there were failures")
        };
        assert!(tell);
        // A flapping service is logged at most once in ten seconds.
        let (again, tell) = after.record_failure(NOW + PROBE_INTERVAL_NS);
        assert!(!tell);
        assert_eq!(again.record_success().map(|(_, tell)| tell), Some(false));
        assert!(after.record_failure(NOW + LOG_INTERVAL_NS + 1_000).1);
    }

    #[test]
    fn a_stored_state_is_read_back_and_other_bytes_are_rejected() {
        let breaker = CircuitBreaker {
            failures: 7,
            due_ns: u64::MAX,
            logged_ns: 1,
            logged: true,
        };
        assert_eq!(
            CircuitBreaker::from_bytes(&breaker.to_bytes()),
            Some(breaker)
        );
        for bytes in [&[][..], &[0; 31], &[0; 33]] {
            assert_eq!(CircuitBreaker::from_bytes(bytes), None);
        }
        // An impossible time is ignored: the next request probes.
        assert!(matches!(breaker.state(NOW), CircuitState::HalfOpen(_)));
        assert_eq!(breaker.record_failure(u64::MAX).0.failures, 8);
    }
}
