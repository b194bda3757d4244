//! Limits of scope `local` that this host counts: plain counters in its memory. A charge of several
//! limits is made whole or not at all, because one lock covers all of them.
//!
//! `tensorgate_policy` defines the state of a limit and its arithmetic. The names of clients and
//! grants are in the key of a state, and its quota is not. So usage survives a reload that changes
//! a limit. Keys come from policies and from slots of a bounded number, and states of unused limits
//! are removed, so the memory is bounded by the loaded policies. No other state is removed: its
//! user would get a full quota again.
//!
//! States of windows longer than a minute can be saved and restored over a restart of the host. A
//! saved state has no time of the monotonic clock, which begins anew with the machine.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tensorgate_policy::decision::{Charge, LimitCharge, SLOT_PREFIX};
use tensorgate_policy::policy::{Allowance, ChargePreview, Limit};
use tensorgate_policy::time::DAY_S;
use tensorgate_policy::{ChargeOutcome, Now, budget, gcra};

use crate::saved_limits::{self, MAX_SAVED_OTHERS, MAX_SAVED_SLOTS, SavedLimit, StateForm};

/// The longest window whose usage may be forgotten at a restart, in seconds.
const MAX_FORGOTTEN_S: u64 = 60;
/// Parts of the states. Saving and removing stop charges for the time of one part only.
const PARTS: usize = 64;
/// The number of states of a part from which unused ones are removed.
const MIN_SWEEP: usize = 64;

/// What was spent before this host started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// Nothing, or what is restored.
    Known,
    /// Unknown: half of each limit whose window is longer than a minute.
    Half,
}

/// The counters of all local limits.
#[derive(Debug)]
pub struct LocalLimits(Mutex<State>);

#[derive(Debug)]
struct State {
    spent: Spent,
    began: Now,
    parts: Vec<Part>,
    hasher: RandomState,
    /// Whether a state that is saved has changed since it was.
    is_changed: bool,
}

#[derive(Debug)]
struct Part {
    slots: HashMap<String, Slot>,
    /// The number of states at which unused ones are removed.
    sweep_at: usize,
}

/// The state of one limit of one holder.
#[derive(Debug)]
struct Slot {
    form: StateForm,
    /// Whether it is saved.
    is_long: bool,
    state: Vec<u8>,
}

/// A reservation of tokens. Its unused part comes back once the usage is known, and not otherwise.
#[derive(Debug, PartialEq, Eq)]
pub struct LocalReservation {
    key: String,
    limit_charge: LimitCharge,
    /// The state that the charge left.
    state: Vec<u8>,
}

impl LocalLimits {
    /// Counters of a host that starts `now`.
    pub fn new(spent: Spent, now: Now) -> Self {
        Self(Mutex::new(State {
            spent,
            began: now,
            parts: std::iter::repeat_with(Part::default).take(PARTS).collect(),
            hasher: RandomState::new(),
            is_changed: false,
        }))
    }

    /// Charges all limits or none. Reservations of tokens are returned.
    pub fn charge(&self, charge: &Charge, now: Now) -> (ChargeOutcome, Vec<LocalReservation>) {
        let mut state = self.lock();
        let mut previews: Vec<(String, &LimitCharge, ChargePreview)> =
            Vec::with_capacity(charge.limit_charges.len());
        for limit_charge in &charge.limit_charges {
            let key = charge.key(limit_charge);
            let Some(preview) = state.preview(&key, limit_charge, now) else {
                // A state that is none: the limit cannot be enforced.
                return (ChargeOutcome::Failed, Vec::new());
            };
            previews.push((key, limit_charge, preview));
        }
        let mut quotas = Vec::with_capacity(previews.len());
        if previews.iter().any(|(.., preview)| preview.after.is_none()) {
            for (key, limit_charge, preview) in previews {
                quotas.push(preview.before);
                if let Some(rebased) = preview.rebased {
                    state.store(key, &limit_charge.allowance, rebased.into_vec(), now);
                }
            }
            return (ChargeOutcome::Exceeded(quotas), Vec::new());
        }
        let mut reserved = Vec::new();
        for (key, limit_charge, preview) in previews {
            let Some((quota, after)) = preview.after else {
                continue;
            };
            quotas.push(quota);
            if limit_charge.allowance.is_reserved() {
                reserved.push(LocalReservation {
                    key: key.clone(),
                    limit_charge: *limit_charge,
                    state: after.to_vec(),
                });
            }
            state.store(key, &limit_charge.allowance, after.into_vec(), now);
        }
        (ChargeOutcome::Charged(quotas), reserved)
    }

