//! Sending a request again: when, and how often for all of a backend's requests together. A bucket that requests fill and retries empty keeps a backend that
//! is down from getting its load several times over.

use std::sync::atomic::{AtomicU32, Ordering};

use tensorgate_policy::policy::{Model, Retry};

use crate::backends::BackendError;

/// What one retry takes. A request puts in its percentage of it.
const ONE: u32 = 100;
/// The most that is saved up: a short burst, after any quiet.
const MOST: u32 = 10 * ONE;

/// Retries that a backend may still get.
#[derive(Debug)]
pub(super) struct Retries {
    rule: Retry,
    saved: AtomicU32,
}

/// One request's tries.
#[derive(Debug)]
pub(super) struct Tries {
    /// Places of the servers that it was sent to.
    pub(super) tried: Vec<usize>,
    /// Its turn among the backend's requests.
    pub(super) turn: usize,
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
    pub(super) const fn new(rule: Retry) -> Self {
        Self {
            rule,
            saved: AtomicU32::new(MOST),
        }
    }

    /// A request comes, and has its turn.
    pub(super) fn begin(&self, model: &Model, turn: usize) -> Tries {
        let left = if model.keeps_state() {
            0
        } else {
            self.rule.attempts()
        };
        if left > 0 {
            let share = self.rule.budget_percent();
            let fill = |saved: u32| Some(saved.saturating_add(share).min(MOST));
            let _ = self
                .saved
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fill);
        }
        Tries {
            tried: Vec::new(),
            turn,
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
        let paid = self
            .saved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| {
                saved.checked_sub(ONE)
            });
        if paid.is_err() {
            return false;
        }
        tries.left = left;
        tries.tried.push(place);
        true
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

    fn gone() -> BackendError {
        BackendError::Unavailable(String::new())
    }

    #[test]
    fn only_what_found_no_server_is_sent_again_and_so_often() {
        let policy = twice(&json!({}));
        let (retries, model) = retries(&policy);
        let mut tries = retries.begin(model, 0);
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

    #[test]
    fn a_backend_gets_a_part_of_its_requests_again_and_no_more() {
        let policy = twice(&json!({}));
        let (retries, model) = retries(&policy);
        let mut again = 0_u32;
        for _ in 0..100 {
            let mut tries = retries.begin(model, 0);
            while retries.again(&mut tries, 0, &gone()) {
                again = again.saturating_add(1);
            }
        }
        // What was saved at first, and half a retry of each request.
        assert!((59..=60).contains(&again), "{again}");
    }

    #[test]
    fn a_sequence_is_never_sent_again_and_what_was_not_sent_goes_to_each_server_once() {
        let policy = twice(&json!({"sequence_id": {"int": [0, 10]}}));
        let (retries, model) = retries(&policy);
        let mut tries = retries.begin(model, 0);
        assert!(!retries.again(&mut tries, 0, &gone()));
        for (servers, expected) in [(3, 3), (2, 2), (1, 2)] {
            let mut tries = retries.begin(model, 0);
            let mut sent = 1;
            while tries.unsent(0, servers) {
                sent = i32::saturating_add(sent, 1);
            }
            assert_eq!(sent, expected, "{servers}");
        }
    }
}
