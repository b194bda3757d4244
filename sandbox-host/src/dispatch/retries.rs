//! Sending a request again: when, and how often for all of a backend's requests together. A bucket that requests fill and retries empty keeps a backend that
//! is down from getting its load several times over. Each client has one of its own beside it, half as deep, which its own requests fill: whoever sends
//! what makes servers fail leaves others what they put in.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tensorgate_policy::policy::{Model, Retry};

use super::Whose;
use crate::backends::BackendError;

/// What one retry takes. A request puts in its percentage of it.
const ONE: u32 = 100;
/// The most that is saved up: a short burst, after any quiet.
const MOST: u32 = 10 * ONE;
/// The most of it that is one client's.
const OWN: u32 = MOST / 2;
/// Clients that are not known to have all of theirs. Policies name fewer, as a rule; of those beyond, who has the most left is taken to have all.
const MAX_CLIENTS: usize = 1_024;

/// Retries that a backend may still get.
#[derive(Debug)]
pub(super) struct Retries {
    rule: Retry,
    saved: Mutex<Saved>,
}

#[derive(Debug)]
struct Saved {
    all: u32,
    /// Of clients that have less than [`OWN`].
    own: HashMap<Whose, u32>,
}

impl Saved {
    fn fill(&mut self, whose: Whose, share: u32) {
        self.all = self.all.saturating_add(share).min(MOST);
        if let Some(own) = self.own.get_mut(&whose) {
            *own = own.saturating_add(share);
            if *own >= OWN {
                self.own.remove(&whose);
            }
        }
    }

    fn pay(&mut self, whose: Whose) -> Option<()> {
        let all = self.all.checked_sub(ONE)?;
        let known = self.own.get(&whose).copied();
        let own = known.unwrap_or(OWN).checked_sub(ONE)?;
        if known.is_none() && self.own.len() >= MAX_CLIENTS {
            let most = self.own.iter().max_by_key(|(_, own)| **own);
            let most = most.map(|(whose, _)| *whose)?;
            self.own.remove(&most);
        }
        self.own.insert(whose, own);
        self.all = all;
        Some(())
    }
}

/// One request's tries.
#[derive(Debug)]
pub(super) struct Tries {
    /// Places of the servers that it was sent to.
    pub(super) tried: Vec<usize>,
    /// Its turn among the backend's requests.
    pub(super) turn: usize,
    whose: Whose,
    left: u32,
    /// Times that there was no connection to send it over.
    unsent: usize,
}

impl Tries {
    /// Whether a request that there was no connection for is sent at all: to each of so many servers once, or once more to one that is alone.
    /// Nothing was sent before, so that nothing is paid.
    pub(super) fn unsent(&mut self, place: usize, servers: usize) -> bool {
        self.tried.push(place);
        self.unsent = self.unsent.saturating_add(1);
        self.unsent < servers.max(2)
    }
}

impl Retries {
    pub(super) fn new(rule: Retry) -> Self {
        Self {
            rule,
            saved: Mutex::new(Saved {
                all: MOST,
                own: HashMap::new(),
            }),
        }
    }

    /// A client's request comes, and has its turn.
    pub(super) fn begin(&self, model: &Model, whose: Whose, turn: usize) -> Tries {
        let left = if model.keeps_state() {
            0
        } else {
            self.rule.attempts()
        };
        if left > 0 {
            self.saved(|saved| saved.fill(whose, self.rule.budget_percent()));
        }
        Tries {
            tried: Vec::new(),
            turn,
            whose,
            left,
            unsent: 0,
        }
    }

    /// Whether a request that failed so at a server is sent again, which is paid for.
    pub(super) fn again(&self, tries: &mut Tries, place: usize, error: &BackendError) -> bool {
        // A deadline that is over leaves no time, and a fault is an answer.
        if !matches!(error, BackendError::Unavailable(_) | BackendError::Busy(_)) {
            return false;
        }
        let Some(left) = tries.left.checked_sub(1) else {
            return false;
        };
        if self.saved(|saved| saved.pay(tries.whose)).is_none() {
            return false;
        }
        tries.left = left;
        tries.tried.push(place);
        true
    }

