//! Tests of when circuits open and close, and for which clients.
use serde_json::json;

use super::super::tests::policy;
use super::*;

fn breaker(failures: u32, open_s: u32) -> Breaker {
    let rule = json!({"consecutive_failures": failures, "open_s": open_s});
    let policy = policy(&json!({"circuit_breaker": rule}), &json!({}));
    let backend = policy.backends().get("b");
    let rule = backend
        .map(|backend| backend.breaker())
        .unwrap_or_else(|| unreachable!("the policy has it"));
    Breaker::new(rule, "b".into(), Gauge::default(), Counter::default())
}

/// The key of a client with this number.
fn client(number: usize) -> ClientKey {
    ClientKey::from_name(Some(&number.to_string()))
}

/// Makes a call with this outcome, if the circuit permits it.
fn call(breaker: &Breaker, number: usize, outcome: BackendOutcome) -> bool {
    let permit = breaker.admit(client(number)).ok();
    if let Some(permit) = permit {
        breaker.record(permit, outcome, Instant::now());
    }
    permit.is_some()
}

async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_open_it_and_an_answer_between_does_not() {
    let breaker = breaker(3, 5);
    for (number, outcome) in [
        BackendOutcome::TimedOut,
        BackendOutcome::ConnectionFailed,
        BackendOutcome::Answered,
        BackendOutcome::TimedOut,
        // An unknown outcome neither counts as a failure nor resets the count.
        BackendOutcome::Unknown,
        BackendOutcome::ConnectionFailed,
    ]
    .into_iter()
    .enumerate()
    {
        assert!(call(&breaker, number % 3, outcome));
    }
    assert_eq!(breaker.check(client(2)), Ok(()));
    assert!(call(&breaker, 3, BackendOutcome::TimedOut));
    let refused = Err(rejection(Rejection {
        scope: Scope::All,
        retry_after: Duration::from_secs(5),
    }));
    assert_eq!(breaker.check(client(4)), refused);
    assert!(!call(&breaker, 4, BackendOutcome::Answered));
    assert_eq!((breaker.open_circuits.get(), breaker.opened.get()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_is_listed_with_its_client_until_no_one_asks() {
    let breaker = breaker(10, 5);
    for _ in 0..10 {
        assert!(breaker.open().is_empty());
        call(&breaker, 1, BackendOutcome::TimedOut);
    }
    for seconds in [0, 5, 5] {
        pass(seconds).await;
        assert_eq!(breaker.open(), [Some(client(1))]);
    }
    pass(circuit::MAX_OPEN_TIME.as_secs()).await;
    assert!(breaker.open().is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_clients_failures_stop_that_client_alone() {
    for outcome in [BackendOutcome::TimedOut, BackendOutcome::ConnectionFailed] {
        let breaker = breaker(10, 5);
        for _ in 0..10 {
            assert!(call(&breaker, 1, outcome));
            pass(1).await;
        }
        assert!(!call(&breaker, 1, BackendOutcome::Answered));
        assert_eq!(breaker.check(client(2)), Ok(()));
        assert_eq!((breaker.open_circuits.get(), breaker.opened.get()), (1, 1));
        // One client contributes at most half of the failures. Another client must contribute the
        // rest.
        for _ in 0..4 {
            assert!(call(&breaker, 2, outcome));
        }
        assert_eq!(breaker.check(client(3)), Ok(()));
        assert!(call(&breaker, 2, outcome));
        assert!(breaker.check(client(3)).is_err(), "a row of two clients");
        assert_eq!((breaker.open_circuits.get(), breaker.opened.get()), (2, 2));
        pass(5).await;
        assert!(call(&breaker, 3, BackendOutcome::Answered));
        assert!(
            call(&breaker, 1, BackendOutcome::Answered),
            "it finds out itself"
        );
        assert_eq!(breaker.open_circuits.get(), 0);
        assert!(breaker.lock().failures_by_client.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_clients_are_known_than_there_is_room_for() {
    let breaker = breaker(1, 5);
    let begun: Vec<_> = (0..MAX_CLIENTS + 10)
        .filter_map(|number| breaker.admit(client(number)).ok())
        .collect();
    for permit in begun {
        breaker.record(permit, BackendOutcome::TimedOut, Instant::now());
    }
    assert_eq!(breaker.lock().by_client.len(), MAX_CLIENTS);
    assert!(breaker.check(client(MAX_CLIENTS + 5)).is_err());
}

#[tokio::test(start_paused = true)]
async fn calls_of_one_connection_that_breaks_are_one_failure() {
    let breaker = breaker(2, 5);
    let started = Instant::now();
    let leaves = |numbers: std::ops::Range<usize>| {
        let leaves = numbers.map(|number| breaker.admit(client(number)).ok());
        leaves.flatten().collect::<Vec<_>>()
    };
    let crowd = leaves(0..50);
    assert_eq!(crowd.len(), 50);
    pass(1).await;
    for permit in &crowd {
        breaker.record(*permit, BackendOutcome::ConnectionFailed, started);
    }
    assert_eq!(breaker.check(client(60)), Ok(()));
    // Each probe that fails counts.
    for permit in crowd {
        breaker.record(permit, BackendOutcome::TimedOut, started);
    }
    assert!(breaker.check(client(60)).is_err());
}

#[tokio::test(start_paused = true)]
async fn one_at_a_time_finds_out_and_longer_each_time() {
    let breaker = breaker(1, 5);
    let early = breaker.admit(client(0));
    assert!(call(&breaker, 1, BackendOutcome::TimedOut));
    // The client that failed is stopped by its own circuit too, so other clients probe here.
    for (number, seconds) in [5, 10, 20, 40, 60, 60].into_iter().enumerate() {
        let number = number + 10;
        pass(seconds - 1).await;
        assert!(
            !call(&breaker, number, BackendOutcome::Answered),
            "before {seconds} s"
        );
        pass(1).await;
        let trial = breaker.admit(client(number));
        let probes = trial.as_ref().map(|permit| permit.circuits.probes_shared);
        assert_eq!(probes, Ok(true), "after {seconds} s");
        assert!(breaker.admit(client(2)).is_err(), "one at a time");
        if let Ok(permit) = trial {
            breaker.record(permit, BackendOutcome::ConnectionFailed, Instant::now());
        }
    }
    if let Ok(permit) = early {
        breaker.record(permit, BackendOutcome::Answered, Instant::now());
    }
    assert!(
        breaker.check(client(2)).is_err(),
        "an old answer closes nothing"
    );
    pass(60).await;
    assert!(call(&breaker, 2, BackendOutcome::Unknown));
    assert!(
        call(&breaker, 2, BackendOutcome::Answered),
        "the next one finds out"
    );
    assert!(
        call(&breaker, 2, BackendOutcome::Answered) && call(&breaker, 3, BackendOutcome::Answered)
    );
    assert!(breaker.lock().shared.open.is_none());
}
