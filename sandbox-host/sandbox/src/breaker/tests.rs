//! Tests of the circuit breaker's state, with a clock that only the test advances.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use tensorgate_base::circuit::{MAX_OPEN_TIME, Rejection, Scope};
use tokio::time::Instant;

use super::state::{
    BreakerState, CLIENT_FAULTS, ClientName, FAULT_WINDOW, HandlerOutcome, MAX_CLIENTS,
    MIN_CLIENTS, OPEN_TIME, PENALTY_MEMORY, Transitions,
};
use super::{Breaker, BreakerReporting};

/// The calls of a handler, and the time.
struct Clock {
    state: BreakerState,
    now: Instant,
}

/// Two policy versions share a gauge. Dropping one breaker must not remove the other's count.
#[test]
fn a_breaker_that_goes_takes_back_what_it_showed_itself_and_nothing_else() {
    let shown = BreakerReporting::default();
    let loaded = || {
        let breaker = Breaker::new("h".into());
        breaker.set_reporting(shown.clone());
        breaker
    };
    let cut_off = |breaker: &Arc<Breaker>| {
        for client in ["a", "b", "c"] {
            for _ in 0..CLIENT_FAULTS {
                if let Ok(mut call) = breaker.admit(&who(client)) {
                    call.outcome = HandlerOutcome::Fault;
                }
            }
        }
        assert!(breaker.admit(&who("a")).is_err());
    };
    let (old, new) = (loaded(), loaded());
    cut_off(&new);
    assert_eq!(shown.open.get(), 1);
    drop(old);
    assert_eq!(shown.open.get(), 1, "the one in use is cut off still");
    drop(new);
    assert_eq!(shown.open.get(), 0);
}

#[test]
fn open_circuits_are_listed_with_their_clients() {
    let breaker = Breaker::new("h".into());
    let fault = |client: &str| {
        if let Ok(mut call) = breaker.admit(&who(client)) {
            call.outcome = HandlerOutcome::Fault;
        }
    };
    assert!(breaker.open_circuits().is_empty());
    (0..CLIENT_FAULTS).for_each(|_| fault("a"));
    assert_eq!(breaker.open_circuits(), [Some("a".to_owned())]);
    ["b", "c"].into_iter().for_each(fault);
    assert_eq!(breaker.open_circuits(), [None, Some("a".to_owned())]);
}

fn who(name: &str) -> ClientName {
    Some(name.into())
}

