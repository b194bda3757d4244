//! The generic cell rate algorithm: one moment of state a bucket, exact under compare-and-swap, for amounts as for single requests.
//!
//! State is the *theoretical arrival time*: the monotonic moment at which the bucket is full again, and beside it the pace at which it was
//! filling. A reload that changes the pace changes what is owed into units and back: nobody gains by it, and nobody waits for a pace that is gone.
//! Nothing is rounded: a bucket is emptied to its last unit, in whatever pieces.
//!
//! What was reserved and not used is given back, as far as time has not given it back already. Had it never been charged, the bucket would have owed
//! that much less ever since, but no less than nothing: so as much comes back as the bucket has owed at the least at any time since the charge. A reservation is
//! known by the state that it left, and that least is known from two sides ([`State::returned_ns`], [`State::lows`]), neither of which is ever too high. Of
//! several at once, none gets what another one had, in whatever order they end.

use alloc::vec::Vec;

use lows::{Lows, MAX_STEPS, Return, STEP_BYTES, Step};

/// A bucket's shape, validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Nanoseconds for `per` units to come back, at least 1.
    pub interval_ns: u64,
    /// Units that come back together, at least 1.
    pub per: u64,
    /// Units that a full bucket holds.
    pub burst: u64,
}

/// A bucket's state, as it is stored. The default is a fresh bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// When it is full again, ns; full already if that is past.
    pub full_ns: u64,
    /// And so many parts of a nanosecond, of which `per` are a whole.
    pub part: u64,
    /// The pace at which it was filling: [`Bucket::interval_ns`].
    pub interval_ns: u64,
    /// The pace at which it was filling: [`Bucket::per`].
    pub per: u64,
    /// How far it was set back by all that was given back, ns; wraps. What a charge left, less what was given back since, is owed still.
    pub returned_ns: u64,
    /// The number of the last reservation; wraps.
    pub reservation: u32,
    /// What it has owed at the least since each reservation.
    pub lows: Lows,
}

/// Bytes of a stored state of which nothing was reserved.
pub const STATE_BYTES: usize = 48;
/// Bytes of any stored state, at most.
pub const MAX_STATE_BYTES: usize = STATE_BYTES + MAX_STEPS * STEP_BYTES;

/// What a change of pace adds to [`State::returned_ns`]: more than any bucket owes, so that nothing is given back of what was spent before it.
const OTHER_PACE_NS: u64 = 1 << 60;

/// Whether what is spent may come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Spent,
    Reserved,
}

/// What a spend came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spend {
    /// Allowed; the state to store.
    Allowed(State),
    /// Refused; state stays. The same spend passes after this many nanoseconds; `None` if it never can.
    Refused {
        /// Wait, ns.
        retry_after_ns: Option<u64>,
    },
}

impl State {
    /// Reads a stored state; `None` if it is not one.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let ([full, part, interval, per, returned, reservation, lows @ ..], []) = (numbers, rest)
        else {
            return None;
        };
        let (steps, []) = lows.as_chunks::<2>() else {
            return None;
        };
        let [r0, r1, r2, r3, ..] = *reservation;
        Some(Self {
            full_ns: u64::from_le_bytes(*full),
            part: u64::from_le_bytes(*part),
            interval_ns: u64::from_le_bytes(*interval),
            per: u64::from_le_bytes(*per),
            returned_ns: u64::from_le_bytes(*returned),
            reservation: u32::from_le_bytes([r0, r1, r2, r3]),
            lows: Lows::new(steps.iter().map(Step::from_numbers)),
        })
        .filter(|_| steps.len() <= MAX_STEPS)
    }

    /// The state as it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        let numbers = [
            self.full_ns,
            self.part,
            self.interval_ns,
            self.per,
            self.returned_ns,
            self.reservation.into(),
        ];
        let steps = self.lows.steps().flat_map(|step| step.to_numbers());
        let mut bytes = Vec::with_capacity(MAX_STATE_BYTES);
        let numbers = numbers.into_iter().chain(steps);
        numbers.for_each(|number| bytes.extend(number.to_le_bytes()));
        bytes
    }

    /// What it owes, whole nanoseconds.
    const fn owed_ns(&self, now_ns: u64) -> u64 {
        self.full_ns.saturating_sub(now_ns)
    }

    /// No more than what it has owed at any time since the charge that left it in `spent`, ns.
    fn least_since(&self, spent: &Self, now_ns: u64) -> u64 {
        let by_steps = self.lows.least_since(self.reservation, spent.reservation);
        // It stood there, and has gone back by what was given back since, and by time.
        let set_back_ns = self.returned_ns.wrapping_sub(spent.returned_ns);
        let by_return = spent.owed_ns(now_ns).saturating_sub(set_back_ns);
        by_steps.max(by_return).min(self.owed_ns(now_ns))
    }
}

