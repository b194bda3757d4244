//! The breaker's table, on a clock that only the test moves.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::state::{
    CLIENT_FAULTS, CLIENTS, Change, FORGET, FORGIVE, MAX_CLIENTS, MAX_OPEN, OPEN, Outcome, Refusal,
    State, Who, Whom,
};
use super::{Breaker, Shown};

/// A handler's calls, and the time.
struct Clock {
    state: State,
    now: Instant,
}

/// A handler that another generation has loaded too: what one shows is not taken back by the other's end.
#[test]
fn a_breaker_that_goes_takes_back_what_it_showed_itself_and_nothing_else() {
    let shown = Shown::default();
    let loaded = || {
        let breaker = Breaker::new("h".into());
        breaker.show(shown.clone());
        breaker
    };
    let cut_off = |breaker: &Arc<Breaker>| {
        for client in ["a", "b", "c"] {
            for _ in 0..CLIENT_FAULTS {
                if let Ok(mut call) = breaker.admit(&who(client)) {
                    call.outcome = Outcome::Fault;
                }
            }
        }
        assert!(breaker.admit(&who("a")).is_err());
    };
    let (old, new) = (loaded(), loaded());
    cut_off(&new);
    assert_eq!(shown.cut.get(), 1);
    drop(old);
    assert_eq!(shown.cut.get(), 1, "the one in use is cut off still");
    drop(new);
    assert_eq!(shown.cut.get(), 0);
}

fn who(name: &str) -> Who {
    Some(name.into())
}

