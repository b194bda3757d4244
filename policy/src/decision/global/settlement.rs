//! Settlement of reserved units of a shared limit: the change for the counter, and validation of
//! its report. Only the counter knows how much has refilled meanwhile (see `crate::limits::gcra`).

use super::{Span, Terms};
use crate::decision::LimitCharge;

/// A change of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The amount, in the counter's units.
    pub terms: Terms,
    /// `true`: unused units are refunded. `false`: additional units are charged.
    pub back: bool,
}

/// State of a limit before and after the change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CounterTransition {
    /// Debt of a bucket.
    Owes {
        /// Before.
        before: Span,
        /// Minimum debt since the reservation, in whole microseconds.
        least_us: u64,
        /// After.
        after: Span,
    },
    /// Usage of a day.
    Spent {
        /// Before, units.
        before: u64,
        /// After, units.
        after: u64,
    },
}

impl Change {
    /// The change for a charge of which `used` units were used; `None` if nothing changes, or if
    /// the reservation is impossible.
    pub fn of(reserved: &LimitCharge, used: u64) -> Option<Self> {
        let LimitCharge { allowance, amount } = reserved;
        let most = allowance.most();
        let changed = LimitCharge {
            allowance: *allowance,
            // Usage beyond the maximum empties the bucket.
            amount: amount.abs_diff(used).min(most),
        };
        (*amount <= most && changed.amount > 0).then_some(())?;
        Some(Self {
            terms: Terms::of(&changed)?,
            back: used < *amount,
        })
    }

    /// Whether a counter with this change can have made this transition.
    pub fn fits(&self, transition: &CounterTransition) -> bool {
        match (self.terms, *transition) {
            (
                Terms::Bucket {
                    per, cost, room, ..
                },
                CounterTransition::Owes {
                    before,
                    least_us,
                    after,
                },
            ) => {
                let least = Span {
                    us: least_us,
                    part: 0,
                };
                let sum = |one: Span, other: Span| {
                    let parts = one.part.saturating_add(other.part);
                    Span {
                        us: one
                            .us
                            .saturating_add(other.us)
                            .saturating_add(u64::from(parts >= per)),
                        part: if parts >= per {
                            parts.saturating_sub(per)
                        } else {
                            parts
                        },
                    }
                };
                if self.back {
                    least <= before && sum(after, cost.min(least)) == before
                } else {
                    after == sum(before, cost).min(room).max(before)
                }
            }
            (Terms::Day { cost, .. }, CounterTransition::Spent { before, after }) => {
                // There is no refund for a past day.
                after == before && self.back
                    || after
                        == if self.back {
                            before.saturating_sub(cost)
                        } else {
                            before.saturating_add(cost)
                        }
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::limits::gcra::Bucket;
    use crate::policy::{Allowance, Holder, Limit, Rate, Unit};
    use tensorgate_values::Scope;
    use tensorgate_values::time::SECOND_NS;

    fn reserved(limit: Limit, amount: u64) -> LimitCharge {
        let allowance = Allowance {
            unit: Unit::Tokens,
            limit,
            scope: Scope::Global,
            holder: Holder::Client,
        };
        LimitCharge { allowance, amount }
    }

    /// Seven per second: a unit is 142,857 microseconds and one seventh.
    fn sevenths(amount: u64) -> LimitCharge {
        let rate = Rate {
            quota: 7,
            window_s: 1,
            bucket: Bucket {
                interval_ns: SECOND_NS,
                per: 7,
                burst: 7,
            },
            scope: Scope::Global,
        };
        reserved(Limit::Window(rate), amount)
    }

    const fn span(us: u64, part: u64) -> Span {
        Span { us, part }
    }

    #[test]
    fn a_settlement_refunds_unused_or_charges_additional_units() {
        for (amount, used, expected) in [
            (50, 10, Some((40, true))),
            (50, 51, Some((1, false))),
            (50, 50, None),
            (50, u64::MAX, Some((100, false))),
            (101, 1, None),
        ] {
            let change = Change::of(&reserved(Limit::Day(100), amount), used);
            let settled = change.map(|Change { terms, back }| match terms {
                Terms::Day { cost, .. } => (cost, back),
                Terms::Bucket { .. } => (0, back),
            });
            assert_eq!(settled, expected, "{amount} {used}");
        }
    }

    #[test]
    fn impossible_transitions_of_a_counter_are_rejected() {
        let owes = |before, least_us, after| CounterTransition::Owes {
            before,
            least_us,
            after,
        };
        // Two of seven are refunded: 285,714 microseconds and two sevenths.
        let back = Change::of(&sevenths(3), 1).unwrap();
        for (transition, expected) in [
            (owes(span(428_571, 3), 428_571, span(142_857, 1)), true),
            // The fraction borrows.
            (owes(span(428_571, 0), 428_571, span(142_856, 5)), true),
            // Part of it has refilled.
            (owes(span(428_571, 3), 100_000, span(328_571, 3)), true),
            (owes(span(428_571, 3), 0, span(428_571, 3)), true),
            (owes(span(428_571, 3), 428_571, span(142_857, 0)), false),
            (owes(span(428_571, 3), 428_571, span(428_571, 3)), false),
            (owes(span(428_571, 3), 428_572, span(142_857, 1)), false),
            (owes(span(428_571, 3), 100_000, span(142_857, 1)), false),
        ] {
            assert_eq!(back.fits(&transition), expected, "{transition:?}");
        }
        let more = Change::of(&sevenths(3), 5).unwrap();
        for (transition, expected) in [
            (owes(span(0, 0), 0, span(285_714, 2)), true),
            (owes(span(428_571, 6), 0, span(714_286, 1)), true),
            (owes(span(900_000, 0), 0, span(1_000_000, 0)), true),
            (owes(span(1_200_000, 0), 0, span(1_200_000, 0)), true),
            (owes(span(0, 0), 0, span(0, 0)), false),
            (owes(span(0, 0), 0, span(285_714, 1)), false),
        ] {
            assert_eq!(more.fits(&transition), expected, "{transition:?}");
        }
        let spent = |before, after| CounterTransition::Spent { before, after };
        let day = |amount, used| Change::of(&reserved(Limit::Day(100), amount), used).unwrap();
        for (change, transition, expected) in [
            (day(50, 10), spent(80, 40), true),
            (day(50, 10), spent(30, 0), true),
            (day(50, 10), spent(30, 30), true),
            (day(50, 10), spent(80, 39), false),
            (day(50, 60), spent(80, 90), true),
            (day(50, 60), spent(80, 80), false),
            (day(50, 10), owes(span(80, 0), 80, span(40, 0)), false),
        ] {
            assert_eq!(change.fits(&transition), expected, "{transition:?}");
        }
    }
}
