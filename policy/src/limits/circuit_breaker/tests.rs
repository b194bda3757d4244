//! The circuit breaker opens, probes and closes again; failures are logged once.
#![allow(clippy::arithmetic_side_effects, reason = "tests")]

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
        let (after, logs) = breaker.limit_unknown(NOW + at);
        assert_eq!(after.state(NOW + at), CircuitState::Closed);
        // The service knows its other limits.
        let (answered, again) = after.record_success().unwrap_or((after, false));
        logged += u64::from(logs) + u64::from(again);
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
        let (after, logs) = breaker.record_failure(NOW + failure);
        breaker = after;
        logged += u64::from(logs);
    }
    assert_eq!(logged, 1);
    let Some((after, logs)) = breaker.record_success() else {
        unreachable!("there were failures")
    };
    assert!(logs);
    // A flapping service is logged at most once in ten seconds.
    let (again, logs) = after.record_failure(NOW + PROBE_INTERVAL_NS);
    assert!(!logs);
    assert_eq!(again.record_success().map(|(_, logs)| logs), Some(false));
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