impl Clock {
    fn start() -> Self {
        Self {
            state: BreakerState::default(),
            now: Instant::now(),
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// A call that ends at once.
    fn call(&mut self, client: &str, outcome: HandlerOutcome) -> Result<Transitions, Rejection> {
        let client = who(client);
        let leave = self.state.admit(&client, self.now)?;
        Ok(self.state.record(&client, leave, outcome, self.now))
    }

    fn faults(&mut self, client: &str, count: u32) {
        for _ in 0..count {
            self.call(client, HandlerOutcome::Fault).unwrap();
        }
    }

    /// The circuit that would stop a client's next call.
    fn refused(&mut self, client: &str) -> Option<Scope> {
        match self.state.admit(&who(client), self.now) {
            Ok(leave) => {
                self.state
                    .record(&who(client), leave, HandlerOutcome::Unknown, self.now);
                None
            }
            Err(refusal) => Some(refusal.scope),
        }
    }
}

#[test]
fn a_client_that_a_handler_fails_at_in_a_row_is_cut_off_alone() {
    for (between, cut) in [
        (None, true),
        // A rejected input is a success and restarts the count.
        (Some(HandlerOutcome::Answered), false),
        (Some(HandlerOutcome::Unknown), true),
    ] {
        let mut clock = Clock::start();
        clock.faults("mallory", CLIENT_FAULTS - 1);
        assert_eq!(clock.refused("mallory"), None);
        if let Some(outcome) = between {
            clock.call("mallory", outcome).unwrap();
        }
        clock.faults("mallory", 1);
        assert_eq!(
            clock.refused("mallory"),
            cut.then_some(Scope::Client),
            "{between:?}"
        );
        assert_eq!(clock.refused("alice"), None, "{between:?}");
    }
}

#[test]
fn faults_that_are_far_apart_are_in_no_row() {
    let mut clock = Clock::start();
    for _ in 0..CLIENT_FAULTS * 3 {
        clock.faults("alice", 1);
        clock.wait(FAULT_WINDOW);
    }
    assert_eq!(clock.refused("alice"), None);
    for client in ["a", "b", "c", "d"] {
        clock.faults(client, 1);
        clock.wait(FAULT_WINDOW);
    }
    assert_eq!(clock.refused("e"), None);
}

#[test]
fn a_client_comes_back_by_one_call_at_a_time_and_later_each_time() {
    let mut clock = Clock::start();
    clock.faults("mallory", CLIENT_FAULTS);
    let mut long = OPEN_TIME;
    for _ in 0..6 {
        clock.wait(long - Duration::from_millis(1));
        assert_eq!(clock.refused("mallory"), Some(Scope::Client), "{long:?}");
        clock.wait(Duration::from_millis(1));
        let leave = clock.state.admit(&who("mallory"), clock.now).unwrap();
        assert_eq!(
            clock.refused("mallory"),
            Some(Scope::Client),
            "one at a time"
        );
        let change = (clock.state).record(&who("mallory"), leave, HandlerOutcome::Fault, clock.now);
        long = (long * 2).min(MAX_OPEN_TIME);
        assert_eq!(change.client_opened, Some(long));
    }
    clock.wait(long);
    clock.call("mallory", HandlerOutcome::Answered).unwrap();
    clock.faults("mallory", CLIENT_FAULTS - 1);
    assert_eq!(clock.refused("mallory"), None, "it starts anew");
}

#[test]
fn different_clients_without_an_answer_between_cut_off_all() {
    let names: Vec<_> = (0..MIN_CLIENTS)
        .map(|number| format!("client-{number}"))
        .collect();
    for answered in [false, true] {
        let mut clock = Clock::start();
        let (last, others) = names.split_last().unwrap();
        others.iter().for_each(|name| clock.faults(name, 1));
        if answered {
            clock.call("alice", HandlerOutcome::Answered).unwrap();
        }
        let change = clock.call(last, HandlerOutcome::Fault).unwrap();
        assert_eq!(change.opened, (!answered).then_some(OPEN_TIME));
        let refused = (!answered).then_some(Scope::All);
        assert_eq!(clock.refused(last), refused, "{answered}");
        // A client without faults probes at once. If that is a fault, all clients wait.
        let change = clock.call("alice", HandlerOutcome::Fault).unwrap();
        assert_eq!(change.opened, (!answered).then_some(OPEN_TIME * 2));
        assert_eq!(clock.refused("bob"), refused, "{answered}");
    }
}

#[test]
fn those_that_cut_off_all_wrongly_are_cut_off_each_time_for_longer() {
    let mut clock = Clock::start();
    let names = ["a", "b", "c"];
    let mut long = OPEN_TIME;
    for _ in 0..6 {
        names.iter().for_each(|name| clock.faults(name, 1));
        // No call is waiting.
        let change = clock.call("alice", HandlerOutcome::Answered).unwrap();
        assert!(change.closed);
        assert_eq!(change.penalized.len(), 3);
        assert_eq!(clock.refused("bob"), None);
        for name in names {
            assert_eq!(clock.refused(name), Some(Scope::Client), "{long:?}");
        }
        clock.wait(long.checked_sub(Duration::from_millis(1)).unwrap());
        assert_eq!(clock.refused("a"), Some(Scope::Client), "{long:?}");
        clock.wait(Duration::from_millis(1));
        // A success closes the circuit, but does not reset the penalty.
        for name in names {
            clock.call(name, HandlerOutcome::Answered).unwrap();
        }
        long = (long * 2).min(MAX_OPEN_TIME);
    }
    clock.wait(PENALTY_MEMORY);
    names.iter().for_each(|name| clock.faults(name, 1));
    clock.call("alice", HandlerOutcome::Answered).unwrap();
    clock.wait(OPEN_TIME);
    assert_eq!(clock.refused("a"), None, "it is forgiven");
}

#[test]
fn whose_calls_that_find_out_come_to_nothing_waits_for_others() {
    let mut clock = Clock::start();
    ["a", "b", "c"]
        .iter()
        .for_each(|name| clock.faults(name, 1));
    assert_eq!(clock.refused("mallory"), None, "it comes to nothing");
    assert_eq!(clock.refused("mallory"), Some(Scope::All));
    assert!(
        clock
            .call("alice", HandlerOutcome::Answered)
            .unwrap()
            .closed
    );
    assert_eq!(clock.refused("mallory"), None, "it did no wrong");
}

#[test]
fn one_client_however_often_never_cuts_off_all() {
    let mut clock = Clock::start();
    for _ in 0..1_000 {
        let _ = clock.call("mallory", HandlerOutcome::Fault);
        clock.wait(Duration::from_secs(1));
        assert_eq!(clock.refused("alice"), None);
    }
}

#[test]
fn whose_last_call_was_a_fault_does_not_find_out_before_another_could() {
    let mut clock = Clock::start();
    let names: Vec<_> = (0..MIN_CLIENTS)
        .map(|number| format!("mallory-{number}"))
        .collect();
    names.iter().for_each(|name| clock.faults(name, 1));
    for name in &names {
        assert_eq!(clock.refused(name), Some(Scope::All), "{name}");
    }
    let change = clock.call("alice", HandlerOutcome::Answered).unwrap();
    assert!(change.closed);
    assert_eq!(clock.refused("bob"), None);
    // Without other clients, they probe themselves.
    let mut clock = Clock::start();
    names.iter().for_each(|name| clock.faults(name, 1));
    clock.wait(OPEN_TIME);
    assert_eq!(clock.refused(names.first().unwrap()), None);
    let change = clock
        .call(names.first().unwrap(), HandlerOutcome::Fault)
        .unwrap();
    assert_eq!(change.opened, Some(OPEN_TIME * 2));
}

#[test]
fn what_was_begun_before_a_cut_ends_none() {
    let mut clock = Clock::start();
    let early = clock.state.admit(&who("alice"), clock.now).unwrap();
    for name in ["a", "b", "c"] {
        clock.faults(name, 1);
    }
    let change = (clock.state).record(&who("alice"), early, HandlerOutcome::Answered, clock.now);
    assert!(!change.closed);
    assert_eq!(clock.refused("a"), Some(Scope::All));
}

#[test]
fn a_call_that_finds_out_and_comes_to_nothing_lets_the_next_one() {
    let mut clock = Clock::start();
    for name in ["a", "b", "c"] {
        clock.faults(name, 1);
    }
    let leave = clock.state.admit(&who("alice"), clock.now).unwrap();
    assert_eq!(clock.refused("bob"), Some(Scope::All), "one at a time");
    clock
        .state
        .record(&who("alice"), leave, HandlerOutcome::Unknown, clock.now);
    assert_eq!(clock.refused("bob"), None);
}

#[test]
fn however_many_clients_there_are_only_so_many_are_remembered_and_the_cut_ones_last() {
    let mut clock = Clock::start();
    clock.faults("mallory", CLIENT_FAULTS);
    for number in 0..MAX_CLIENTS * 3 {
        // A success of another client in between keeps the circuit for all closed.
        clock.call("alice", HandlerOutcome::Answered).unwrap();
        clock.faults(&format!("client-{number}"), 1);
        assert!(clock.state.remembered() <= MAX_CLIENTS);
    }
    assert_eq!(clock.refused("mallory"), Some(Scope::Client));
    clock.wait(FAULT_WINDOW);
    clock.faults("bob", 1);
    assert_eq!(clock.state.remembered(), 1, "what is old goes first");
}
