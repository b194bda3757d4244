//! The generic cell rate algorithm (GCRA): one timestamp of state per bucket, exact under
//! compare-and-swap, for amounts as for single requests.
//!
//! The state is the *theoretical arrival time*, the monotonic time at which the bucket is full
//! again, and the rate at which it refills. A reload that changes the rate converts the debt to
//! units and back, so no client gains or waits longer. Nothing is rounded: a bucket can be emptied
//! to its last unit.
//!
//! Unused reserved units are refunded, except those that have refilled since. Without the charge,
//! the bucket would have owed that much less ever since, but never less than nothing. The refund is
//! therefore limited to the minimum debt since the charge. A reservation is identified by the state
//! that it left, and its minimum debt has two lower bounds ([`State::refunded_ns`],
//! [`State::minimums`]). Several reservations never get each other's refund, in any order.

use serde::{Deserialize, Serialize};

use super::StateBytes;

use minimum_debts::{MAX_STEPS, MinimumDebts, Return, Step};

/// Parameters of a bucket, validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Nanoseconds in which `per` units refill, at least 1.
    pub interval_ns: u64,
    /// Units that refill together, at least 1.
    pub per: u64,
    /// Units of a full bucket.
    pub burst: u64,
}

/// State of a bucket, as it is stored. The default is a full bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// When the bucket is full again, in ns; a past time means full.
    pub full_ns: u64,
    /// Additional fraction of a nanosecond, in units of 1 / `per`.
    pub part: u64,
    /// The refill rate: [`Bucket::interval_ns`].
    pub interval_ns: u64,
    /// The refill rate: [`Bucket::per`].
    pub per: u64,
    /// Sum of all refunds, in ns; wraps. It shows how much of a charge is still owed.
    pub refunded_ns: u64,
    /// Number of the last reservation; wraps.
    pub reservation: u32,
    /// Minimum debt since each reservation.
    pub minimums: MinimumDebts,
}

/// Size of a stored state without reservations.
pub const STATE_BYTES: usize = 48;

/// Added to [`State::refunded_ns`] when the rate changes: more than any bucket owes, so earlier
/// charges get no refund.
const OTHER_PACE_NS: u64 = 1 << 60;

/// Whether a charge can be refunded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Spent,
    Reserved,
}

/// Result of consuming units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumeResult {
    /// Allowed; the state to store.
    Allowed(State),
    /// Rejected; the state is unchanged. The same request is allowed after this many nanoseconds;
    /// `None` if never.
    Refused {
        /// Wait, ns.
        retry_after_ns: Option<u64>,
    },
}

impl State {
    /// Decodes a stored state; `None` if the bytes are invalid.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let (
            [
                full,
                part,
                interval,
                per,
                returned,
                reservation,
                minimums @ ..,
            ],
            [],
        ) = (numbers, rest)
        else {
            return None;
        };
        let (steps, []) = minimums.as_chunks::<2>() else {
            return None;
        };
        let [r0, r1, r2, r3, ..] = *reservation;
        Some(Self {
            full_ns: u64::from_le_bytes(*full),
            part: u64::from_le_bytes(*part),
            interval_ns: u64::from_le_bytes(*interval),
            per: u64::from_le_bytes(*per),
            refunded_ns: u64::from_le_bytes(*returned),
            reservation: u32::from_le_bytes([r0, r1, r2, r3]),
            minimums: MinimumDebts::new(steps.iter().map(Step::from_numbers)),
        })
        .filter(|_| steps.len() <= MAX_STEPS)
    }

    /// Encodes the state for storage.
    pub fn to_bytes(&self) -> StateBytes {
        let numbers = [
            self.full_ns,
            self.part,
            self.interval_ns,
            self.per,
            self.refunded_ns,
            self.reservation.into(),
        ];
        let steps = self.minimums.steps().flat_map(|step| step.to_numbers());
        let mut bytes = StateBytes::new();
        let numbers = numbers.into_iter().chain(steps);
        numbers.for_each(|number| bytes.extend(number.to_le_bytes()));
        bytes
    }

    /// Debt in whole nanoseconds.
    const fn debt_ns(&self, now_ns: u64) -> u64 {
        self.full_ns.saturating_sub(now_ns)
    }

    /// A lower bound of the debt since the charge that left the state `spent`, in ns.
    fn least_since(&self, spent: &Self, now_ns: u64) -> u64 {
        let by_steps = self
            .minimums
            .least_since(self.reservation, spent.reservation);
        // The debt was that of `spent` and has since decreased by refunds and by time.
        let set_back_ns = self.refunded_ns.wrapping_sub(spent.refunded_ns);
        let by_return = spent.debt_ns(now_ns).saturating_sub(set_back_ns);
        by_steps.max(by_return).min(self.debt_ns(now_ns))
    }
}