    /// Settles reservations to the units that were `used`, at least one. Each is settled once, and
    /// so it is given up here.
    pub fn settle(&self, reserved: Vec<LocalReservation>, used: u64, now: Now) {
        let mut state = self.lock();
        for LocalReservation {
            key,
            limit_charge,
            state: reserved,
        } in reserved
        {
            let LimitCharge { allowance, amount } = limit_charge;
            let settled = {
                let stored = state.stored(&key, &allowance);
                allowance.settle(&stored, &reserved, now, (amount, used.max(1)))
            };
            if let Some(settled) = settled {
                state.store(key, &allowance, settled.into_vec(), now);
            }
        }
    }

    /// Whether a state that is saved has changed since the last call.
    pub fn take_changed(&self) -> bool {
        std::mem::take(&mut self.lock().is_changed)
    }

    /// Appends the states to save. Charges go on between two parts; one of them changes what the
    /// next call saves. Returns the number of states that are left out, because there are too many.
    pub fn append_saved(&self, now: Now, at_unix_ms: u64, bytes: &mut Vec<u8>) -> usize {
        saved_limits::append_time(at_unix_ms, bytes);
        let (mut slots, mut others, mut left_out) = (MAX_SAVED_SLOTS, MAX_SAVED_OTHERS, 0_usize);
        for index in 0..PARTS {
            let state = self.lock();
            let part = state.parts.get(index).map(|part| part.slots.iter());
            for (key, slot) in part.into_iter().flatten() {
                let Some(state) = slot.to_saved(now) else {
                    continue;
                };
                let left = match key.starts_with(SLOT_PREFIX) {
                    true => &mut slots,
                    false => &mut others,
                };
                match left.checked_sub(1) {
                    Some(fewer) => {
                        *left = fewer;
                        saved_limits::append(key, slot.form, &state, bytes);
                    }
                    None => left_out = left_out.saturating_add(1),
                }
            }
        }
        left_out
    }

    /// The states are not in the file, so the next save writes them.
    pub fn not_saved(&self) {
        self.lock().is_changed = true;
    }

    /// Restores states that were saved `ago_ns` before. Returns the number of invalid ones, which
    /// are left out.
    pub fn restore(&self, saved: Vec<SavedLimit>, ago_ns: u64, now: Now) -> usize {
        let mut state = self.lock();
        let mut invalid: usize = 0;
        for SavedLimit {
            key,
            form,
            state: bytes,
        } in saved
        {
            let restored = match form {
                StateForm::Window => restored_bucket(&bytes, ago_ns, now),
                StateForm::Day => budget::DailyUsage::from_bytes(&bytes).map(|_| bytes),
            };
            match restored {
                Some(restored) => {
                    let slot = Slot {
                        form,
                        is_long: true,
                        state: restored,
                    };
                    if let Some(part) = state.part_mut(&key) {
                        part.slots.insert(key, slot);
                    }
                }
                None => invalid = invalid.saturating_add(1),
            }
        }
        invalid
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The charge of a limit, which is not made yet; `None` if the state is invalid.
    fn preview(&self, key: &str, limit_charge: &LimitCharge, now: Now) -> Option<ChargePreview> {
        let LimitCharge { allowance, amount } = limit_charge;
        let stored = self.stored(key, allowance);
        allowance.consume(&stored, now, *amount)
    }

    /// The state of a limit, or that of one that was not used since the start.
    fn stored(&self, key: &str, allowance: &Allowance) -> Cow<'_, [u8]> {
        let part = self.parts.get(self.index(key));
        match part.and_then(|part| part.slots.get(key)) {
            Some(slot) => Cow::Borrowed(&slot.state),
            None => Cow::Owned(self.unused(allowance)),
        }
    }