    fn saved<T>(&self, step: impl FnOnce(&mut Saved) -> T) -> T {
        step(&mut self.saved.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::policy;
    use super::*;
    use serde_json::{Value, json};
    use tensorgate_policy::Policy;

    fn twice(parameters: &Value) -> Policy {
        let retry = json!({"attempts": 2, "budget_percent": 50});
        policy(&json!({"retry": retry}), parameters)
    }

    fn retries(policy: &Policy) -> (Retries, &Model) {
        let rule = policy.backends().get("b").map(|backend| backend.retry());
        let model = policy.models().first();
        let (Some(rule), Some(model)) = (rule, model) else {
            unreachable!("the policy has both");
        };
        (Retries::new(rule), model)
    }

    fn who(name: &str) -> Whose {
        Whose::of(Some(name))
    }

    fn gone() -> BackendError {
        BackendError::Unavailable(String::new())
    }

    #[test]
    fn only_what_found_no_server_is_sent_again_and_so_often() {
        let policy = twice(&json!({}));
        let (retries, model) = retries(&policy);
        let mut tries = retries.begin(model, who("a"), 0);
        for error in [
            BackendError::Timeout(String::new()),
            BackendError::Fault(String::new()),
        ] {
            assert!(!retries.again(&mut tries, 0, &error), "{error}");
        }
        assert!(retries.again(&mut tries, 0, &gone()));
        assert!(retries.again(&mut tries, 1, &BackendError::Busy(String::new())));
        assert_eq!(tries.tried, [0, 1]);
        assert!(!retries.again(&mut tries, 0, &gone()), "twice is enough");
    }

    /// Retries that so many requests of a client have.
    fn again(retries: &Retries, model: &Model, name: &str, requests: u32) -> u32 {
        let mut again = 0_u32;
        for _ in 0..requests {
            let mut tries = retries.begin(model, who(name), 0);
            while retries.again(&mut tries, 0, &gone()) {
                again = again.saturating_add(1);
            }
        }
        again
    }

    #[test]
    fn a_backend_gets_a_part_of_its_requests_again_and_no_more() {
        let policy = twice(&json!({}));
        let (retries, model) = retries(&policy);
        let turns = (0..100).map(|turn| again(&retries, model, &(turn % 4).to_string(), 1));
        // What was saved at first, and half a retry of each request.
        let all: u32 = turns.sum();
        assert!((59..=60).contains(&all), "{all}");
    }

    #[test]
    fn a_client_has_what_its_own_requests_put_in_and_leaves_others_theirs() {
        let policy = twice(&json!({}));
        let (retries, model) = retries(&policy);
        // Half of what was saved at first, and half a retry of each request.
        let flood = again(&retries, model, "flood", 100);
        assert!((54..=55).contains(&flood), "{flood}");
        assert_eq!(again(&retries, model, "other", 1), 2);
        // Whose bucket is full again is not kept.
        let kept = || retries.saved(|saved| saved.own.len());
        assert_eq!(kept(), 2);
        for _ in 0..10 {
            retries.begin(model, who("other"), 0);
        }
        assert_eq!(kept(), 1);
    }

    #[test]
    fn no_more_clients_are_known_than_may_be_and_one_more_has_its_retries() {
        let policy = twice(&json!({}));
        let (retries, model) = retries(&policy);
        for client in 0..3_000 {
            again(&retries, model, &client.to_string(), 1);
        }
        assert_eq!(retries.saved(|saved| saved.own.len()), MAX_CLIENTS);
        for _ in 0..4 {
            retries.begin(model, who("quiet"), 0);
        }
        assert_eq!(again(&retries, model, "one more", 1), 2);
    }

    #[test]
    fn a_sequence_is_never_sent_again_and_what_was_not_sent_goes_to_each_server_once() {
        let policy = twice(&json!({"sequence_id": {"int": [0, 10]}}));
        let (retries, model) = retries(&policy);
        let mut tries = retries.begin(model, who("a"), 0);
        assert!(!retries.again(&mut tries, 0, &gone()));
        for (servers, expected) in [(3, 3), (2, 2), (1, 2)] {
            let mut tries = retries.begin(model, who("a"), 0);
            let mut sent = 1;
            while tries.unsent(0, servers) {
                sent = i32::saturating_add(sent, 1);
            }
            assert_eq!(sent, expected, "{servers}");
        }
    }
}