impl Bucket {
    /// Consumes `cost` units at `now_ns` from a bucket in `state`. Pure; the caller stores the new
    /// state.
    pub fn consume(&self, state: &State, now_ns: u64, cost: u64) -> ConsumeResult {
        self.request_hash(state, now_ns, cost, Kept::Spent)
    }

    /// As [`Self::consume`] for units that can be refunded ([`Self::refund`]), which needs some
    /// bytes of state.
    pub fn reserve(&self, state: &State, now_ns: u64, cost: u64) -> ConsumeResult {
        self.request_hash(state, now_ns, cost, Kept::Reserved)
    }

    fn request_hash(&self, state: &State, now_ns: u64, cost: u64, kept: Kept) -> ConsumeResult {
        const NEVER: ConsumeResult = ConsumeResult::Refused {
            retry_after_ns: None,
        };
        if cost > self.burst {
            return NEVER;
        }
        let debt = self.debt(state, now_ns).checked_add(self.ticks(cost));
        // Five centuries after the clock's start, or an invalid state: everything is rejected.
        let Some((debt, next)) =
            debt.and_then(|debt| Some((debt, self.at(state, now_ns, debt, kept)?)))
        else {
            return NEVER;
        };
        let room = self.ticks(self.burst);
        match debt.checked_sub(room) {
            None | Some(0) => ConsumeResult::Allowed(next),
            Some(over) => ConsumeResult::Refused {
                retry_after_ns: Some(self.ceil_ns(over)),
            },
        }
    }

    /// The state converted to this bucket's rate, if that differs. It is stored for any result, so
    /// that the debt refills at this rate from now on.
    pub fn rebased(&self, state: &State, now_ns: u64) -> Option<State> {
        let paces = (state.interval_ns, state.per) != (self.interval_ns, self.per);
        let debt = self.debt(state, now_ns);
        (paces && debt > 0)
            .then(|| self.at(state, now_ns, debt, Kept::Spent))
            .flatten()
    }

    /// Refunds units of a reservation ([`Self::reserve`]) that left the bucket in `spent`, as far
    /// as they are still owed. `None`: nothing.
    ///
    /// Units that have refilled since are not refunded again: a client could otherwise accumulate
    /// more than a full bucket.
    pub fn refund(&self, state: &State, spent: &State, now_ns: u64, units: u64) -> Option<State> {
        let pace = (self.interval_ns, self.per);
        if [state, spent].map(|one| (one.interval_ns, one.per)) != [pace, pace] {
            return None;
        }
        let least_ns = state.least_since(spent, now_ns);
        let least = u128::from(least_ns).saturating_mul(u128::from(self.per));
        let back = self.ticks(units).min(least);
        let debt = self.debt(state, now_ns).checked_sub(back)?;
        // Rounded down, so that no client gains.
        let back_ns = self.ceil_ns(back);
        let (full_ns, part) = self.moment(now_ns, debt)?;
        let returned = Return {
            charge: spent.reservation,
            debt_ns: state.debt_ns(now_ns),
            least_ns,
            back_ns,
        };
        Some(State {
            full_ns,
            part,
            refunded_ns: state.refunded_ns.wrapping_add(back_ns),
            minimums: state.minimums.returned(state.reservation, returned),
            ..*state
        })
        .filter(|_| back > 0)
    }