impl Bucket {
    /// Spends `cost` units at `now_ns` from a bucket in `state`. Pure; the caller stores the new state.
    pub fn spend(&self, state: &State, now_ns: u64, cost: u64) -> Spend {
        self.draw(state, now_ns, cost, Kept::Spent)
    }

    /// The same of units that may come back ([`Self::give_back`]): what is kept for that takes some bytes.
    pub fn reserve(&self, state: &State, now_ns: u64, cost: u64) -> Spend {
        self.draw(state, now_ns, cost, Kept::Reserved)
    }

    fn draw(&self, state: &State, now_ns: u64, cost: u64, kept: Kept) -> Spend {
        const NEVER: Spend = Spend::Refused {
            retry_after_ns: None,
        };
        if cost > self.burst {
            return NEVER;
        }
        let owed = self.owed(state, now_ns).checked_add(self.ticks(cost));
        // Five centuries from the clock's start, or a state that is not ours: nothing passes.
        let Some((owed, next)) =
            owed.and_then(|owed| Some((owed, self.at(state, now_ns, owed, kept)?)))
        else {
            return NEVER;
        };
        let room = self.ticks(self.burst);
        match owed.checked_sub(room) {
            None | Some(0) => Spend::Allowed(next),
            Some(over) => Spend::Refused {
                retry_after_ns: Some(self.whole_ns(over)),
            },
        }
    }

    /// The same state at this bucket's pace, if it was filling at another: to be stored whatever a spend comes to, so that what is owed comes
    /// back at this pace from now on.
    pub fn rebased(&self, state: &State, now_ns: u64) -> Option<State> {
        let paces = (state.interval_ns, state.per) != (self.interval_ns, self.per);
        let owed = self.owed(state, now_ns);
        (paces && owed > 0)
            .then(|| self.at(state, now_ns, owed, Kept::Spent))
            .flatten()
    }

    /// Gives units back of an amount whose reservation ([`Self::reserve`]) left the bucket in `spent`: as many as it still owes for them. `None`: none.
    ///
    /// What time has given back since is not given a second time: whoever got it could save up more than a full bucket holds.
    pub fn give_back(
        &self,
        state: &State,
        spent: &State,
        now_ns: u64,
        units: u64,
    ) -> Option<State> {
        let pace = (self.interval_ns, self.per);
        if [state, spent].map(|one| (one.interval_ns, one.per)) != [pace, pace] {
            return None;
        }
        let least_ns = state.least_since(spent, now_ns);
        let least = u128::from(least_ns).saturating_mul(u128::from(self.per));
        let back = self.ticks(units).min(least);
        let owed = self.owed(state, now_ns).checked_sub(back)?;
        // Rounded so that nobody gets more by it.
        let back_ns = self.whole_ns(back);
        let (full_ns, part) = self.moment(now_ns, owed)?;
        let returned = Return {
            charge: spent.reservation,
            owed_ns: state.owed_ns(now_ns),
            least_ns,
            back_ns,
        };
        Some(State {
            full_ns,
            part,
            returned_ns: state.returned_ns.wrapping_add(back_ns),
            lows: state.lows.returned(state.reservation, returned),
            ..*state
        })
        .filter(|_| back > 0)
    }

