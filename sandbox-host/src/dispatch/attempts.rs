//! The attempts of one request at a backend, and the retry budget.
//!
//! Requests fill a token bucket and retries empty it. This keeps a failing backend from receiving
//! its load several times over. Each client also has a bucket of its own, half as deep, which its
//! own requests fill. So a client whose requests make servers fail leaves the rest of the budget to
//! others.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tensorgate_base::client_key::ClientKey;
use tensorgate_policy::policy::{Model, Retry};

use crate::backends::BackendError;

/// The tokens that one retry costs. A request adds the configured percentage of it.
const RETRY_COST: u32 = 100;
/// The capacity of the shared bucket: a short burst after any idle time.
const MAX_TOKENS: u32 = 10 * RETRY_COST;
/// The capacity of a client's own bucket.
const MAX_CLIENT_TOKENS: u32 = MAX_TOKENS / 2;
/// The most clients with a bucket that is not full. Beyond it, the fullest bucket is dropped and
/// counts as full.
const MAX_CLIENTS: usize = 1_024;

/// The retry budget of one backend.
#[derive(Debug)]
pub(super) struct RetryBudget {
    rule: Retry,
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    shared: u32,
    /// The buckets of clients with less than [`MAX_CLIENT_TOKENS`].
    by_client: HashMap<ClientKey, u32>,
}

impl Buckets {
    fn add_tokens(&mut self, client_key: ClientKey, share: u32) {
        self.shared = self.shared.saturating_add(share).min(MAX_TOKENS);
        if let Some(own) = self.by_client.get_mut(&client_key) {
            *own = own.saturating_add(share);
            if *own >= MAX_CLIENT_TOKENS {
                self.by_client.remove(&client_key);
            }
        }
    }

    fn take_retry(&mut self, client_key: ClientKey) -> Option<()> {
        let all = self.shared.checked_sub(RETRY_COST)?;
        let known = self.by_client.get(&client_key).copied();
        let own = known.unwrap_or(MAX_CLIENT_TOKENS).checked_sub(RETRY_COST)?;
        if known.is_none() && self.by_client.len() >= MAX_CLIENTS {
            let most = self.by_client.iter().max_by_key(|(_, own)| **own);
            let most = most.map(|(client_key, _)| *client_key)?;
            self.by_client.remove(&most);
        }
        self.by_client.insert(client_key, own);
        self.shared = all;
        Some(())
    }
}

/// The retry state of one request.
#[derive(Debug)]
pub(super) struct RetryState {
    /// The indexes of the endpoints that were tried.
    pub(super) tried: Vec<usize>,
    /// The request's number in the round-robin order.
    pub(super) sequence: usize,
    client_key: ClientKey,
    attempts_left: u32,
    /// How often no connection could be opened.
    unsent_attempts: usize,
}

impl RetryState {
    /// Whether a request that could not be sent is tried again: once at each endpoint, or twice if
    /// there is only one. This costs no tokens, because nothing was sent.
    pub(super) fn retry_unsent(&mut self, endpoint_index: usize, servers: usize) -> bool {
        self.tried.push(endpoint_index);
        self.unsent_attempts = self.unsent_attempts.saturating_add(1);
        self.unsent_attempts < servers.max(2)
    }
}

impl RetryBudget {
    pub(super) fn new(rule: Retry) -> Self {
        Self {
            rule,
            buckets: Mutex::new(Buckets {
                shared: MAX_TOKENS,
                by_client: HashMap::new(),
            }),
        }
    }

    /// Starts a client's request and adds its tokens to the buckets.
    pub(super) fn start_request(
        &self,
        model: &Model,
        client_key: ClientKey,
        turn: usize,
    ) -> RetryState {
        let left = if model.keeps_state() {
            0
        } else {
            self.rule.attempts()
        };
        if left > 0 {
            self.with_buckets(|saved| saved.add_tokens(client_key, self.rule.budget_percent()));
        }
        RetryState {
            tried: Vec::new(),
            sequence: turn,
            client_key,
            attempts_left: left,
            unsent_attempts: 0,
        }
    }

