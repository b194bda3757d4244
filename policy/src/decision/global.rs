//! Arithmetic of shared limits for an external counter that computes with doubles: whole
//! microseconds and fractions, each below 2^53, so that sums and comparisons are exact.
//!
//! A counter stores when a bucket is full again, or the usage of a day, and reports the state
//! before the charge. The result is computed here a second time from that report, so a counter with
//! inconsistent results is detected. For equal charges at equal microseconds the result is that of
//! [`crate::limits::gcra`] and [`crate::limits::budget`].

mod settlement;

use alloc::vec::Vec;

use tensorgate_values::time::DAY_S;

use crate::decision::{ChargeOutcome, LimitCharge};
use crate::policy::{Allowance, Limit, RemainingQuota, Wait};

pub use settlement::{Change, CounterTransition};

/// Nanoseconds per microsecond.
const MICRO_NS: u64 = 1_000;
/// Microseconds per second.
pub const SECOND_US: u64 = 1_000_000;
/// Maximum refill time of an empty bucket, in seconds: with any date of this century it stays below
/// 2^53 microseconds.
pub const MAX_FILL_S: u64 = 1_000_000_000;

/// A charge to one limit, in the counter's units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terms {
    /// A bucket that refills steadily.
    Bucket {
        /// The refill interval in microseconds …
        interval: u64,
        /// … for this many units. Fractions of a microsecond are in 1 / `per`.
        per: u64,
        /// Refill time of the amount.
        cost: Span,
        /// Refill time of an empty bucket.
        room: Span,
    },
    /// A daily limit.
    Day {
        /// Units.
        cost: u64,
        /// Units per day.
        limit: u64,
    },
}

/// A time: microseconds, and a fraction below one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Whole microseconds.
    pub us: u64,
    /// Fraction.
    pub part: u64,
}

/// State that a counter found before the charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Debt of a bucket.
    Debt(Span),
    /// Usage of a day.
    Spent {
        /// Days since the Unix epoch.
        day: u64,
        /// Units.
        units: u64,
    },
}

impl Terms {
    /// Terms of a charge; `None` if it exceeds the limit's maximum.
    pub fn of(limit_charge: &LimitCharge) -> Option<Self> {
        let LimitCharge { allowance, amount } = limit_charge;
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
                // `interval_ns` for `per` units is `interval` microseconds for `per` units, as a
                // reduced fraction.
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

/// Outcome of a charge from the counter's report; `None` if the report is impossible.
pub fn outcome(
    limit_charges: &[LimitCharge],
    found: &[Found],
    now_us: u64,
) -> Option<ChargeOutcome> {
    if limit_charges.len() != found.len() {
        return None;
    }
    let levels = limit_charges
        .iter()
        .zip(found)
        .map(|(limit_charge, found)| levels(limit_charge, *found, now_us))
        .collect::<Option<Vec<_>>>()?;
    let passes = levels.iter().all(|(before, _)| before.wait == Wait::None);
    Some(if passes {
        ChargeOutcome::Charged(levels.into_iter().map(|(_, after)| after).collect())
    } else {
        ChargeOutcome::Exceeded(levels.into_iter().map(|(before, _)| before).collect())
    })
}

/// Outcome of a charge that exceeds some limit's maximum, without asking a counter.
pub fn never(limit_charges: &[LimitCharge]) -> Option<ChargeOutcome> {
    let level = |limit_charge: &LimitCharge| RemainingQuota {
        left: limit_charge.allowance.most(),
        full_after_ns: 0,
        wait: if limit_charge.amount > limit_charge.allowance.most() {
            Wait::Forever
        } else {
            Wait::None
        },
    };
    let outcome = ChargeOutcome::from_quotas(limit_charges.iter().map(level).collect());
    matches!(outcome, ChargeOutcome::Exceeded(_)).then_some(outcome)
}

/// Quota of a limit before a charge, with the required wait, and after it.
fn levels(
    limit_charge: &LimitCharge,
    found: Found,
    now_us: u64,
) -> Option<(RemainingQuota, RemainingQuota)> {
    match (Terms::of(limit_charge)?, found) {
        (
            Terms::Bucket {
                interval,
                per,
                cost,
                room,
            },
            Found::Debt(debt),
        ) => {
            if debt > room || debt.part >= per {
                return None;
            }
            let ticks = |span: Span| {
                u128::from(span.us)
                    .saturating_mul(u128::from(per))
                    .saturating_add(u128::from(span.part))
            };
            let level = |debt: u128, wait| {
                let left = ticks(room).saturating_sub(debt);
                Some(RemainingQuota {
                    left: u64::try_from(left.checked_div(u128::from(interval))?).ok()?,
                    full_after_ns: nanoseconds(debt, per)?,
                    wait,
                })
            };
            let (before, after) = (ticks(debt), ticks(debt).checked_add(ticks(cost))?);
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
            let level = |units: u64, wait| RemainingQuota {
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

/// Refill time of so many units.
fn span(interval: u64, per: u64, units: u64) -> Option<Span> {
    let ticks = u128::from(interval).checked_mul(u128::from(units))?;
    let us = ticks.checked_div(u128::from(per))?;
    let part = ticks.checked_sub(us.checked_mul(u128::from(per))?)?;
    Some(Span {
        us: u64::try_from(us).ok()?,
        part: u64::try_from(part).ok()?,
    })
}

/// Whole nanoseconds of a time in fractions of a microsecond, rounded up.
fn nanoseconds(ticks: u128, per: u64) -> Option<u64> {
    let ns = ticks
        .checked_mul(u128::from(MICRO_NS))?
        .div_ceil(u128::from(per.max(1)));
    u64::try_from(ns).ok()
}

/// Euclid's algorithm.
fn common_divisor(mut left: u64, mut right: u64) -> u64 {
    while let Some(rest) = left.checked_rem(right) {
        (left, right) = (right, rest);
    }
    left.max(1)
}

impl Allowance {
    /// Whether the limit has global scope.
    pub const fn is_global(&self) -> bool {
        !self.scope.is_local()
    }
}

#[cfg(test)]
mod tests;
