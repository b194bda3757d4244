//! An in-memory rate-limit service with configurable failures. Clones share one service, so several
//! proxies may call it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tensorgate_policy::decision::LimitCharge;
use tensorgate_policy::policy::{RemainingQuota, Wait};
use tensorgate_policy::{ChargeOutcome, Now, Policy};
use tensorgate_wire::rate_limit::{
    Code, Descriptor, RESERVES_KEY, RateLimitRequest, RateLimitResponse, SETTLES_KEY, USED_KEY,
};

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
    /// Unsettled reservations and their resulting state, by limit and name.
    reserved: BTreeMap<(Key, String), (u64, Vec<u8>)>,
    asked: u64,
    settled: u64,
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

    /// Number of settled reservations so far.
    pub fn settled(&self) -> u64 {
        self.with(|state| state.settled)
    }

    /// Forgets all state, like a restarted Redis.
    pub fn forget(&self) {
        self.with(|state| {
            state.stored.clear();
            state.reserved.clear();
        });
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
            if question.descriptors.iter().any(|it| it.entries.len() == 4) {
                return state.settle(policy, &question, now);
            }
            state.asked = state.asked.saturating_add(1);
            let mut limit_charges = Vec::new();
            let mut drawn = Vec::new();
            let mut reserves = Vec::new();
            for descriptor in &question.descriptors {
                let (key, limit_charge) = find(policy, descriptor).ok_or(NOT_FOUND)?;
                reserves.push(entry(descriptor, RESERVES_KEY).map(str::to_owned));
                let fresh = || limit_charge.allowance.fresh();
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
                for (((key, drawn), reserves), limit_charge) in
                    drawn.into_iter().zip(reserves).zip(&limit_charges)
                {
                    let (level, stored) = drawn.after.ok_or(INVALID_ARGUMENT)?;
                    if let Some(name) = reserves {
                        let reserved = (limit_charge.amount, stored.clone());
                        let place = (key.clone(), name);
                        state.reserved.entry(place).or_insert(reserved);
                    }
                    state.stored.insert(key, stored);
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

impl State {
    /// Settles an unsettled reservation.
    fn settle(
        &mut self,
        policy: &Policy,
        question: &RateLimitRequest,
        now: Now,
    ) -> Result<Vec<u8>, u32> {
        let mut settled = false;
        for descriptor in &question.descriptors {
            let (key, limit_charge) = find(policy, descriptor).ok_or(NOT_FOUND)?;
            let name = entry(descriptor, SETTLES_KEY).ok_or(INVALID_ARGUMENT)?;
            let used = entry(descriptor, USED_KEY).and_then(|used| used.parse().ok());
            let amounts = (limit_charge.amount, used.ok_or(INVALID_ARGUMENT)?);
            let place = (key.clone(), name.to_owned());
            let known = self.reserved.get(&place);
            let Some(left) = known.filter(|(amount, _)| *amount == limit_charge.amount) else {
                continue;
            };
            let stored = self.stored.get(&key).ok_or(NOT_FOUND)?;
            if let Some(after) = limit_charge.allowance.settle(stored, &left.1, now, amounts) {
                self.stored.insert(key, after);
            }
            self.reserved.remove(&place);
            self.settled = self.settled.saturating_add(1);
            settled = true;
        }
        let answer = RateLimitResponse {
            code: Code::Ok,
            ..RateLimitResponse::default()
        };
        settled.then(|| answer.to_bytes()).ok_or(NOT_FOUND)
    }
}

fn entry<'d>(descriptor: &'d Descriptor, key: &str) -> Option<&'d str> {
    let mut entries = descriptor.entries.iter();
    let (_, value) = entries.find(|(known, _)| known == key)?;
    Some(value)
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