    /// Consumes units that are used already, even beyond the bucket: it becomes empty at most.
    pub fn force_consume(&self, state: &State, now_ns: u64, units: u64) -> Option<State> {
        let debt = self.debt(state, now_ns);
        let more = debt.saturating_add(self.ticks(units));
        let full = self.ticks(self.burst);
        self.at(state, now_ns, more.min(full).max(debt), Kept::Spent)
    }

    /// Remaining units of a bucket in `state`, and the nanoseconds until it is full.
    pub fn level(&self, state: &State, now_ns: u64) -> (u64, u64) {
        let debt = self.debt(state, now_ns);
        let room = self.ticks(self.burst).saturating_sub(debt);
        let units = divided(room, self.interval_ns).unwrap_or(0);
        (units.min(self.burst), self.ceil_ns(debt))
    }

    /// Refill time of so many units, in 1 / `per` nanoseconds.
    fn ticks(&self, units: u64) -> u128 {
        u128::from(self.interval_ns).saturating_mul(u128::from(units))
    }

    /// Debt at this rate. From another rate, the units are converted, up to the bucket's size.
    fn debt(&self, state: &State, now_ns: u64) -> u128 {
        let debt_ns = state.full_ns.saturating_sub(now_ns);
        if state.full_ns < now_ns || (debt_ns, state.part) == (0, 0) {
            return 0;
        }
        let debt = u128::from(debt_ns)
            .saturating_mul(u128::from(state.per))
            .saturating_add(u128::from(state.part));
        if (state.interval_ns, state.per) == (self.interval_ns, self.per) {
            return debt;
        }
        let rounded = debt.saturating_add(u128::from(state.interval_ns.saturating_sub(1)));
        let units = divided(rounded, state.interval_ns).unwrap_or(self.burst);
        self.ticks(units.min(self.burst))
    }

    /// The state after `state` with this debt.
    fn at(&self, state: &State, now_ns: u64, debt: u128, kept: Kept) -> Option<State> {
        let same = state.per == 0 || (state.interval_ns, state.per) == (self.interval_ns, self.per);
        let moved = if same { 0 } else { OTHER_PACE_NS };
        let mut minimums = if same {
            state.minimums.capped(state.debt_ns(now_ns))
        } else {
            // Minimum debts at another rate are meaningless.
            MinimumDebts::default()
        };
        let mut reservation = state.reservation;
        if kept == Kept::Reserved {
            reservation = reservation.wrapping_add(1);
            minimums = minimums.charged(reservation, divided(debt, self.per)?);
        }
        let (full_ns, part) = self.moment(now_ns, debt)?;
        Some(State {
            full_ns,
            part,
            interval_ns: self.interval_ns,
            per: self.per,
            refunded_ns: state.refunded_ns.wrapping_add(moved),
            reservation,
            minimums,
        })
    }

    /// When a bucket with this debt is full again: nanoseconds and fraction.
    fn moment(&self, now_ns: u64, debt: u128) -> Option<(u64, u64)> {
        let ns = divided(debt, self.per)?;
        let full_ticks = u128::from(ns).saturating_mul(u128::from(self.per));
        let part = u64::try_from(debt.checked_sub(full_ticks)?).ok()?;
        Some((now_ns.checked_add(ns)?, part))
    }

    /// Whole nanoseconds, rounded up.
    fn ceil_ns(&self, ticks: u128) -> u64 {
        let rounded = ticks.saturating_add(u128::from(self.per.saturating_sub(1)));
        divided(rounded, self.per).unwrap_or(u64::MAX)
    }
}

/// A quotient; `None` beyond 64 bits or for a zero divisor. Divisions of 128 bits are slow and
/// rarely needed.
fn divided(number: u128, by: u64) -> Option<u64> {
    if by == 1 {
        return u64::try_from(number).ok();
    }
    match u64::try_from(number) {
        Ok(number) => number.checked_div(by),
        Err(_) => u64::try_from(number.checked_div(u128::from(by))?).ok(),
    }
}

mod minimum_debts;
#[cfg(test)]
mod refunds;
#[cfg(test)]
mod tests;