    fn unused(&self, allowance: &Allowance) -> Vec<u8> {
        let fresh = allowance.fresh();
        if self.spent == Spent::Known || !is_long(allowance) {
            return fresh.into_vec();
        }
        // Spent at the start, so it refills from then on.
        let half = allowance.most().div_ceil(2);
        let charged = allowance.consume(&fresh, self.began, half);
        let after = charged.and_then(|charged| charged.after);
        after.map_or(fresh, |(_, state)| state).into_vec()
    }

    fn store(&mut self, key: String, allowance: &Allowance, state: Vec<u8>, now: Now) {
        let slot = Slot {
            form: match allowance.limit {
                Limit::Window(_) => StateForm::Window,
                Limit::Day(_) => StateForm::Day,
            },
            is_long: is_long(allowance),
            state,
        };
        self.is_changed |= slot.is_long;
        if let Some(part) = self.part_mut(&key) {
            part.insert(key, slot, now);
        }
    }

    fn part_mut(&mut self, key: &str) -> Option<&mut Part> {
        let index = self.index(key);
        self.parts.get_mut(index)
    }

    /// The index of the part that has a key's state.
    fn index(&self, key: &str) -> usize {
        let parts = u64::try_from(PARTS).unwrap_or(1);
        let index = self.hasher.hash_one(key).checked_rem(parts);
        usize::try_from(index.unwrap_or(0)).unwrap_or(0)
    }
}

impl Default for Part {
    fn default() -> Self {
        Self {
            slots: HashMap::new(),
            sweep_at: MIN_SWEEP,
        }
    }
}

impl Part {
    fn insert(&mut self, key: String, slot: Slot, now: Now) {
        self.slots.insert(key, slot);
        if self.slots.len() >= self.sweep_at {
            self.slots.retain(|_, slot| !slot.is_unused(now));
            self.sweep_at = self.slots.len().saturating_mul(2).max(MIN_SWEEP);
        }
    }
}

impl Slot {
    /// Whether the limit has all of its quota.
    fn is_unused(&self, now: Now) -> bool {
        match self.form {
            StateForm::Window => gcra::State::from_bytes(&self.state)
                .is_some_and(|state| state.full_ns < now.monotonic_ns),
            StateForm::Day => {
                let today = now.unix_s.checked_div(DAY_S).unwrap_or_default();
                budget::DailyUsage::from_bytes(&self.state).is_some_and(|spent| spent.day < today)
            }
        }
    }

    /// The state without times of the monotonic clock; `None` if it is not saved.
    fn to_saved(&self, now: Now) -> Option<Cow<'_, [u8]>> {
        if !self.is_long || self.is_unused(now) {
            return None;
        }
        match self.form {
            StateForm::Window => {
                let state = gcra::State::from_bytes(&self.state)?;
                let debt_ns = state.full_ns.saturating_sub(now.monotonic_ns);
                Some(Cow::Owned(
                    without_reservations(&state, debt_ns).to_bytes().into_vec(),
                ))
            }
            StateForm::Day => Some(Cow::Borrowed(&self.state)),
        }
    }
}

/// A saved bucket `ago_ns` later; `None` if it is invalid.
fn restored_bucket(saved: &[u8], ago_ns: u64, now: Now) -> Option<Vec<u8>> {
    let saved = gcra::State::from_bytes(saved)?;
    let debt_ns = saved.full_ns.saturating_sub(ago_ns);
    let full_ns = now.monotonic_ns.saturating_add(debt_ns);
    Some(without_reservations(&saved, full_ns).to_bytes().into_vec())
}

/// A bucket that is full at this time. Reservations end with the process that could settle them.
fn without_reservations(state: &gcra::State, full_ns: u64) -> gcra::State {
    gcra::State {
        full_ns,
        part: state.part,
        interval_ns: state.interval_ns,
        per: state.per,
        ..gcra::State::default()
    }
}

/// Whether usage must survive a restart.
const fn is_long(allowance: &Allowance) -> bool {
    allowance.window_s() > MAX_FORGOTTEN_S
}

#[cfg(test)]
mod tests;