    /// Spends units that are used already, whether the bucket has them or not: it is empty at the worst.
    pub fn take(&self, state: &State, now_ns: u64, units: u64) -> Option<State> {
        let owed = self.owed(state, now_ns);
        let more = owed.saturating_add(self.ticks(units));
        let full = self.ticks(self.burst);
        self.at(state, now_ns, more.min(full).max(owed), Kept::Spent)
    }

    /// What a bucket in `state` holds: units, and the nanoseconds until it is full.
    pub fn level(&self, state: &State, now_ns: u64) -> (u64, u64) {
        let owed = self.owed(state, now_ns);
        let room = self.ticks(self.burst).saturating_sub(owed);
        let units = divided(room, self.interval_ns).unwrap_or(0);
        (units.min(self.burst), self.whole_ns(owed))
    }

    /// The time in which so many units come back, in parts of a nanosecond of which `per` are a whole.
    fn ticks(&self, units: u64) -> u128 {
        u128::from(self.interval_ns).saturating_mul(u128::from(units))
    }

    /// What is owed at this pace. Under another pace the same units are, but no more than the bucket holds.
    fn owed(&self, state: &State, now_ns: u64) -> u128 {
        let owed_ns = state.full_ns.saturating_sub(now_ns);
        if state.full_ns < now_ns || (owed_ns, state.part) == (0, 0) {
            return 0;
        }
        let owed = u128::from(owed_ns)
            .saturating_mul(u128::from(state.per))
            .saturating_add(u128::from(state.part));
        if (state.interval_ns, state.per) == (self.interval_ns, self.per) {
            return owed;
        }
        let rounded = owed.saturating_add(u128::from(state.interval_ns.saturating_sub(1)));
        let units = divided(rounded, state.interval_ns).unwrap_or(self.burst);
        self.ticks(units.min(self.burst))
    }

    /// The state after `state` of a bucket that owes so much.
    fn at(&self, state: &State, now_ns: u64, owed: u128, kept: Kept) -> Option<State> {
        let same = state.per == 0 || (state.interval_ns, state.per) == (self.interval_ns, self.per);
        let moved = if same { 0 } else { OTHER_PACE_NS };
        let mut lows = if same {
            state.lows.capped(state.owed_ns(now_ns))
        } else {
            // Nothing of what was owed at another pace is known any more.
            Lows::default()
        };
        let mut reservation = state.reservation;
        if kept == Kept::Reserved {
            reservation = reservation.wrapping_add(1);
            lows = lows.charged(reservation, divided(owed, self.per)?);
        }
        let (full_ns, part) = self.moment(now_ns, owed)?;
        Some(State {
            full_ns,
            part,
            interval_ns: self.interval_ns,
            per: self.per,
            returned_ns: state.returned_ns.wrapping_add(moved),
            reservation,
            lows,
        })
    }

    /// When a bucket that owes so much is full again: nanoseconds, and parts of one.
    fn moment(&self, now_ns: u64, owed: u128) -> Option<(u64, u64)> {
        let ns = divided(owed, self.per)?;
        let whole = u128::from(ns).saturating_mul(u128::from(self.per));
        let part = u64::try_from(owed.checked_sub(whole)?).ok()?;
        Some((now_ns.checked_add(ns)?, part))
    }

    /// Whole nanoseconds, rounded up.
    fn whole_ns(&self, ticks: u128) -> u64 {
        let rounded = ticks.saturating_add(u128::from(self.per.saturating_sub(1)));
        divided(rounded, self.per).unwrap_or(u64::MAX)
    }
}

/// A quotient; `None` beyond 64 bits, or over nothing. A division of 128 bits is many times as dear as one of 64, and hardly ever needed.
fn divided(number: u128, by: u64) -> Option<u64> {
    if by == 1 {
        return u64::try_from(number).ok();
    }
    match u64::try_from(number) {
        Ok(number) => number.checked_div(by),
        Err(_) => u64::try_from(number.checked_div(u128::from(by))?).ok(),
    }
}

mod lows;
#[cfg(test)]
mod returned;
#[cfg(test)]
mod tests;