    /// Whether a failed request is sent again. A retry takes tokens from the buckets.
    pub(super) fn try_retry(
        &self,
        tries: &mut RetryState,
        endpoint_index: usize,
        error: &BackendError,
    ) -> bool {
        // A missed deadline leaves no time. A fault is an answer, and so is a client error, unless
        // another server may have less to do.
        // So is an answer that broke after its first byte.
        let is_unanswered = matches!(
            error,
            BackendError::Unavailable(_) | BackendError::ClosedKept(_)
        );
        if !is_unanswered && !error.is_busy() {
            return false;
        }
        let Some(left) = tries.attempts_left.checked_sub(1) else {
            return false;
        };
        if self
            .with_buckets(|saved| saved.take_retry(tries.client_key))
            .is_none()
        {
            return false;
        }
        tries.attempts_left = left;
        tries.tried.push(endpoint_index);
        true
    }

    fn with_buckets<T>(&self, step: impl FnOnce(&mut Buckets) -> T) -> T {
        step(&mut self.buckets.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tensorgate_policy::Policy;

    use super::super::tests::policy;
    use super::*;

    fn twice(parameters: &Value) -> Policy {
        let retry = json!({"attempts": 2, "budget_percent": 50});
        policy(&json!({"retry": retry}), parameters)
    }

    fn retries(policy: &Policy) -> (RetryBudget, &Model) {
        let rule = policy.backends().get("b").map(|backend| backend.retry());
        let model = policy.models().first();
        let (Some(rule), Some(model)) = (rule, model) else {
            unreachable!("the policy has both");
        };
        (RetryBudget::new(rule), model)
    }

    fn who(name: &str) -> ClientKey {
        ClientKey::from_name(Some(name))
    }

    fn gone() -> BackendError {
        BackendError::Unavailable(String::new())
    }

    #[test]
    fn only_what_found_no_server_is_sent_again_and_so_often() {
        let policy = twice(&json!({}));
        let (retries, model) = retries(&policy);
        let mut tries = retries.start_request(model, who("a"), 0);
        for error in [
            BackendError::Timeout(String::new()),
            BackendError::Fault(String::new()),
        ] {
            assert!(!retries.try_retry(&mut tries, 0, &error), "{error}");
        }
        assert!(retries.try_retry(&mut tries, 0, &gone()));
        assert!(retries.try_retry(&mut tries, 1, &BackendError::Busy(String::new())));
        assert_eq!(tries.tried, [0, 1]);
        assert!(
            !retries.try_retry(&mut tries, 0, &gone()),
            "twice is enough"
        );
    }

    /// The number of retries that this many requests of a client get.
    fn again(retries: &RetryBudget, model: &Model, name: &str, requests: u32) -> u32 {
        let mut again = 0_u32;
        for _ in 0..requests {
            let mut tries = retries.start_request(model, who(name), 0);
            while retries.try_retry(&mut tries, 0, &gone()) {
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
        // The initial tokens, and half a retry for each request.
        let all: u32 = turns.sum();
        assert!((59..=60).contains(&all), "{all}");
    }

    #[test]
    fn a_client_has_what_its_own_requests_put_in_and_leaves_others_theirs() {
        let policy = twice(&json!({}));
        let (retries, model) = retries(&policy);
        // Half of the initial tokens, and half a retry for each request.
        let flood = again(&retries, model, "flood", 100);
        assert!((54..=55).contains(&flood), "{flood}");
        assert_eq!(again(&retries, model, "other", 1), 2);
        // A full bucket is not kept.
        let kept = || retries.with_buckets(|saved| saved.by_client.len());
        assert_eq!(kept(), 2);
        for _ in 0..10 {
            retries.start_request(model, who("other"), 0);
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
        assert_eq!(
            retries.with_buckets(|saved| saved.by_client.len()),
            MAX_CLIENTS
        );
        for _ in 0..4 {
            retries.start_request(model, who("quiet"), 0);
        }
        assert_eq!(again(&retries, model, "one more", 1), 2);
    }

    #[test]
    fn a_sequence_is_never_sent_again_and_what_was_not_sent_goes_to_each_server_once() {
        let policy = twice(&json!({"sequence_id": {"int": [0, 10]}}));
        let (retries, model) = retries(&policy);
        let mut tries = retries.start_request(model, who("a"), 0);
        assert!(!retries.try_retry(&mut tries, 0, &gone()));
        for (servers, expected) in [(3, 3), (2, 2), (1, 2)] {
            let mut tries = retries.start_request(model, who("a"), 0);
            let mut sent = 1;
            while tries.retry_unsent(0, servers) {
                sent = i32::saturating_add(sent, 1);
            }
            assert_eq!(sent, expected, "{servers}");
        }
    }
}
