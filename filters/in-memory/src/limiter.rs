//! An in-memory rate-limit service with configurable failures. Clones share one service, so several
//! proxies may call it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tensorgate_policy::decision::LimitCharge;
use tensorgate_policy::policy::{RemainingQuota, Wait};
use tensorgate_policy::{ChargeOutcome, Now, Policy};
use tensorgate_wire::rate_limit::{Descriptor, RateLimitRequest, RateLimitResponse};

/// Behaviour of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LimiterMode {
    /// Answers at once.
    #[default]
    Answers,
    /// Answers when told to.
    Waits,
    /// Fails with a gRPC status.
    Fails(u32),
    /// Always answers with these bytes.
    Says(Vec<u8>),
    /// Unreachable.
    Unreachable,
}

/// The service.
#[derive(Clone, Debug, Default)]
pub struct Limiter(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    mode: LimiterMode,
    /// Consumed quota, by limit and client.
    stored: BTreeMap<Key, Vec<u8>>,
    asked: u64,
}

/// A limit and a client.
type Key = (String, String);

/// gRPC's `NOT_FOUND` and `INVALID_ARGUMENT`.
const NOT_FOUND: u32 = 5;
const INVALID_ARGUMENT: u32 = 3;

impl Limiter {
    /// Sets the behaviour.
    pub fn set_mode(&self, mode: LimiterMode) {
        self.with(|state| state.mode = mode);
    }

    /// Number of calls so far.
    pub fn asked(&self) -> u64 {
        self.with(|state| state.asked)
    }

    /// Forgets all state, like a restarted Redis.
    pub fn forget(&self) {
        self.with(|state| state.stored.clear());
    }

    pub(super) fn is_reachable(&self) -> bool {
        self.with(|state| state.mode != LimiterMode::Unreachable)
    }

    /// The immediate answer; `None` if the service waits.
    pub(super) fn says(
        &self,
        policy: &Policy,
        question: &[u8],
        now: Now,
    ) -> Option<Result<Vec<u8>, u32>> {
        match self.with(|state| state.mode.clone()) {
            LimiterMode::Answers | LimiterMode::Unreachable => {
                Some(self.answer(policy, question, now))
            }
            LimiterMode::Waits => None,
            LimiterMode::Fails(status) => Some(Err(status)),
            LimiterMode::Says(bytes) => Some(Ok(bytes)),
        }
    }

    /// Computes the answer: all limits are charged, or none.
    ///
    /// # Errors
    /// A gRPC status: the request is invalid, or a limit is unknown.
    pub fn answer(&self, policy: &Policy, question: &[u8], now: Now) -> Result<Vec<u8>, u32> {
        let question = RateLimitRequest::from_bytes(question).map_err(|_| INVALID_ARGUMENT)?;
        self.with(|state| {
            state.asked = state.asked.saturating_add(1);
            let mut limit_charges = Vec::new();
            let mut drawn = Vec::new();
            for descriptor in &question.descriptors {
                let (key, limit_charge) = find(policy, descriptor).ok_or(NOT_FOUND)?;
                let fresh = || limit_charge.allowance.fresh().into_vec();
                let stored = state.stored.get(&key).cloned().unwrap_or_else(fresh);
                let spend = limit_charge
                    .allowance
                    .consume(&stored, now, limit_charge.amount);
                drawn.push((key, spend.ok_or(INVALID_ARGUMENT)?));
                limit_charges.push(limit_charge);
            }
            let before: Vec<RemainingQuota> = drawn.iter().map(|(_, drawn)| drawn.before).collect();
            let outcome = if before.iter().all(|level| level.wait == Wait::None) {
                let mut after = Vec::new();
                for (key, drawn) in drawn {
                    let (level, stored) = drawn.after.ok_or(INVALID_ARGUMENT)?;
                    state.stored.insert(key, stored.into_vec());
                    after.push(level);
                }
                ChargeOutcome::Charged(after)
            } else {
                ChargeOutcome::Exceeded(before)
            };
            let answer = RateLimitResponse::of(&limit_charges, &outcome).ok_or(INVALID_ARGUMENT)?;
            Ok(answer.to_bytes())
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        // A thread that panicked has failed its own test.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The limit that a descriptor names, and its key.
fn find(policy: &Policy, descriptor: &Descriptor) -> Option<(Key, LimitCharge)> {
    let [(_, limit), (_, client), ..] = descriptor.entries.as_slice() else {
        return None;
    };
    let amount = descriptor.hits?;
    let mut known = policy.allowances();
    let (.., allowance) = known.find(|(grant, of, allowance)| {
        allowance.is_global()
            && of.name() == client
            && allowance.public_name(grant.name()) == *limit
    })?;
    let key = (limit.clone(), client.clone());
    Some((key, LimitCharge { allowance, amount }))
}
