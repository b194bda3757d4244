//! A limit that gateways share, in the numbers of a counter outside that computes with doubles: whole microseconds and parts of one,
//! each below 2^53, so that sums and comparisons are all it needs and all of them are exact.
//!
//! A counter keeps when a bucket is full again, or what was spent of a day, and says what it found before it spent. What that comes to
//! is computed here a second time, from what it said: a counter that says something else than it did is no counter. With the same spends at
//! the same microseconds it comes to what [`crate::gcra`] and [`crate::budget`] do.

mod settlement;

use alloc::vec::Vec;

use crate::budget::DAY_S;
use crate::decision::{ChargeOutcome, Debit};
use crate::policy::{Allowance, Level, Limit, Wait};

pub use settlement::{Change, Stands};

/// Nanoseconds a microsecond.
const MICRO_NS: u64 = 1_000;
/// Microseconds a second.
pub const SECOND_US: u64 = 1_000_000;
/// The longest that an empty bucket may take to fill, seconds: added to any date of this century it is below 2^53 microseconds.
pub const MAX_FILL_S: u64 = 1_000_000_000;

/// An amount of one limit, as a counter is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// Of a bucket that fills steadily.
    Bucket {
        /// The pace: so many microseconds …
        interval: u64,
        /// … for so many units. Parts of a microsecond are counted in this many.
        per: u64,
        /// The time in which the amount comes back.
        cost: Span,
        /// The time in which an empty bucket fills.
        room: Span,
    },
    /// Of a day.
    Day {
        /// Units.
        cost: u64,
        /// Units of a day.
        limit: u64,
    },
}

/// A time: microseconds, and parts of one, fewer than make a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Whole ones.
    pub us: u64,
    /// Parts.
    pub part: u64,
}

/// What a counter found before it spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// What a bucket owed.
    Owed(Span),
    /// What was spent of a day.
    Spent {
        /// Days since the Unix epoch.
        day: u64,
        /// Units.
        units: u64,
    },
}

impl Terms {
    /// The terms of a debit; `None` for one that no bucket and no day ever has.
    pub fn of(debit: &Debit) -> Option<Self> {
        let Debit { allowance, amount } = debit;
        if *amount > allowance.most() {
            return None;
        }
        match allowance.limit {
            Limit::Day(limit) => Some(Self::Day {
                cost: *amount,
                limit,
            }),
            Limit::Window(rate) => {
                let bucket = rate.bucket;
                // `interval_ns` for `per` units is `interval` microseconds for `per` units, in lowest terms of a thousand.
                let common = common_divisor(bucket.interval_ns, MICRO_NS);
                let interval = bucket.interval_ns.checked_div(common)?;
                let per = bucket.per.checked_mul(MICRO_NS.checked_div(common)?)?;
                Some(Self::Bucket {
                    interval,
                    per,
                    cost: span(interval, per, *amount)?,
                    room: span(interval, per, bucket.burst)?,
                })
            }
        }
    }
}

/// What a charge comes to by what a counter found at a moment; `None` if it cannot have found that.
pub fn outcome(debits: &[Debit], found: &[Found], now_us: u64) -> Option<ChargeOutcome> {
    if debits.len() != found.len() {
        return None;
    }
    let levels = debits
        .iter()
        .zip(found)
        .map(|(debit, found)| levels(debit, *found, now_us))
        .collect::<Option<Vec<_>>>()?;
    let passes = levels.iter().all(|(before, _)| before.wait == Wait::None);
    Some(if passes {
        ChargeOutcome::Spent(levels.into_iter().map(|(_, after)| after).collect())
    } else {
        ChargeOutcome::Refused(levels.into_iter().map(|(before, _)| before).collect())
    })
}

/// What a charge comes to that no counter needs to be asked about: more than some limit ever has.
pub fn never(debits: &[Debit]) -> Option<ChargeOutcome> {
    let level = |debit: &Debit| Level {
        left: debit.allowance.most(),
        full_after_ns: 0,
        wait: if debit.amount > debit.allowance.most() {
            Wait::Forever
        } else {
            Wait::None
        },
    };
    let outcome = ChargeOutcome::told(debits.iter().map(level).collect());
    matches!(outcome, ChargeOutcome::Refused(_)).then_some(outcome)
}

/// A limit before a spend, with the wait for it, and after it.
fn levels(debit: &Debit, found: Found, now_us: u64) -> Option<(Level, Level)> {
    match (Terms::of(debit)?, found) {
        (
            Terms::Bucket {
                interval,
                per,
                cost,
                room,
            },
            Found::Owed(owed),
        ) => {
            if owed > room || owed.part >= per {
                return None;
            }
            let ticks = |span: Span| {
                u128::from(span.us)
                    .saturating_mul(u128::from(per))
                    .saturating_add(u128::from(span.part))
            };
            let level = |owed: u128, wait| {
                let left = ticks(room).saturating_sub(owed);
                Some(Level {
                    left: u64::try_from(left.checked_div(u128::from(interval))?).ok()?,
                    full_after_ns: nanoseconds(owed, per)?,
                    wait,
                })
            };
            let (before, after) = (ticks(owed), ticks(owed).checked_add(ticks(cost))?);
            match after.checked_sub(ticks(room)) {
                None | Some(0) => Some((level(before, Wait::None)?, level(after, Wait::None)?)),
                Some(over) => {
                    let before = level(before, Wait::Ns(nanoseconds(over, per)?))?;
                    Some((before, before))
                }
            }
        }
        (Terms::Day { cost, limit }, Found::Spent { day, units }) => {
            let now_s = now_us.checked_div(SECOND_US)?;
            let today = now_s.checked_div(DAY_S)?;
            if day != today && day != today.saturating_add(1) {
                return None;
            }
            let ends_s = day.checked_add(1)?.checked_mul(DAY_S)?;
            let full_after_ns = ends_s
                .saturating_mul(SECOND_US)
                .saturating_sub(now_us)
                .saturating_mul(MICRO_NS);
            let level = |units: u64, wait| Level {
                left: limit.saturating_sub(units),
                full_after_ns,
                wait,
            };
            match units.checked_add(cost).filter(|units| *units <= limit) {
                Some(after) => Some((level(units, Wait::None), level(after, Wait::None))),
                None => {
                    let before = level(units, Wait::Ns(full_after_ns));
                    Some((before, before))
                }
            }
        }
        _ => None,
    }
}

/// The time in which so many units come back.
fn span(interval: u64, per: u64, units: u64) -> Option<Span> {
    let ticks = u128::from(interval).checked_mul(u128::from(units))?;
    let us = ticks.checked_div(u128::from(per))?;
    let part = ticks.checked_sub(us.checked_mul(u128::from(per))?)?;
    Some(Span {
        us: u64::try_from(us).ok()?,
        part: u64::try_from(part).ok()?,
    })
}

/// Whole nanoseconds of a time in parts of a microsecond, rounded up.
fn nanoseconds(ticks: u128, per: u64) -> Option<u64> {
    let ns = ticks
        .checked_mul(u128::from(MICRO_NS))?
        .div_ceil(u128::from(per.max(1)));
    u64::try_from(ns).ok()
}

/// Euclid's.
fn common_divisor(mut left: u64, mut right: u64) -> u64 {
    while let Some(rest) = left.checked_rem(right) {
        (left, right) = (right, rest);
    }
    left.max(1)
}

impl Allowance {
    /// Whether gateways share it.
    pub const fn is_global(&self) -> bool {
        !self.scope.is_local()
    }
}

#[cfg(test)]
mod tests;