impl Clock {
    fn start() -> Self {
        Self {
            state: State::default(),
            now: Instant::now(),
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// A call that is over at once.
    fn call(&mut self, client: &str, outcome: Outcome) -> Result<Change, Refusal> {
        let client = who(client);
        let leave = self.state.admit(&client, self.now)?;
        Ok(self.state.over(&client, leave, outcome, self.now))
    }

    fn faults(&mut self, client: &str, count: u32) {
        for _ in 0..count {
            self.call(client, Outcome::Fault).unwrap();
        }
    }

    /// For whom a client's next call would be refused.
    fn refused(&mut self, client: &str) -> Option<Whom> {
        match self.state.admit(&who(client), self.now) {
            Ok(leave) => {
                self.state
                    .over(&who(client), leave, Outcome::Void, self.now);
                None
            }
            Err(refusal) => Some(refusal.whom),
        }
    }
}

#[test]
fn a_client_that_a_handler_fails_at_in_a_row_is_cut_off_alone() {
    for (between, cut) in [
        (None, true),
        // It rejects what is no good, or answers: the row begins anew.
        (Some(Outcome::Answered), false),
        (Some(Outcome::Void), true),
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
            cut.then_some(Whom::Client),
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
        clock.wait(FORGET);
    }
    assert_eq!(clock.refused("alice"), None);
    for client in ["a", "b", "c", "d"] {
        clock.faults(client, 1);
        clock.wait(FORGET);
    }
    assert_eq!(clock.refused("e"), None);
}

#[test]
fn a_client_comes_back_by_one_call_at_a_time_and_later_each_time() {
    let mut clock = Clock::start();
    clock.faults("mallory", CLIENT_FAULTS);
    let mut long = OPEN;
    for _ in 0..6 {
        clock.wait(long - Duration::from_millis(1));
        assert_eq!(clock.refused("mallory"), Some(Whom::Client), "{long:?}");
        clock.wait(Duration::from_millis(1));
        let leave = clock.state.admit(&who("mallory"), clock.now).unwrap();
        assert_eq!(
            clock.refused("mallory"),
            Some(Whom::Client),
            "one at a time"
        );
        let change = (clock.state).over(&who("mallory"), leave, Outcome::Fault, clock.now);
        long = (long * 2).min(MAX_OPEN);
        assert_eq!(change.client, Some(long));
    }
    clock.wait(long);
    clock.call("mallory", Outcome::Answered).unwrap();
    clock.faults("mallory", CLIENT_FAULTS - 1);
    assert_eq!(clock.refused("mallory"), None, "it starts anew");
}

#[test]
fn different_clients_without_an_answer_between_cut_off_all() {
    let names: Vec<_> = (0..CLIENTS)
        .map(|number| format!("client-{number}"))
        .collect();
    for answered in [false, true] {
        let mut clock = Clock::start();
        let (last, others) = names.split_last().unwrap();
        others.iter().for_each(|name| clock.faults(name, 1));
        if answered {
            clock.call("alice", Outcome::Answered).unwrap();
        }
        let change = clock.call(last, Outcome::Fault).unwrap();
        assert_eq!(change.all, (!answered).then_some(OPEN));
        let refused = (!answered).then_some(Whom::All);
        assert_eq!(clock.refused(last), refused, "{answered}");
        // Whoever had no fault finds out at once; where it is a fault again, all wait.
        let change = clock.call("alice", Outcome::Fault).unwrap();
        assert_eq!(change.all, (!answered).then_some(OPEN * 2));
        assert_eq!(clock.refused("bob"), refused, "{answered}");
    }
}

#[test]
fn those_that_cut_off_all_wrongly_are_cut_off_each_time_for_longer() {
    let mut clock = Clock::start();
    let names = ["a", "b", "c"];
    let mut long = OPEN;
    for _ in 0..6 {
        names.iter().for_each(|name| clock.faults(name, 1));
        // Nobody waits for them.
        let change = clock.call("alice", Outcome::Answered).unwrap();
        assert!(change.back);
        assert_eq!(change.wrong.len(), 3);
        assert_eq!(clock.refused("bob"), None);
        for name in names {
            assert_eq!(clock.refused(name), Some(Whom::Client), "{long:?}");
        }
        clock.wait(long.checked_sub(Duration::from_millis(1)).unwrap());
        assert_eq!(clock.refused("a"), Some(Whom::Client), "{long:?}");
        clock.wait(Duration::from_millis(1));
        // An answer lets them in again, and is no pardon.
        for name in names {
            clock.call(name, Outcome::Answered).unwrap();
        }
        long = (long * 2).min(MAX_OPEN);
    }
    clock.wait(FORGIVE);
    names.iter().for_each(|name| clock.faults(name, 1));
    clock.call("alice", Outcome::Answered).unwrap();
    clock.wait(OPEN);
    assert_eq!(clock.refused("a"), None, "it is forgiven");
}

#[test]
fn whose_calls_that_find_out_come_to_nothing_waits_for_others() {
    let mut clock = Clock::start();
    ["a", "b", "c"]
        .iter()
        .for_each(|name| clock.faults(name, 1));
    assert_eq!(clock.refused("mallory"), None, "it comes to nothing");
    assert_eq!(clock.refused("mallory"), Some(Whom::All));
    assert!(clock.call("alice", Outcome::Answered).unwrap().back);
    assert_eq!(clock.refused("mallory"), None, "it did no wrong");
}

#[test]
fn one_client_however_often_never_cuts_off_all() {
    let mut clock = Clock::start();
    for _ in 0..1_000 {
        let _ = clock.call("mallory", Outcome::Fault);
        clock.wait(Duration::from_secs(1));
        assert_eq!(clock.refused("alice"), None);
    }
}

#[test]
fn whose_last_call_was_a_fault_does_not_find_out_before_another_could() {
    let mut clock = Clock::start();
    let names: Vec<_> = (0..CLIENTS)
        .map(|number| format!("mallory-{number}"))
        .collect();
    names.iter().for_each(|name| clock.faults(name, 1));
    for name in &names {
        assert_eq!(clock.refused(name), Some(Whom::All), "{name}");
    }
    let change = clock.call("alice", Outcome::Answered).unwrap();
    assert!(change.back);
    assert_eq!(clock.refused("bob"), None);
    // Where there is nobody else, they find out themselves.
    let mut clock = Clock::start();
    names.iter().for_each(|name| clock.faults(name, 1));
    clock.wait(OPEN);
    assert_eq!(clock.refused(names.first().unwrap()), None);
    let change = clock.call(names.first().unwrap(), Outcome::Fault).unwrap();
    assert_eq!(change.all, Some(OPEN * 2));
}

#[test]
fn what_was_begun_before_a_cut_ends_none() {
    let mut clock = Clock::start();
    let early = clock.state.admit(&who("alice"), clock.now).unwrap();
    for name in ["a", "b", "c"] {
        clock.faults(name, 1);
    }
    let change = (clock.state).over(&who("alice"), early, Outcome::Answered, clock.now);
    assert!(!change.back);
    assert_eq!(clock.refused("a"), Some(Whom::All));
}

#[test]
fn a_call_that_finds_out_and_comes_to_nothing_lets_the_next_one() {
    let mut clock = Clock::start();
    for name in ["a", "b", "c"] {
        clock.faults(name, 1);
    }
    let leave = clock.state.admit(&who("alice"), clock.now).unwrap();
    assert_eq!(clock.refused("bob"), Some(Whom::All), "one at a time");
    clock
        .state
        .over(&who("alice"), leave, Outcome::Void, clock.now);
    assert_eq!(clock.refused("bob"), None);
}

#[test]
fn however_many_clients_there_are_only_so_many_are_remembered_and_the_cut_ones_last() {
    let mut clock = Clock::start();
    clock.faults("mallory", CLIENT_FAULTS);
    for number in 0..MAX_CLIENTS * 3 {
        // An answer to another between: nobody is cut off from it all.
        clock.call("alice", Outcome::Answered).unwrap();
        clock.faults(&format!("client-{number}"), 1);
        assert!(clock.state.remembered() <= MAX_CLIENTS);
    }
    assert_eq!(clock.refused("mallory"), Some(Whom::Client));
    clock.wait(FORGET);
    clock.faults("bob", 1);
    assert_eq!(clock.state.remembered(), 1, "what is old goes first");
}
