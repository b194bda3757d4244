//! A rate limit service in memory, and the ways in which one can fail. Clones are one service: several proxies may ask it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tensorgate_policy::decision::Debit;
use tensorgate_policy::policy::{Level, Wait};
use tensorgate_policy::{ChargeOutcome, Now, Policy};
use tensorgate_wire::rate_limit::{
    Answer, Code, Descriptor, Question, RESERVES_KEY, SETTLES_KEY, USED_KEY,
};

/// How it behaves from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LimiterMode {
    /// It answers at once.
    #[default]
    Answers,
    /// It answers when it is told to.
    Waits,
    /// It answers with a status of gRPC's.
    Fails(u32),
    /// It answers this, whatever is asked.
    Says(Vec<u8>),
    /// There is no way to it.
    Unreachable,
}

/// A service.
#[derive(Clone, Debug, Default)]
pub struct Limiter(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    mode: LimiterMode,
    /// What was spent, by limit and client.
    stored: BTreeMap<Key, Vec<u8>>,
    /// What was reserved and is not settled, and the state that it left, by its name too.
    reserved: BTreeMap<(Key, String), (u64, Vec<u8>)>,
    asked: u64,
    settled: u64,
}

/// A limit, and a client.
type Key = (String, String);

/// gRPC's `NOT_FOUND` and `INVALID_ARGUMENT`.
const NOT_FOUND: u32 = 5;
const INVALID_ARGUMENT: u32 = 3;

impl Limiter {
    /// Changes how it behaves.
    pub fn set_mode(&self, mode: LimiterMode) {
        self.with(|state| state.mode = mode);
    }

    /// Questions so far.
    pub fn asked(&self) -> u64 {
        self.with(|state| state.asked)
    }

    /// Reservations settled so far.
    pub fn settled(&self) -> u64 {
        self.with(|state| state.settled)
    }

    /// Forgets all of it, as a Redis does that starts anew.
    pub fn forget(&self) {
        self.with(|state| {
            state.stored.clear();
            state.reserved.clear();
        });
    }

    pub(super) fn is_reachable(&self) -> bool {
        self.with(|state| state.mode != LimiterMode::Unreachable)
    }

    /// What it says at once; `None` if it waits.
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

    /// What it comes to: all of the limits are spent from, or none.
    ///
    /// # Errors
    /// A status of gRPC's: the question is none, or of a limit that no policy has.
    pub fn answer(&self, policy: &Policy, question: &[u8], now: Now) -> Result<Vec<u8>, u32> {
        let question = Question::from_bytes(question).map_err(|_| INVALID_ARGUMENT)?;
        self.with(|state| {
            if question.descriptors.iter().any(|it| it.entries.len() == 4) {
                return state.settle(policy, &question, now);
            }
            state.asked = state.asked.saturating_add(1);
            let mut debits = Vec::new();
            let mut drawn = Vec::new();
            let mut reserves = Vec::new();
            for descriptor in &question.descriptors {
                let (key, debit) = find(policy, descriptor).ok_or(NOT_FOUND)?;
                reserves.push(entry(descriptor, RESERVES_KEY).map(str::to_owned));
                let fresh = || debit.allowance.fresh();
                let stored = state.stored.get(&key).cloned().unwrap_or_else(fresh);
                let spend = debit.allowance.spend(&stored, now, debit.amount);
                drawn.push((key, spend.ok_or(INVALID_ARGUMENT)?));
                debits.push(debit);
            }
            let before: Vec<Level> = drawn.iter().map(|(_, drawn)| drawn.before).collect();
            let outcome = if before.iter().all(|level| level.wait == Wait::None) {
                let mut after = Vec::new();
                for (((key, drawn), reserves), debit) in
                    drawn.into_iter().zip(reserves).zip(&debits)
                {
                    let (level, stored) = drawn.after.ok_or(INVALID_ARGUMENT)?;
                    if let Some(name) = reserves {
                        let reserved = (debit.amount, stored.clone());
                        let place = (key.clone(), name);
                        state.reserved.entry(place).or_insert(reserved);
                    }
                    state.stored.insert(key, stored);
                    after.push(level);
                }
                ChargeOutcome::Spent(after)
            } else {
                ChargeOutcome::Refused(before)
            };
            let answer = Answer::of(&debits, &outcome).ok_or(INVALID_ARGUMENT)?;
            Ok(answer.to_bytes())
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        // A thread that panicked has failed its own test.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    /// Settles what is reserved and not settled yet.
    fn settle(&mut self, policy: &Policy, question: &Question, now: Now) -> Result<Vec<u8>, u32> {
        let mut settled = false;
        for descriptor in &question.descriptors {
            let (key, debit) = find(policy, descriptor).ok_or(NOT_FOUND)?;
            let name = entry(descriptor, SETTLES_KEY).ok_or(INVALID_ARGUMENT)?;
            let used = entry(descriptor, USED_KEY).and_then(|used| used.parse().ok());
            let amounts = (debit.amount, used.ok_or(INVALID_ARGUMENT)?);
            let place = (key.clone(), name.to_owned());
            let known = self.reserved.get(&place);
            let Some(left) = known.filter(|(amount, _)| *amount == debit.amount) else {
                continue;
            };
            let stored = self.stored.get(&key).ok_or(NOT_FOUND)?;
            if let Some(after) = debit.allowance.settle(stored, &left.1, now, amounts) {
                self.stored.insert(key, after);
            }
            self.reserved.remove(&place);
            self.settled = self.settled.saturating_add(1);
            settled = true;
        }
        let answer = Answer {
            code: Code::Ok,
            ..Answer::default()
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
fn find(policy: &Policy, descriptor: &Descriptor) -> Option<(Key, Debit)> {
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
    Some((key, Debit { allowance, amount }))
}
